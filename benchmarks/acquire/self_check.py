"""A scan that checks itself: `python benchmarks/acquire/self_check.py`.

Simulated scans of ten positions (640 x 480 pixels, `le36deg-nohe`), each of another slide,
after `plsctl calibrate exposures`. Clean ones, in which nothing may be said to have drifted. Then
the instrument changes after its calibration: two dark-field LEDs are swapped and the camera is
turned by 0.2 deg; or the array is moved by 1 mm and an LED dimmed by 20 %. Each must be said by the
tenth position, and nothing else. Swapped bright-field LEDs may stop the scan at its first position.
Last, changes in the middle of a pass: a dimmed LED, a turned camera, a slide that jumps.
The exit code is 1 where any of it fails. `--quick` takes one of each, with fewer positions.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.roles import DriftReport
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import open_scan
from plsctl.cli.scanning.calibration_steps import exposures_step
from plsctl.cli.shared.roles import make_roles

RECIPE = "le36deg-nohe"
PIXEL_UM = 0.293
SIZE_PX = (640, 480)
CLEAN, SEEDS = 20, 10
LEDS = [0, 1, 2, *(first + step for first in (3, 11, 19, 27, 35) for step in range(5))]
"""Of the recipe: three of the plate, five of each arm."""
BRIGHT = [0, 1, 2, *(first + step for first in (3, 11, 19, 27, 35) for step in range(2))]
DARK = sorted(set(LEDS) - set(BRIGHT))
OFF_RIM = [led for led in LEDS if led not in (5, 13, 21, 29, 37)]
LASTING = 100_000

Options = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """A simulated microscope, and how many positions a scan has."""

    folder: Path
    columns: int = 5
    rows: int = 2

    def scan(
        self, seed: int, changed: Options, calibrated: bool = True, focus: Options | None = None
    ) -> PassResult | HardwareError:
        """Calibrate, change the instrument, and take a pass."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        rng = np.random.default_rng(seed)
        hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text("utf-8"))
        hardware["camera"]["size_px"] = list(SIZE_PX)
        options = hardware["options"]
        options["seed"] = seed
        options["smear"] = {"seed": seed, "white_cells_per_mm2": float(rng.uniform(9, 400))}
        options["mount"] = {"tilt_azimuth_deg": float(rng.uniform(0, 360))}
        low = rng.uniform((9000, 4000), (13000, 6500))
        place = tuple(float(value) for value in rng.uniform((9000, 4000), (13000, 6500)))
        file, table = self.folder / "microscope.yaml", self.folder / "exposures.csv"
        self._write(file, hardware)
        with contextlib.redirect_stderr(io.StringIO()):
            exposures_step(str(file), None, (place[0], place[1]), True, table, RECIPE, 500.0)
        if not calibrated:
            shutil.rmtree(self.folder / "microscope.calibration")
        hardware["options"] = options | changed
        self._write(file, hardware)
        # A little less than all columns and rows, so that the last ones are needed whole.
        sides = np.multiply(SIZE_PX, PIXEL_UM) * (self.columns - 0.3, self.rows - 0.3) * 0.95
        region = {
            axis: [float(value), float(value + side)]
            for axis, value, side in zip(("x_um", "y_um"), low, sides, strict=True)
        }
        slide = {
            "slide": "checked",
            "hardware": "microscope.yaml",
            "region": region | {"overlap": 0.05},
            "recipe": RECIPE,
            "exposures": "exposures.csv",
            "passes": {"unstained": {"objective": "20x"}},
            "focus": {"mode": "surface", "points": 3, "range_um": 30} | (focus or {}),
        }
        self._write(self.folder / "slide.yaml", slide)
        scan = open_scan(self.folder / "slide.yaml", self.folder / "scans")
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                return run_pass(scan, "unstained", lambda who: make_roles(who, True), StopRequest())
            except HardwareError as error:
                return error

    @staticmethod
    def _write(file: Path, content: Options) -> None:
        file.write_text(yaml.safe_dump(content), "utf-8")


def found(report: DriftReport) -> dict[str, str]:
    """What a scan said has drifted, with the position."""
    return {f"{drift.kind} {drift.led}".strip(): drift.position for drift in report.drifts}


def name_of(led: int) -> str:
    """The name of an LED of the recipe by its number."""
    geometry = load_hardware("simulator_small").geometry()
    return geometry.numbered(led).name


def tell(what: str, result: PassResult | HardwareError, wanted: set[str]) -> bool:
    """Print what a scan said; whether it said what it should, and nothing else."""
    if isinstance(result, HardwareError):
        print(f"{what}: STOPPED, {result.message}", flush=True)
        return False
    said = found(result.drift)
    values = result.drift.values
    array = math.hypot(values.get("array_x_mm", 9), values.get("array_y_mm", 9))
    is_right = set(said) == wanted and values.get("array_x_mm") is not None
    print(
        f"{what}: {'right' if is_right else 'WRONG'}; said {said or 'nothing'}; array "
        f"{array:.2f} mm, camera {values.get('camera_turn_deg', math.nan):+.3f} deg, least light "
        f"{values.get('least_light', math.nan):.3f}, overlaps "
        f"{values.get('overlap_um', math.nan):.2f} um"
        + ("" if is_right else f"; not compared: {result.drift.unchecked}"),
        flush=True,
    )
    return is_right


