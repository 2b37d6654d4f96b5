"""The LED array's pose, directions and faulty LEDs from simulated images, against the truth.

    python benchmarks/process/led_pose.py [--quick] [--seeds N]

Small sensor, all imperfections of the simulated microscope; the array is moved by 2 mm, raised by
3 mm and turned by 3 degrees. Cosines are root mean squares of one direction cosine, inside the
aperture and outside; seconds are of the processor, for the estimate alone. At the end the worst of
each case; the exit code is 1 where a target is missed (`--quick`, which looks at one small part of
the field, has none).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.calibration_kinds import DIMMED
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.leds.pose import table_places
from plsctl.process.calibration.brightness import light_left
from plsctl.process.calibration.led_array import ArrayEstimate, EstimateSettings, estimate_array
from plsctl.process.calibration.pose_fit import fit_pose
from plsctl.process.calibration.views import ArrayOptics, LedViews
from plsctl.sim.backend import open_world

TRUTH = {"moved_mm": [1.6, -1.2], "raised_mm": 3.0, "rotation_deg": 3.0}
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "unstained": ({}, False),
    "stained": ({}, True),
    "LEDs scattered by 0.3 mm, tilted": ({"scatter_mm": 0.3, "tilt_deg": [0.5, -0.3]}, False),
    "two pairs swapped, one dead, one dimmed": (
        {"swapped": [[4, 9], [14, 23]], "light": [[30, 0.0], [20, 0.8]]},
        False,
    ),
}
SHIFT_MM, HEIGHT_MM, TURN_DEG = 0.1, 0.3, 0.1
INSIDE, OUTSIDE = 0.003, 0.005
"""Targets: pose, and root mean square of a direction cosine inside the aperture and outside."""


@dataclass(frozen=True)
class Row:
    """How far one estimate is from the truth, and whether all faults and nothing else is named."""

    shift_mm: float
    height_mm: float
    turn_deg: float
    inside: float
    outside: float
    named: bool

    @property
    def is_good(self) -> bool:
        """Whether all targets are met."""
        return self.named and all(
            value <= most
            for value, most in (
                (self.shift_mm, SHIFT_MM),
                (self.height_mm, HEIGHT_MM),
                (self.turn_deg, TURN_DEG),
                (self.inside, INSIDE),
                (self.outside, OUTSIDE),
            )
        )

    def __str__(self) -> str:
        return (
            f"shift off by {self.shift_mm:.3f} mm, height {self.height_mm:.3f} mm, turn "
            f"{self.turn_deg:.3f} deg, cosines {self.inside:.4f} / {self.outside:.4f}, faults "
            f"{'named' if self.named else 'NOT ALL, OR OTHERS NAMED'}"
        )


def take(
    wrong: dict[str, Any], stained: bool, seed: int, slide: int
) -> tuple[LedViews, ArrayOptics, NDArray[np.float64]]:
    """Images of a field under every LED, what is known, and the true directions."""
    hardware = load_hardware("simulator_small")
    options = hardware.options | {"led_array": TRUTH | wrong, "seed": seed}
    options["smear"] = dict(options.get("smear", {})) | {"seed": slide}
    world = open_world(hardware.model_copy(update={"options": options}))
    if stained:
        world.stain()
    world.move_z(hardware.focus_z_um)
    world.look_at(11_000, 5_600)
    images, light = [], []
    for led in world.geometry.leds:
        world.lit = {led.led: 1.0}
        exposure_ms = 3.0
        for _ in range(5):
            level = float(np.percentile(world.image(exposure_ms, 1.0), 99.5)) - 4
            factor = 0.25 if level > 245 else 226 / max(level, 7)
            exposure_ms = min(exposure_ms * factor, 2000.0)
        images.append(world.image(exposure_ms, 1.0))
        light.append(exposure_ms)
    table, camera = hardware.geometry(), hardware.camera
    optics = ArrayOptics(
        table_places(table),
        hardware.pixel_um(hardware.low_power),
        hardware.objective(hardware.low_power).na,
        orientation=camera.orientation,
        names=table.names,
    )
    views = LedViews(np.stack(images), np.array(light), camera.black_level, 255.0)
    return views, optics, world.geometry.directions


def dimmed(
    views: LedViews, optics: ArrayOptics, found: ArrayEstimate, wrong: dict[str, Any], seed: int
) -> set[tuple[int, str]]:
    """The LEDs that give less than in an earlier calibration, on another slide, when none did."""
    dead = [[led, 0.0] for led, left in wrong.get("light", []) if left == 0]
    earlier, _, _ = take(wrong | {"light": dead}, False, seed, seed + 100)
    now = 1 / views.light
    now[[problem.led for problem in found.problems]] = np.nan
    table = np.hypot(*load_hardware("simulator_small").geometry().directions.T)
    measured = np.hypot(*found.directions.T)
    left = light_left(now, 1 / earlier.light, measured, table, optics.na)
    return {(int(led), "dim") for led in np.flatnonzero(left < DIMMED)}


def faults(wrong: dict[str, Any]) -> set[tuple[int, str]]:
    """What is wrong with the array in truth."""
    swapped = {(led, "swapped") for pair in wrong.get("swapped", []) for led in pair}
    return swapped | {(led, "dim" if left else "dead") for led, left in wrong.get("light", [])}


def estimate(wrong: dict[str, Any], stained: bool, seed: int, settings: EstimateSettings) -> Row:
    """One array against its truth."""
    views, optics, truth = take(wrong, stained, seed, seed)
    began = time.process_time()
    found = estimate_array([views], optics, settings)
    print(f"{time.process_time() - began:.1f} s: ", end="")
    off = found.directions - truth
    # One part of the field has nothing to agree with: then all that is found counts.
    measured = np.isfinite(found.errors) | (settings.tiles == 1)
    bright = np.hypot(*truth.T) < optics.na
    inside, outside = (np.sqrt(np.mean(off[group & measured] ** 2)) for group in (bright, ~bright))
    named = {(problem.led, str(problem.kind)) for problem in found.problems}
    named |= dimmed(views, optics, found, wrong, seed) if wrong.get("light") else set()
    pose = found.pose
    # LEDs that are scattered have another pose as a whole.
    in_image = np.stack(optics.orientation.to_image(*truth.T), axis=1)
    true = fit_pose(optics, in_image, np.full(len(truth), 0.001)).pose
    return Row(
        float(np.hypot(pose.x_mm - true.x_mm, pose.y_mm - true.y_mm)),
        abs(pose.height_mm - true.height_mm),
        abs(pose.rotation_deg - true.rotation_deg),
        float(inside),
        float(outside),
        named == faults(wrong),
    )


def main() -> int:
    """Print a row for each case and seed, then the worst of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one case, small parts of the field")
    parser.add_argument("--seeds", type=int, default=5, help="slides and arrays of each case")
    arguments = parser.parse_args()
    quick = arguments.quick
    settings = EstimateSettings(tiles=1, side_px=0) if quick else EstimateSettings()
    rows: dict[str, list[Row]] = {}
    for name, (wrong, stained) in list(CASES.items())[: 1 if quick else None]:
        for seed in range(1, (1 if quick else arguments.seeds) + 1):
            row = estimate(wrong, stained, seed, settings)
            rows.setdefault(name, []).append(row)
            print(f"{name}, seed {seed}: {row}", flush=True)
    for name, found in rows.items():
        figures = (
            max(getattr(row, field) for row in found)
            for field in ("shift_mm", "height_mm", "turn_deg", "inside", "outside")
        )
        worst = Row(*figures, all(row.named for row in found))
        print(f"{name}, worst of {len(found)}: {worst}")
    return 0 if quick or all(row.is_good for found in rows.values() for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
