"""Height and turn of a real LED array from images alone (set fpm_bloodsmear).

    PLSCTL_DATA=FOLDER python benchmarks/process/led_pose_real.py [--quick]

The pitch is held at 4 mm. The search begins with a height that is 10 % off and a turn that is 5
degrees off, either way. Errors are standard deviations over five crops of 64 x 64 pixels, each put
together for itself. Directions tell the ratio of pitch to height alone; its error stands beside.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np

from plsctl.acquire.files.tables import number, read_table
from plsctl.process.calibration.led_array import EstimateSettings, estimate_array
from plsctl.process.calibration.views import ArrayOptics, LedViews

PITCH_MM, HEIGHT_MM = 4.0, 90.88
CROPS = 5


def take(folder: Path, colour: str, height_mm: float, turn_deg: float) -> tuple[
    LedViews, ArrayOptics
]:  # fmt: skip
    """The images of a colour, and a table with that height and turn."""
    described = json.loads((folder / "optics.json").read_text(encoding="utf-8"))
    channel = described["channels"][colour]
    amplitude = np.load(folder / f"bloodsmear_{colour}.npz")["imlow_HDR"]
    images = np.moveaxis(np.square(amplitude.astype(np.float32)), -1, 0)[..., None]
    path = folder / "leds.csv"
    rows = [
        (number(row, "index0", path, line), number(row, "x_mm", path, line),
         number(row, "y_mm", path, line))
        for line, row in read_table(path, ("channel", "index0", "x_mm", "y_mm"))
        if row["channel"] == colour
    ]  # fmt: skip
    # The set's own signs: its LEDs move the spectrum, where ours are where the light comes from.
    flat = -np.array(sorted(rows))[:, 1:]
    turn = np.radians(turn_deg)
    cosine, sine = np.cos(turn), np.sin(turn)
    flat = flat @ np.array([[cosine, sine], [-sine, cosine]])
    places = np.column_stack([flat, np.full(len(flat), -height_mm)])
    optics = ArrayOptics(
        places,
        1e6 * described["pixel_size_sample_m"],
        described["na"],
        (1e6 * channel["wavelength_m"],),
        defocus_um=1e6 * channel["defocus_m"],
    )
    full = 1.01 * float(images.max())
    return LedViews(images, np.ones(len(images)), 0.0, full), optics


def error_of(value: float, digits: int) -> str:
    """An error as it is written; one crop tells none."""
    return f" ± {value:.{digits}f}" if math.isfinite(value) else ""


def main() -> None:
    """Print height, turn, their errors and the ratio for each colour and beginning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one colour, one beginning, one crop")
    quick = parser.parse_args().quick
    data = os.environ.get("PLSCTL_DATA")
    if not data:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    folder = Path(data) / "fpm_bloodsmear"
    settings = EstimateSettings(tiles=1 if quick else CROPS, first_side_px=64, side_px=0, colour=0)
    for colour in ("green",) if quick else ("green", "red", "blue"):
        for share, turn_deg in ((1.1, 5.0),) if quick else ((1.1, 5.0), (0.9, -5.0)):
            views, optics = take(folder, colour, share * HEIGHT_MM, turn_deg)
            began = time.process_time()
            found = estimate_array([views], optics, settings)
            pose, error = found.pose, found.pose_error
            height = share * HEIGHT_MM - pose.height_mm
            spread, turn_spread = (
                value * settings.tiles**0.5 for value in (error.height_mm, error.rotation_deg)
            )
            ratio, ratio_spread = PITCH_MM / height, PITCH_MM * spread / height**2
            print(
                f"{colour} from {share * HEIGHT_MM:.1f} mm, {turn_deg:+.0f} deg: height "
                f"{height:.2f}{error_of(spread, 2)} mm (the set says {HEIGHT_MM}), turn "
                f"{turn_deg + pose.rotation_deg:.2f}{error_of(turn_spread, 2)} "
                f"deg, pitch / height {ratio:.5f}{error_of(ratio_spread, 5)}, "
                f"cosines depart from the pose by {found.rms:.5f}, "
                f"{time.process_time() - began:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
