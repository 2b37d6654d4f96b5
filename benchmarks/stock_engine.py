"""What pymmcore-plus's own `run_mda` does where plsctl stops or repairs: same devices, same faults.

`python benchmarks/stock_engine.py --out stock.md` runs each situation twice on the simulated
microscope: by `run_mda`, and as a scan of plsctl. Linux: one of them mounts a small disk.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import useq
import zarr
from faulty_scans import SLIDE, Faults, Microscope
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.experimental.unicore import GenericDevice, pymm_property
from pymmcore_plus.mda import MDAEngine

import plsctl.sim.backend
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import PlsctlError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.leds.array import LedArray, open_led_array
from plsctl.acquire.scanning.engine import Engine
from plsctl.acquire.scanning.pass_run import run_pass
from plsctl.acquire.scanning.scan import open_scan
from plsctl.acquire.store.folder import ScanFolder
from plsctl.cli.shared.roles import make_roles
from plsctl.sim.devices.camera import SimulatedCamera
from plsctl.sim.devices.stages import SimulatedTurret
from plsctl.sim.world.world import World

Event = useq.MDAEvent
Told = tuple[str, str, str]
"""The situation, what `run_mda` does, what plsctl does."""


class Bench:
    """The simulated devices in a core, with the LED array as a property, for `run_mda`."""

    def __init__(self, folder: Path, faults: Faults = (), **hardware: Any) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        slide = Microscope(folder, "software", hardware=hardware).write("stock", faults)
        described = load_hardware(str(slide.with_name("stock-hardware.yaml")))
        self.world = self._world_of(described)
        self.leds: LedArray = open_led_array(described.led_array)
        self.core.loadPyDevice("LEDs", _led_device(self.leds))
        self.core.initializeDevice("LEDs")
        self.core.setCameraDevice("Camera")
        self.core.setXYStageDevice("XY")
        self.core.setFocusDevice("Z")
        self.core.setAutoShutter(False)
        self.shots: list[tuple[list[int], tuple[float, float]]] = []
        """What was lit, and where the stage stood, when each image was taken."""

    def _world_of(self, described: Any) -> World:
        worlds: list[World] = []
        open_world = plsctl.sim.backend.open_world

        def remember(hardware: Any) -> World:
            world = open_world(hardware)
            take = world.image

            def image(exposure_ms: float, gain: float) -> Any:
                self.shots.append((sorted(world.lit), world.commanded_um))
                return take(exposure_ms, gain)

            world.image = image  # type: ignore[method-assign]
            worlds.append(world)
            return world

        plsctl.sim.backend.open_world = remember
        try:
            self.core: CMMCorePlus = plsctl.sim.backend.open_simulator(described).core
        finally:
            plsctl.sim.backend.open_world = open_world
        return worlds[0]

    def run(self, events: Any, output: Path | None = None) -> str:
        """Run events; how the run ended, in words."""
        finished: list[bool] = []
        self.core.mda.events.sequenceFinished.connect(lambda _: finished.append(True))
        error = ""
        try:
            self.core.mda.run(events, **({} if output is None else {"output": str(output)}))
        except (Exception, KeyboardInterrupt) as raised:
            error = (str(raised).splitlines() or [type(raised).__name__])[0]
        status = self.core.mda.status
        ended = status.finish_reason.value if status.finish_reason else status.phase.value
        told = f'"{ended}"' if finished else f'"{status.phase.value}" for ever'
        return f"{told}{f', {error}' if error else ''}"

    @property
    def lit(self) -> str:
        """What shines now."""
        return f"LED {', '.join(map(str, self.world.lit))} left lit" if self.world.lit else "dark"

    def led_events(self, values: Sequence[str]) -> list[Event]:
        """One event for each setting of the array."""
        return [
            Event(index={"c": k}, exposure=2, properties=[("LEDs", "Lit", value)])
            for k, value in enumerate(values)
        ]


def _led_device(leds: LedArray) -> GenericDevice:
    class Leds(GenericDevice):
        """The array as a device of the core: a property that lists LEDs."""

        _lit = ""

        @pymm_property(property_type=str, name="Lit")
        def lit(self) -> str:
            return self._lit

        @lit.setter
        def _set_lit(self, value: str) -> None:
            if value == "refused":
                raise RuntimeError("the LED array does not answer")
            self._lit = value
            leds.light([int(led) for led in value.split(",")] if value else [])

    return Leds()


def frames_of(path: Path) -> np.ndarray[Any, Any]:
    """The frames that `run_mda` has written, missing ones black."""
    return np.asarray(zarr.open_array(str(path / "0"), mode="r")[:])


def levels(path: Path) -> str:
    """Mean of every frame in an array written by `run_mda`."""
    return ", ".join(f"{frame.mean():.0f}" for frame in frames_of(path))


def ours(
    folder: Path,
    faults: Faults = (),
    timing: str = "software",
    watch: Callable[[Engine], None] | None = None,
    **hardware: Any,
) -> str:
    """The same by plsctl: what became of it."""
    folder = folder.with_name(f"{folder.name}-plsctl")
    shutil.rmtree(folder, ignore_errors=True)
    microscope = Microscope(folder, timing, recipe="le18deg", hardware=hardware)
    slide = microscope.write("slide", faults)
    try:
        scan = open_scan(slide, microscope.out)
        result = run_pass(
            scan, "unstained", lambda who: make_roles(who, True), StopRequest(), watch=watch
        )
        kept = f"all {result.totals.positions} positions, {result.totals.retaken} frames retaken"
    except PlsctlError as error:
        names = microscope.frames().checksums()
        kept = f"exit {error.exit_code}, {len(names)} positions kept: {error}"
    return f"{kept}; LEDs {'lit' if microscope.lit() else 'dark'}".replace(f"{folder}/", "")


def only_metadata(folder: Path) -> Told:
    """Events that differ in their metadata alone."""
    bench = Bench(folder)
    bench.leds.light([7])

    def light(event: Event) -> None:
        if "led" in event.metadata:
            bench.leds.light([event.metadata["led"]])

    bench.core.mda.events.eventStarted.connect(light)
    ended = bench.run([Event(index={"c": k}, exposure=2, metadata={"led": k}) for k in range(4)])
    lit = "; ".join(str(leds[0]) for leds, _ in bench.shots)
    return (
        "the LED stands in `metadata` only, LEDs 0, 1, 2, 3",
        f"merged into one series, taken under LED {lit}; {ended}",
        ours(folder, timing="hardware"),
    )


def led_refuses(folder: Path) -> Told:
    """A property that cannot be set."""
    bench = Bench(folder)
    ended = bench.run(bench.led_events(["0", "refused", "2"]))
    lit = "; ".join(str(leds[0]) for leds, _ in bench.shots)
    silent = [{"kind": "serial_silent", "at": 60, "seconds": 1e6}]
    return (
        "the array does not take the second of LEDs 0, 1, 2",
        f"three images under LED {lit}; {ended}",
        ours(folder, silent),
    )


def move_fails(folder: Path) -> Told:
    """A stage that does not go where it is sent."""
    texts = []
    for kind in ("stage_error", "stage_stalls"):
        bench = Bench(folder, [{"kind": kind, "at": 1}])
        bench.leds.light([0])
        ended = bench.run(
            [Event(index={"p": k}, x_pos=1000.0 * k, y_pos=0, exposure=2) for k in (1, 2, 3)]
        )
        places = "; ".join(f"{place[0]:g}" for _, place in bench.shots)
        texts.append(f"{kind.removeprefix('stage_')}: images at x = {places} um; {ended}")
    faults = [{"kind": "stage_error", "at": 4}]
    return "a move to x = 2000 um fails, or stops halfway", ". ".join(texts), ours(folder, faults)


def snap_fails(folder: Path) -> Told:
    """An image that cannot be taken."""
    bench = Bench(folder, [{"kind": "camera_error", "at": 2}])
    bench.core.mda.engine.use_hardware_sequencing = False  # type: ignore[union-attr]
    bench.core.mda.events.eventStarted.connect(lambda event: bench.leds.light([event.index["t"]]))
    out = folder / "d.ome.zarr"
    plan = useq.MDASequence(time_plan={"interval": 0, "loops": 5})
    ended = bench.run(plan, out)
    order = "; ".join(str(leds[0]) for leds, _ in bench.shots)
    faults = [{"kind": "camera_error", "at": 30}]
    return (
        "the third of five images fails",
        f"frames of LED {order} fill slots 0 to 3 of the array, slot 4 is empty; {ended}",
        ours(folder, faults),
    )


def device_does_not_start(folder: Path) -> Told:
    """A device that fails to initialise."""

    def fails(self: object) -> None:
        raise RuntimeError("no answer")

    class Silent(GenericDevice):
        """A device that does not start."""

        initialize = fails

    bench = Bench(folder)
    bench.core.loadPyDevice("Silent", Silent())
    bench.core.initializeDevice("Silent")
    state = bench.core.getDeviceInitializationState("Silent")
    initialize = SimulatedTurret.initialize
    SimulatedTurret.initialize = fails  # type: ignore[method-assign]
    try:
        mine = ours(folder)
    finally:
        SimulatedTurret.initialize = initialize  # type: ignore[method-assign]
    return "a device's `initialize` raises", f"no error; its state is {state}", mine


def colour_camera(folder: Path) -> Told:
    """Colour images to be written."""
    colour = {"camera": {"bayer": None}}
    bench = Bench(folder, **colour)
    plan = useq.MDASequence(time_plan={"interval": 0, "loops": 2})
    ended = bench.run(plan, folder / "f.ome.zarr")
    return "a colour camera, `output=` given", ended, ours(folder, **colour)


def stopped_between_events(folder: Path) -> Told:
    """An exception between events."""
    texts = []
    for what in (RuntimeError("x"), KeyboardInterrupt()):

        class Interrupted(MDAEngine):
            """Fails at the second event."""

            raised: BaseException = what

            def setup_event(self, event: Event) -> Any:
                if event.index.get("c") == 1:
                    raise self.raised
                return super().setup_event(event)

        bench = Bench(folder)
        bench.core.mda.set_engine(Interrupted(bench.core))
        ended = bench.run(bench.led_events(["0", "1", "2"]))
        texts.append(f"{type(what).__name__}: {ended}, {bench.lit}")

    stop = [{"kind": "setting_fails", "at": 40, "times": 1000}]
    return "an exception, or Ctrl-C, between two events", ". ".join(texts), ours(folder, stop)


def viewer_fails(folder: Path) -> Told:
    """A failing listener."""

    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    bench = Bench(folder)
    bench.leds.light([0])
    bench.core.mda.events.frameReady.connect(fails)
    ended = bench.run([Event(index={"t": k}, exposure=2) for k in range(3)])
    mine = ours(folder, watch=lambda engine: engine.frame_ready.connect(fails))
    journal = folder.with_name(f"{folder.name}-plsctl") / "scans" / SLIDE / "scan.jsonl"
    noted = journal.read_text("utf-8").count('"viewer_failed"')
    return (
        "what listens to `frameReady` raises",
        f"nothing is said; {ended}. A writer there loses all",
        f"{mine}; {noted} failures of the viewer in the journal, writing does not depend on it",
    )


def camera_dies_in_series(folder: Path) -> Told:
    """A camera that dies within a series."""
    bench = Bench(folder, [{"kind": "camera_error", "at": 2}])
    bench.leds.light([0])
    out = folder / "i.ome.zarr"
    plan = useq.MDASequence(time_plan={"interval": 0, "loops": 5})
    ended = bench.run(plan, out)
    faults = [{"kind": "dropped_frame", "at": 30, "times": 10_000}]
    return (
        "the camera dies within a series",
        f"means of the five frames written: {levels(out)}; {ended}",
        ours(folder, faults, "hardware"),
    )


def no_shutter(folder: Path) -> Told:
    """Auto-shutter without a shutter."""
    bench = Bench(folder)
    bench.core.setAutoShutter(True)
    bench.core.mda.engine.use_hardware_sequencing = False  # type: ignore[union-attr]
    ended = bench.run([Event(index={"t": k}, exposure=2) for k in range(2)])
    return "no shutter device, auto-shutter on (the default)", ended, ours(folder)


def state_restored(folder: Path) -> Told:
    """What was set before is set again afterwards."""
    bench = Bench(folder)
    bench.core.defineConfig("Light", "On", "LEDs", "Lit", "5")
    bench.core.setConfig("Light", "On")
    bench.core.mda.engine.restore_initial_state = True  # type: ignore[union-attr]
    ended = bench.run(bench.led_events(["1", ""]))
    texts = [f"the light was on before and is again: {bench.lit}; {ended}"]

    def fails(self: object, *roi: object) -> None:
        raise NotImplementedError("no region of interest")

    set_roi = SimulatedCamera.set_roi
    SimulatedCamera.set_roi = fails  # type: ignore[method-assign, assignment]
    try:
        bench = Bench(folder)
        bench.core.mda.engine.restore_initial_state = True  # type: ignore[union-attr]
        texts.append(f"camera without `set_roi`: {bench.run(bench.led_events(['1', '2']))}")
        mine = ours(folder)
    finally:
        SimulatedCamera.set_roi = set_roi  # type: ignore[method-assign]
    return "`restore_initial_state`", ". ".join(texts), mine


def disk_full(folder: Path) -> Told:
    """No room for the images."""
    with small_disk(folder.with_name("small-disk")) as disk:
        bench = Bench(folder)
        bench.leds.light([0])
        plan = useq.MDASequence(time_plan={"interval": 0, "loops": 200})
        ended = bench.run(plan, disk / "l.ome.zarr")
        stack = frames_of(disk / "l.ome.zarr")
        there = sum(int(frame.max()) > 0 for frame in stack)
    text = f"{there} of {len(stack)} frames are on the disk; {ended}"
    return "the disk is full", text, 'exit 2, "the disk is full": the row *disk full* above'


def grids(folder: Path) -> Told:
    """Where a grid goes, and in which order."""
    grid = {"rows": 1, "columns": 3}
    steps = [event.x_pos for event in useq.MDASequence(grid_plan=grid)]
    position = useq.Position(
        x=0,
        y=0,
        sequence=useq.MDASequence(
            grid_plan={"rows": 1, "columns": 2, "fov_width": 100, "fov_height": 100}
        ),
    )
    inner = useq.MDASequence(channels=["a", "b"], stage_positions=[position])
    order = [f"{e.channel.config} at {e.x_pos:g}" for e in inner if e.channel]
    mine = ours(folder)
    places = ScanFolder(folder.with_name(f"{folder.name}-plsctl") / "scans" / SLIDE)
    found = sorted({p.x_um for p in places.open_pass("unstained").positions})
    return (
        "a grid without a known pixel size; a grid at a position, with channels",
        f"x = {', '.join(f'{x:g}' for x in steps)} um; {', '.join(order)}",
        f"{mine}; x = {', '.join(f'{x:g}' for x in found)} um from sensor, magnification and "
        "overlap, all LEDs at a place before the next",
    )


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


SITUATIONS: tuple[Callable[[Path], Told], ...] = (
    only_metadata,
    led_refuses,
    move_fails,
    snap_fails,
    device_does_not_start,
    colour_camera,
    stopped_between_events,
    viewer_fails,
    camera_dies_in_series,
    no_shutter,
    state_restored,
    disk_full,
    grids,
)


def main() -> None:
    """Run all situations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "plsctl-stock")
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--only", default="ABCDEFGHIJKLM")
    options = parser.parse_args()
    logging.getLogger("pymmcore-plus").setLevel(logging.CRITICAL + 1)
    # The core's thread of a series dies with a trace of its own.
    threading.excepthook = lambda _: None
    options.work.mkdir(parents=True, exist_ok=True)
    lines = [
        f"| | situation | `run_mda` of pymmcore-plus {version('pymmcore-plus')} | plsctl |",
        "| --- | --- | --- | --- |",
    ]
    for letter, situation in zip("ABCDEFGHIJKLM", SITUATIONS, strict=True):
        if letter in options.only:
            what, stock, mine = (t.replace("|", "/") for t in situation(options.work / letter))
            lines.append(f"| {letter} | {what} | {stock} | {mine} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
