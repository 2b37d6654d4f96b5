"""Whole passes that changed: less light after staining, a stained pass out of focus, tinted glass.

    python benchmarks/process/drifting_light.py [--seeds 20] [--first 1]
    python benchmarks/process/drifting_light.py --quick

Each seed is a slide of its own: two fields of the small sensor, recipe brightfield, unstained and
stained, scanned on the simulated microscope with 20 % less light at the stained pass (every second
one with 20, 28 and 32 % less in red, green and blue). It is built as it is: accepted is right. Then
again with all stained images blurred by a Gaussian of sigma 1.5 px, with the unstained ones blurred
so, and with both: refused as out of focus is right. At last with glass that stain has tinted
(absorbance 0.1, 0.3 and 0.1): refused as misstained is right.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.store.reader import PassReader
from plsctl.process.building.builder import build_dataset
from plsctl.process.dataset.splits import SplitSettings

Image = NDArray[np.uint8]
Change = Callable[[Image, str], Image]
"""Makes of an image, (y, x, rgb), and the name of its pass another image."""

LESS_LIGHT = ([0.8, 0.8, 0.8], [0.8, 0.72, 0.68])
BLUR_PX, TINT = 1.5, np.array([0.1, 0.3, 0.1])
BLACK = 4.0
SLIDE = """\
slide: S{seed}
hardware: microscope.yaml
region: {{x_um: [{x}, {x_end}], y_um: [{y}, {y_end}], overlap: 0.05}}
recipe: brightfield
exposures: exposures_20x.csv
focus: {{mode: fixed}}
slide_return: {{fields: 2}}
passes:
  unstained: {{objective: 20x}}
  stained: {{objective: 20x}}
"""


def main() -> None:
    """Run all seeds and print how many came out right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one seed")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    seeds = 1 if options.quick else options.seeds
    right: Counter[str] = Counter()
    began = time.process_time()
    for seed in range(options.first, options.first + seeds):
        with tempfile.TemporaryDirectory() as name:
            right.update(trials(Path(name), seed))
    print(f"\n{seeds} seeds, {time.process_time() - began:.0f} CPU seconds; as it should be:")
    for case in CASES:
        print(f"| {case} | {right[case]} of {seeds} |")


def trials(folder: Path, seed: int) -> list[str]:
    """The cases that came out right for one slide."""
    scan = make_scan(folder, seed)
    right = []
    for case, (change, reason) in CASES.items():
        with changed(change):
            (scan / "cells.csv").unlink(missing_ok=True)
            result = build_dataset(
                [scan], folder / "x.zarr", split=SplitSettings(ratios=None), overwrite=True
            )
        reasons = [str(text) for text in result.slides[0]["reasons"]]  # type: ignore[attr-defined]
        fine = not reasons if not reason else any(text.startswith(reason) for text in reasons)
        print(
            f"seed {seed}, {case}: {'right' if fine else 'WRONG'}; {result.samples} samples, "
            f"{sum(result.excluded.values())} left out; {'; '.join(reasons) or 'accepted'}",
            flush=True,
        )
        right += [case] if fine else []
    return right


def make_scan(folder: Path, seed: int) -> Path:
    """Two fields, both passes, the second with less light."""
    from plsctl.cli.app import app

    shipped = load_hardware("simulator_small").file
    for table in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
        shutil.copy(shipped.parent / table, folder / table)
    hardware = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    hardware["led_array"]["geometry"] = "leds_43.csv"
    hardware["options"] |= {
        "seed": seed,
        "smear": {"white_cells_per_mm2": 300, "seed": seed},
        "mount": {"focus_error_um": 0.0, "tilt_um_per_mm": 0.0, "drift_um_per_min": 0.0},
        "lamp": {"when_stained": LESS_LIGHT[seed % 2]},
    }
    (folder / "microscope.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
    rng = np.random.default_rng(seed)
    x, y = round(rng.uniform(9000, 14000)), round(rng.uniform(4000, 9000))
    text = SLIDE.format(seed=seed, x=x, x_end=x + 440, y=y, y_end=y + 170)
    (folder / "slide.yaml").write_text(text, encoding="utf-8")
    for name in ("unstained", "stained"):
        try:
            app(["scan", str(folder / "slide.yaml"), "--pass", name, "--out", str(folder / "scans"),
                 "--force"])  # fmt: skip
        except SystemExit as ended:
            if ended.code:
                raise
    return folder / "scans" / f"S{seed}"


def changed(change: Change) -> patch:  # type: ignore[type-arg]
    """All that is read of bright-field images, changed."""
    read, read_planes = PassReader.brightfield, PassReader.planes

    def brightfield(self: PassReader, position: str) -> Image:
        return change(read(self, position), self.attributes.pass_name)

    def planes(self: PassReader, position: str, index: int, boxes: object) -> list[Image]:
        image = brightfield(self, position)
        return [
            np.ascontiguousarray(np.moveaxis(image[top:bottom, left:right], -1, 0))
            for left, top, right, bottom in boxes  # type: ignore[attr-defined]
        ]

    assert read_planes is not None
    return patch.multiple(PassReader, brightfield=brightfield, planes=planes)


def _blurred(*passes: str) -> Change:
    return lambda image, name: (
        cv2.GaussianBlur(image, (0, 0), BLUR_PX).astype(np.uint8) if name in passes else image
    )


def _tinted(image: Image, name: str) -> Image:
    light = (image - BLACK) * np.exp(-TINT) + BLACK
    return np.clip(np.rint(light), 0, 255).astype(np.uint8) if name == "stained" else image


CASES: dict[str, tuple[Change, str]] = {
    "less light": (lambda image, name: image, ""),
    "stained out of focus": (_blurred("stained"), "focus: the stained images"),
    "unstained out of focus": (_blurred("unstained"), "focus: the unstained images"),
    "both out of focus": (_blurred("unstained", "stained"), "focus: "),
    "tinted glass": (_tinted, "misstained: glass"),
}


if __name__ == "__main__":
    main()