def clean(bench: Bench, seed: int) -> bool:
    """A scan in which nothing has changed."""
    return tell(f"clean, slide {seed}", bench.scan(seed, {}), set())


def swapped_and_turned(bench: Bench, seed: int) -> bool:
    """Two dark-field LEDs are swapped, and the camera is turned."""
    rng = np.random.default_rng((seed, 1))
    one, other = sorted(int(led) for led in rng.choice(DARK, 2, replace=False))
    turn_deg = 0.2 * float(rng.choice([-1, 1]))
    changed = {
        "led_array": {"swapped": [[one, other]]},
        "camera": {"rotation_deg": 0.7 + turn_deg},
    }
    wanted = {f"swapped {name_of(one)}, {name_of(other)}", "camera rotation"}
    what = f"{name_of(one)} and {name_of(other)} swapped, camera {turn_deg:+.1f} deg, slide {seed}"
    return tell(what, bench.scan(seed, changed), wanted)


def moved_and_dimmed(bench: Bench, seed: int) -> bool:
    """The array is moved by 1 mm, and an LED dimmed by 20 %."""
    rng = np.random.default_rng((seed, 2))
    # At the rim of the aperture, at 24 deg, nothing can be said of the light of a moved array.
    led, angle = int(rng.choice(OFF_RIM)), float(rng.uniform(0, 2 * math.pi))
    moved = [math.cos(angle), math.sin(angle)]
    changed = {"led_array": {"moved_mm": moved, "light": [[led, 0.8]]}}
    what = (
        f"array moved by ({moved[0]:+.2f}, {moved[1]:+.2f}) mm, {name_of(led)} dimmed, slide {seed}"
    )
    return tell(what, bench.scan(seed, changed), {"array", f"dim {name_of(led)}"})


def bright_swapped(bench: Bench, seed: int) -> bool:
    """Two LEDs, one of them in bright field, are swapped: the scan stops at its first position."""
    rng = np.random.default_rng((seed, 3))
    one = int(rng.choice(BRIGHT))
    other = int(rng.choice([led for led in LEDS if led != one]))
    result = bench.scan(seed, {"led_array": {"swapped": [[one, other]]}})
    what = f"{name_of(one)} and {name_of(other)} swapped, slide {seed}"
    if isinstance(result, HardwareError):
        print(f"{what}: right; stopped, {result.message}", flush=True)
        return True
    pair = ", ".join(name_of(led) for led in sorted((one, other)))
    return tell(what, result, {f"swapped {pair}"})


def meanwhile(bench: Bench, seed: int, kind: str, fault: Options, wanted: str) -> bool:
    """Something changes in the middle of a pass."""
    # Some 60 images are taken before the first position.
    at = 60 + 29 * bench.columns * bench.rows // 2
    changed = {"faults": [{"kind": kind, "at": at, "times": LASTING} | fault]}
    focus = {"mode": "every", "every": 2} if kind == "focus_jumps" else None
    result = bench.scan(seed, changed, calibrated=kind != "led_dims", focus=focus)
    return tell(f"{kind} during the pass, slide {seed}", result, {wanted})


def run(folder: Path, quick: bool) -> bool:
    """All scans; whether each said what it should."""
    bench = Bench(folder / "scan", *((3, 2) if quick else (5, 2)))
    sound = True
    seeds = range(1, 2) if quick else range(1, SEEDS + 1)
    for seed in range(1, 2) if quick else range(1, CLEAN + 1):
        sound &= clean(bench, seed)
        if seed in seeds:
            sound &= swapped_and_turned(bench, 100 + seed)
            sound &= moved_and_dimmed(bench, 200 + seed)
    if quick:
        return sound
    for seed in range(301, 306):
        sound &= bright_swapped(bench, seed)
    dims = {"led": 13, "factor": 0.8}
    sound &= meanwhile(bench, 401, "led_dims", dims, f"dim {name_of(13)}")
    sound &= meanwhile(bench, 402, "camera_turns", {"amount": 0.3}, "camera rotation")
    sound &= meanwhile(bench, 403, "focus_jumps", {"amount": 6.0}, "focus")
    return sound


def main() -> None:
    """Run it, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one of each, fewer positions")
    parser.add_argument("--only", help="one of the functions, such as clean")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only:
            bench = Bench(Path(folder) / "scan")
            sound = bool(globals()[arguments.only](bench, arguments.seed))
        else:
            sound = run(Path(folder), arguments.quick)
    used = sum(
        resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{time.monotonic() - began:.0f} s, {used:.0f} s of one core")
    print("All said as it should be." if sound else "NOT all said as it should be.")
    sys.exit(not sound)


if __name__ == "__main__":
    main()
