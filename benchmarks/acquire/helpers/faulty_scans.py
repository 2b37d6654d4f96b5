"""Scans on a simulated microscope that fails on demand, and what became of them.

Every scan is the real command line in a process of its own. What it left is compared with an
undisturbed scan byte for byte; a frame that had to be taken again has other noise, and is compared
with what the simulated camera gives at that place under that LED, exposure after exposure.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.scanning.verdict import verify_pass
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.reader import PassReader
from plsctl.sim.backend import open_world

PLSCTL = (sys.executable, "-c", "from plsctl.cli.app import main; main()")
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "plsctl.acquire.scanning.pass_run",
        "plsctl.cli.app",
        "plsctl.cli.shared.roles",
        "plsctl.cli.scanning.scan",
        "plsctl.sim.backend",
        "plsctl.sim.devices.core",
    ]
)
SLIDE = "F1"
LONGEST_S = 300.0
"""A command that takes longer hangs."""

MOST_EXPOSURES = 16
"""So many exposures of one scene are compared with a frame that was taken again."""

Faults = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Microscope:
    """The simulated microscope of the matrix: a small sensor, a few positions."""

    folder: Path
    timing: str
    columns: int = 2
    rows: int = 2
    recipe: str = "le36deg-nohe"
    hardware: dict[str, Any] = field(default_factory=dict)
    """Changes to the hardware file, by section."""
    slide: dict[str, Any] = field(default_factory=dict)
    """Changes to the slide file."""
    words: tuple[str, ...] = ()
    """Options of the command."""

    def write(self, name: str, faults: Faults = ()) -> Path:
        """A hardware and a slide file for these faults; the slide file's path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        hardware = yaml.safe_load(load_hardware("simulator_realtime").file.read_text("utf-8"))
        hardware["timing"] = self.timing
        hardware["camera"]["size_px"] = [256, 192]
        hardware["options"] |= {
            "clock": "jumping",
            "prepared": str(self.folder.parent / "prepared"),
            "led_log": str(self.folder / "leds.jsonl"),
            # Focus stands still, so that images do not depend on when they were taken.
            "mount": {"drift_um_per_min": 0.0, "focus_error_um": 0.0},
            "faults": list(faults),
        }
        for section, changes in self.hardware.items():
            known = hardware.get(section)
            hardware[section] = known | changes if isinstance(known, dict) else changes
        (self.folder / f"{name}-hardware.yaml").write_text(yaml.safe_dump(hardware), "utf-8")
        pixel_um = hardware["camera"]["pixel_pitch_um"] / 20
        slide = {
            "slide": SLIDE,
            "hardware": f"{name}-hardware.yaml",
            "region": {
                "x_um": [10000, 10000 + 256 * pixel_um * self.columns - 1],
                "y_um": [5000, 5000 + 192 * pixel_um * self.rows - 1],
                "overlap": 0.0,
            },
            "recipe": self.recipe,
            "exposures": "shipped:exposures_20x.csv",
            "focus": {"mode": "fixed"},
            **self.slide,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(slide), "utf-8")
        return path

    @property
    def out(self) -> Path:
        """Where scans go."""
        return self.folder / "scans"

    @property
    def journal(self) -> Path:
        """The journal of the scan."""
        return self.out / SLIDE / "scan.jsonl"

    def led_changes(self) -> list[list[int]]:
        """What was lit after every change of the array."""
        log = self.folder / "leds.jsonl"
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        return [json.loads(line)["lit"] for line in lines]

    def change_count(self) -> int:
        """How often the array has changed its light; quick, to be asked again and again."""
        log = self.folder / "leds.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def lit(self) -> list[int]:
        """What shines now, or has been left shining."""
        return ([[], *self.led_changes()])[-1]

    def frames(self) -> Frames:
        """The frames of the finished positions."""
        return Frames(self.out / SLIDE)


@dataclass(frozen=True)
class Run:
    """One command and how it ended."""

    code: int | None
    """Exit code; negative for a signal, None where it hung."""
    answer: dict[str, Any]
    """What `--json` printed."""
    text: str
    """Standard error."""
    seconds: float

    @property
    def message(self) -> str:
        """The error's sentence with its remedy; empty without an error."""
        return str(self.answer.get("error", {}).get("message", ""))

    @property
    def is_plain(self) -> bool:
        """Whether an error, if there was one, names a remedy, and there is no trace of a bug."""
        error = self.answer.get("error", {"hint": "none needed"})
        return self.code in (0, 2, 3, 130) and bool(error["hint"]) and "Traceback" not in self.text

    @property
    def faults(self) -> int:
        """How many faults the simulator let happen."""
        return self.text.count(" fault: ")


