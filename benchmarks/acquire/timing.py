"""How near scans come to what exposure, readout and travel take.

    python benchmarks/acquire/timing.py [--quick]

The simulated microscope runs in real time, its images prepared ahead in `--work`. For each kind of
timing the time between the first and the last frame of a stack, and of a whole scan, is put beside
the sum that the devices need; pymmcore-plus's own `run_mda`, with the LED set as a property of
every event, takes the same stack on the same devices.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from plsctl.acquire.capture.series import group_frames
from plsctl.acquire.devices.backend import open_backend
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.leds.array import open_led_array
from plsctl.acquire.scanning.engine import Engine
from plsctl.acquire.scanning.pass_run import run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.cli.shared.roles import make_roles

SHIPPED = "simulator_realtime"
SERIAL_S = 0.0015
SEQUENCE_UPDATE_S = 0.0054
PITCH_UM = 600.0


def write_files(
    folder: Path,
    timing: str,
    size_px: tuple[int, int],
    positions: int,
    exposure_sequence: int,
    recipe: str,
) -> Path:
    """A hardware and a slide file for one kind of timing; the slide file's path."""
    hardware = yaml.safe_load(load_hardware(SHIPPED).file.read_text())
    hardware["timing"] = timing
    hardware["camera"]["size_px"] = list(size_px)
    hardware["options"]["prepared"] = str(folder / "prepared")
    hardware["options"]["camera"] = {"exposure_sequence": exposure_sequence}
    # Focus stands still: what is measured is the stack and the way to it.
    hardware["options"]["mount"] = {"drift_um_per_min": 0.0, "focus_error_um": 0.0}
    name = f"{timing}-{exposure_sequence}-{size_px[0]}-{positions}-{recipe}"
    (folder / f"{name}-hardware.yaml").write_text(yaml.safe_dump(hardware))
    field_um = [pixels * 0.293 for pixels in size_px]
    slide = {
        "slide": name,
        "hardware": f"{name}-hardware.yaml",
        "region": {
            "x_um": [10000, 10000 + field_um[0] * positions],
            "y_um": [5000, 5000 + field_um[1] - 1],
            "overlap": 0.0,
        },
        "recipe": recipe,
        "exposures": "shipped:exposures_20x.csv",
        "focus": {"mode": "fixed"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(slide))
    return path


def needed_s(scan: Scan, update_s: float) -> float:
    """What one stack needs: for every frame the longer of exposure with LED update, and readout."""
    readout_s = scan.hardware.camera.readout_ms / 1000
    frames = scan.planner.plan("unstained").frames
    return sum(max(f.exposure_ms / 1000 + update_s, readout_s) for f in frames)


def travel_s(scan: Scan) -> float:
    """Travel and settling on the way from the first position to the last, each way in one move.

    The stage stands in the region, at its height, when the sequence begins: the camera's
    orientation has been checked there.
    """
    stage, places = scan.hardware.stage, scan.planner.plan("unstained").positions
    ways = [math.dist((a.x_um, a.y_um), (b.x_um, b.y_um)) for a, b in itertools.pairwise(places)]
    return sum(way / stage.speed_um_per_s + stage.settle_ms / 1000 for way in ways)


def run_scan(slide: Path, out: Path) -> dict[str, Any]:
    """Take the unstained pass; wall time of every stack and of all from first to last frame."""
    scan = open_scan(slide, out)
    seen: dict[str, Any] = {}
    stacks: list[float] = []

    def watch(engine: Engine) -> None:
        seen["engine"] = engine
        engine.sequence_started.connect(lambda plan: seen.update(began=time.perf_counter()))
        engine.sequence_finished.connect(lambda totals: seen.update(ended=time.perf_counter()))

    result = run_pass(
        scan,
        "unstained",
        lambda operator: make_roles(operator, True),
        StopRequest(),
        force=True,
        fresh=scan.is_begun("unstained"),
        watch=watch,
    )
    clock = seen["engine"]._microscope.clock
    for line in (out / scan.slide.slide / "scan.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "pass_started":
            stacks.clear()
        if event["event"] == "stack_taken":
            stacks.append(event["seconds"])
    return {
        "scan": scan,
        "stacks_s": stacks,
        "scan_s": seen["ended"] - seen["began"],
        "stood_still_s": clock.lost_s,
        "how": result.totals.timing,
        "retaken": result.totals.retaken,
        "travel_s": result.totals.travel_seconds,
    }


def run_mda(slide: Path) -> float:
    """The stack by `run_mda`, LED and gain as properties of each event; seconds."""
    import useq
    from pymmcore_plus.experimental.unicore import GenericDevice, pymm_property

    scan = open_scan(slide, slide.parent / "mda")
    frames = scan.planner.plan("unstained").frames
    backend = open_backend(scan.hardware)
    core = backend.core
    leds = open_led_array(scan.hardware.led_array)

    class Leds(GenericDevice):
        """The array as a device of the core: a property that lists LEDs."""

        _lit = ""

        @pymm_property(property_type=str, name="Lit")
        def lit(self) -> str:
            return self._lit

        @lit.setter
        def _set_lit(self, value: str) -> None:
            self._lit = value
            leds.light([int(led) for led in value.split(",")])

    core.loadPyDevice("LEDs", Leds())
    core.initializeDevice("LEDs")
    core.setCameraDevice(scan.hardware.camera.device)
    core.setAutoShutter(False)
    microscope = Microscope(scan.hardware, backend, leds)
    place = scan.planner.plan("unstained").positions[0]
    microscope.move_xy(place.x_um, place.y_um)
    microscope.move_z(scan.hardware.focus_z_um)
    camera = scan.hardware.camera.device
    events = [
        useq.MDAEvent(
            index={"c": index},
            exposure=frame.exposure_ms,
            properties=[
                ("LEDs", "Lit", ",".join(str(led) for led in frame.leds)),
                (camera, "Gain", str(frame.gain)),
            ],
        )
        for index, frame in enumerate(frames)
    ]
    times: list[float] = []
    done = threading.Event()
    core.mda.events.eventStarted.connect(lambda event: times.append(time.perf_counter()))
    core.mda.events.frameReady.connect(lambda *frame: times.append(time.perf_counter()))
    core.mda.events.sequenceFinished.connect(lambda sequence: done.set())
    core.mda.run(events)
    done.wait(60)
    microscope.close()
    return times[-1] - times[0]


def report(what: str, seconds: float, needed: float, limit: str) -> None:
    """One line of the table."""
    print(
        f"{what:62} {seconds:8.3f} s  needed {needed:8.3f} s  ratio {seconds / needed:.3f}  {limit}"
    )


def main() -> None:
    """Prepare the images, take stacks and scans, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "plsctl-timing")
    parser.add_argument("--size", type=int, nargs=2, default=(1920, 1200))
    parser.add_argument("--scan-size", type=int, nargs=2, default=(800, 600))
    parser.add_argument("--positions", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scan-only", action="store_true", help="leave the single stack out")
    parser.add_argument("--recipe", default="full")
    parser.add_argument("--quick", action="store_true", help="14 images of 320 x 240, 2 positions")
    options = parser.parse_args()
    if options.quick:
        options.size = options.scan_size = (320, 240)
        options.positions, options.repeats, options.recipe = 2, 1, "le18deg"
    options.work.mkdir(parents=True, exist_ok=True)
    kinds = [(1, options.size), (options.positions, options.scan_size)]
    for positions, size in kinds[options.scan_only :]:
        for timing, sequence, update_s in (
            ("hardware", 1024, SEQUENCE_UPDATE_S),
            ("software", 1024, SERIAL_S),
        ):
            size_px = (size[0], size[1])
            slide = write_files(options.work, timing, size_px, positions, sequence, options.recipe)
            for _ in range(3):
                found = run_scan(slide, options.work / "scans")
                if found["stood_still_s"] == 0:
                    break
                print(f"prepared images: {found['stood_still_s']:.0f} s", file=sys.stderr)
            runs = (
                [found]
                if positions > 1
                else [found]
                + [run_scan(slide, options.work / "scans") for _ in range(options.repeats - 1)]
            )
            scan = found["scan"]
            needed = needed_s(scan, update_s)
            if any(run["stood_still_s"] for run in runs):
                print("images were missing: these times are not real", file=sys.stderr)
            stack_s = statistics.median(s for run in runs for s in run["stacks_s"])
            series = group_frames(
                list(enumerate(scan.planner.plan("unstained").frames)),
                sequence,
                scan.planner.plan("unstained").frames[0],
                scan.hardware.camera.readout_ms,
            )
            limit = (
                f"(limit 1.05, and arming of {sum(len(g.indices) > 3 for g in series)} series)"
                if timing == "hardware"
                else f"(limit 1.3, and {len(scan.planner.plan('unstained').frames)} LED commands)"
            )
            name = f"{size[0]} x {size[1]}, {timing} timing"
            print(f"# {found['how']}, retaken {sum(run['retaken'] for run in runs)}")
            count = len(scan.planner.plan("unstained").frames)
            report(f"{name}: one stack of {count} frames", stack_s, needed, limit)
            if positions > 1:
                whole = positions * needed + travel_s(scan)
                report(
                    f"{name}: scan of {positions} positions",
                    found["scan_s"],
                    whole,
                    "(limit 1.05)" if timing == "hardware" else "(limit 1.10)",
                )
                print(f"  travel {found['travel_s']:.2f} s of {travel_s(scan):.2f} s needed")
            elif timing == "software":
                peer = statistics.median(run_mda(slide) for _ in range(options.repeats))
                report(f"{name}: run_mda, per-frame software steps", peer, needed, "")


if __name__ == "__main__":
    main()
