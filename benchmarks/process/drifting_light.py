"""Whole passes that changed: light, focus, tinted glass, another place.

    python benchmarks/process/drifting_light.py [--seeds 20] [--first 1]
    python benchmarks/process/drifting_light.py --quick

Each seed is a slide of its own: two fields of the small sensor, recipe brightfield, unstained and
stained, scanned on the simulated microscope with 20 % less light at the stained pass (every second
one with 20, 28 and 32 % less in red, green and blue). It is built as it is: accepted is right. Then
again with all stained images blurred by a Gaussian of sigma 1.5 px, with the unstained ones blurred
so, and with both: refused as out of focus is right. Then with glass that stain has tinted
(absorbance 0.1, 0.3 and 0.1): refused as misstained is right; and with mirrored stained images:
refused as mismatched is right. At last the stained pass is scanned again with the slide 3 and 6 um
out of focus, upwards or downwards by turns: refused as out of focus is right, for no other reason.
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
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.reader import PassReader
from plsctl.process.building.builder import build_dataset
from plsctl.process.dataset.splits import SplitSettings
from plsctl.sim.world.world import World

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
    for case in (*CASES, *DEFOCUS_UM):
        print(f"| {case} | {right[case]} of {seeds} |")


def trials(folder: Path, seed: int) -> list[str]:
    """The cases that came out right for one slide."""
    prepare(folder, seed)
    run_pass(folder, "unstained")
    shutil.copytree(folder / "scans", folder / "unstained")
    run_pass(folder, "stained")
    scan = folder / "scans" / f"S{seed}"
    right = []
    for case, (change, reason) in CASES.items():
        with changed(change):
            right += [case] if comes_out(scan, f"seed {seed}, {case}", reason) else []
    for case, defocus_um in DEFOCUS_UM.items():
        shutil.rmtree(folder / "scans")
        shutil.copytree(folder / "unstained", folder / "scans")
        up = 1 if seed % 4 < 2 else -1
        with out_of_focus(up * defocus_um):
            run_pass(folder, "stained")
        what = f"seed {seed}, {case} ({up * defocus_um:+g} um)"
        right += [case] if comes_out(scan, what, "focus: the stained images", only=True) else []
    return right


def comes_out(scan: Path, what: str, reason: str, only: bool = False) -> bool:
    """Whether a scan is accepted, or refused for that reason, or for that reason only."""
    (scan / "cells.csv").unlink(missing_ok=True)
    counts = "no sample"
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = build_dataset(
                [scan], Path(folder) / "x.zarr", split=SplitSettings(ratios=None)
            )
            reasons = [str(text) for text in result.slides[0]["reasons"]]  # type: ignore[attr-defined]
            counts = f"{result.samples} samples, {sum(result.excluded.values())} left out"
        except UserError as error:  # none is left
            reasons = error.message.rstrip(".").split("; ")[2:]
    fine = not reasons if not reason else any(text.startswith(reason) for text in reasons)
    fine = fine and (not only or all(text.startswith(reason) for text in reasons))
    said = "; ".join(reasons) or "accepted"
    print(f"{what}: {'right' if fine else 'WRONG'}; {counts}; {said}", flush=True)
    return fine


def prepare(folder: Path, seed: int) -> None:
    """Files of a microscope with less light after staining, and of a slide of two fields."""
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


def run_pass(folder: Path, name: str) -> None:
    """Scan one pass of the slide."""
    from plsctl.cli.app import app

    try:
        app(["scan", str(folder / "slide.yaml"), "--pass", name, "--out", str(folder / "scans"),
             "--force"])  # fmt: skip
    except SystemExit as ended:
        if ended.code:
            raise


def out_of_focus(defocus_um: float) -> patch:  # type: ignore[type-arg]
    """The simulated slide so far from focus, with settings that say nothing of it."""
    true_um = World.defocus_um
    return patch.object(World, "defocus_um", lambda world: true_um(world) + defocus_um)


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


def _mirrored(image: Image, name: str) -> Image:
    return np.ascontiguousarray(image[:, ::-1]) if name == "stained" else image


CASES: dict[str, tuple[Change, str]] = {
    "less light": (lambda image, name: image, ""),
    "stained out of focus": (_blurred("stained"), "focus: the stained images"),
    "unstained out of focus": (_blurred("unstained"), "focus: the unstained images"),
    "both out of focus": (_blurred("unstained", "stained"), "focus: "),
    "tinted glass": (_tinted, "misstained: glass"),
    "another place": (_mirrored, "mismatch: "),
}
DEFOCUS_UM = {"stained 3 um out of focus": 3.0, "stained 6 um out of focus": 6.0}


if __name__ == "__main__":
    main()
