"""The LED array's pose, directions and faulty LEDs from simulated images, against the truth.

    python benchmarks/process/led_pose.py [--quick] [--seeds N]

Small sensor, all imperfections of the simulated microscope; the array is moved by 2 mm, raised by
3 mm and turned by 3 degrees. Cosines are root mean squares of one direction cosine, inside the
aperture and outside; seconds are of the processor, for the estimate alone.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.leds.pose import table_places
from plsctl.process.calibration.led_array import EstimateSettings, estimate_array
from plsctl.process.calibration.views import ArrayOptics, LedViews
from plsctl.sim.backend import open_world

TRUTH = {"moved_mm": [1.6, -1.2], "raised_mm": 3.0, "rotation_deg": 3.0}
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "unstained": ({}, False),
    "stained": ({}, True),
    "LEDs scattered by 0.3 mm, tilted": ({"scatter_mm": 0.3, "tilt_deg": [0.5, -0.3]}, False),
    "two pairs swapped, one dead": (
        {"swapped": [[4, 9], [14, 23]], "light": [[30, 0.0]]},
        False,
    ),
}


def take(
    wrong: dict[str, Any], stained: bool, seed: int
) -> tuple[LedViews, ArrayOptics, NDArray[np.float64]]:
    """Images of a field under every LED, what is known, and the true directions."""
    hardware = load_hardware("simulator_small")
    options = hardware.options | {"led_array": TRUTH | wrong, "seed": seed}
    options["smear"] = dict(options.get("smear", {})) | {"seed": seed}
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


def main() -> None:
    """Print a row for each case and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one case, small parts of the field")
    parser.add_argument("--seeds", type=int, default=1, help="slides of each case")
    arguments = parser.parse_args()
    settings = EstimateSettings(tiles=1, side_px=0) if arguments.quick else EstimateSettings()
    cases = dict(list(CASES.items())[:1]) if arguments.quick else CASES
    for name, (wrong, stained) in cases.items():
        for seed in range(1, arguments.seeds + 1):
            views, optics, truth = take(wrong, stained, seed)
            began = time.process_time()
            found = estimate_array([views], optics, settings)
            seconds = time.process_time() - began
            off = found.directions - truth
            # One part of the field has nothing to agree with: then all that is found counts.
            measured = np.isfinite(found.errors) | (settings.tiles == 1)
            bright = np.hypot(*truth.T) < optics.na
            inside, outside = (
                np.sqrt(np.mean(off[group & measured] ** 2)) for group in (bright, ~bright)
            )
            pose = found.pose
            shift = np.hypot(pose.x_mm - 1.6, pose.y_mm + 1.2)
            problems = ", ".join(f"{optics.name(p.led)} {p.kind}" for p in found.problems)
            print(
                f"{name}, seed {seed}: shift off by {shift:.3f} mm, height "
                f"{pose.height_mm - 3:+.3f} mm, turn {pose.rotation_deg - 3:+.3f} deg, cosines "
                f"{inside:.4f} / {outside:.4f}, {problems or 'no problems'}, {seconds:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