class Command:
    """The real command line in a process of its own.

    It is forked from a process that has imported plsctl already: starting anew would take longer
    than the scan.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._answer, self._text = folder / "answer.txt", folder / "text.txt"
        self._process = FORKED.Process(
            target=_run_command, args=(list(words), str(self._answer), str(self._text))
        )
        self._process.start()

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.exitcode is not None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process.pid is not None and not self.is_over():
            os.kill(self._process.pid, number)

    def finish(self) -> tuple[int | None, str, str]:
        """Wait for its end: exit code (None where it hung), standard output and error."""
        self._process.join(LONGEST_S)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        return code, self._answer.read_text("utf-8"), self._text.read_text("utf-8")


def _run_command(words: list[str], answer: str, text: str) -> None:
    for path, descriptor in ((answer, 1), (text, 2)):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, descriptor)
    sys.argv = ["plsctl", *words]
    from plsctl.cli.app import main

    main()


def scan(
    slide: Path, out: Path, *words: str, meanwhile: Callable[[Command], None] | None = None
) -> Run:
    """Take the unstained pass; `meanwhile` gets the process, to disturb it."""
    options = ["--pass", "unstained", "--yes", "--out", str(out), "--json", "--verbose", *words]
    began = time.monotonic()
    command = Command(["scan", str(slide), *options], slide.parent)
    if meanwhile is not None:
        meanwhile(command)
    code, answer, text = command.finish()
    told = json.loads(answer) if answer.strip() else {}
    return Run(code, told, text, time.monotonic() - began)


@dataclass(frozen=True)
class Comparison:
    """Frames of a scan beside those of an undisturbed one."""

    same: int
    """Equal byte for byte."""
    again: int
    """Another exposure of the right scene under the right LED, equal byte for byte to it."""
    wrong: tuple[str, ...]
    """Anything else, as position and frame."""
    missing: int


class Frames:
    """The frames of the unstained pass of a scan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reader(self) -> PassReader | None:
        """The pass, if it was begun."""
        scan_folder = ScanFolder(self.folder)
        return (
            scan_folder.open_pass("unstained")
            if (scan_folder.pass_path("unstained") / "zarr.json").exists()
            else None
        )

    def checksums(self) -> dict[str, list[int]]:
        """Noted checksums of the finished positions."""
        reader = self.reader()
        if reader is None:
            return {}
        return {
            name: [int(frame["crc32"]) for frame in reader.position_metadata(name)["frames"]]
            for name in reader.names
        }

    def verify(self) -> list[str]:
        """What `plsctl scan --verify` finds wrong: checksums, completeness, light."""
        reader = self.reader()
        return ["nothing was taken"] if reader is None else verify_pass(reader)

    def rejected(self) -> int:
        """How many frames were taken and not accepted."""
        journal = self.folder / "scan.jsonl"
        return journal.read_text("utf-8").count('"frame_rejected"') if journal.exists() else 0

    def compare(self, undisturbed: Frames, hardware_file: Path) -> Comparison:
        """Every frame beside the same of an undisturbed scan."""
        mine, other = self.reader(), undisturbed.reader()
        if mine is None or other is None:
            return Comparison(0, 0, (), len(other.names) if other else 0)
        same = again = 0
        wrong = []
        for name in mine.names:
            for index, frame in enumerate(mine.attributes.frames):
                image = mine.raw_frame(name, index)
                if np.array_equal(image, other.raw_frame(name, index)):
                    same += 1
                elif is_exposure_of(hardware_file, mine, name, index, image):
                    again += 1
                else:
                    wrong.append(f"{name} {frame.label}")
        return Comparison(same, again, tuple(wrong), len(set(other.names) - set(mine.names)))


def is_exposure_of(
    hardware_file: Path, reader: PassReader, name: str, index: int, image: np.ndarray[Any, Any]
) -> bool:
    """Whether the camera gives just this image at this place under this frame's LEDs."""
    world = open_world(load_hardware(str(hardware_file)))
    world.settings = world.settings.model_copy(update={"faults": ()})
    place = next(p for p in reader.positions if p.name == name)
    stage = world.hardware.stage
    world.move_xy(place.x_um - stage.backlash_um, place.y_um - stage.backlash_um)
    world.move_xy(place.x_um, place.y_um)
    world.move_z(place.z_um)
    frame = reader.attributes.frames[index]
    world.lit = dict.fromkeys(frame.leds, frame.brightness)
    return any(
        np.array_equal(world.image(frame.exposure_ms, frame.gain), image)
        for _ in range(MOST_EXPOSURES)
    )
