"""Scan simulated slides, build their data sets, hold every sample against the ground truth.

    python benchmarks/process/ground_truth.py --out truth [--slides pale strong red] [--scan-only]
    python benchmarks/process/ground_truth.py --quick

Three slides whose stains differ, which come back shifted and turned by 30 um to 300 um and 0.1 to
2 deg, are scanned in three passes each; every sample is compared with the smear's truth and with
the places where the stage really stood. Prints recall of white cells, share of false samples,
errors of both matches in 20x pixels and of the scale between the objectives, by slide and in all.

With the full sensor and 3 x 3 fields a slide takes some ten minutes of one core. It may be stopped
and run again at any time: positions that were taken are kept, slides are done one by one.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from helpers.truth_of_scan import Comparison, compare
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import InterruptedScan
from plsctl.acquire.interrupt import StopRequest, stop_on_signals
from plsctl.acquire.scanning.pass_run import run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.records import PASSES
from plsctl.cli.shared.roles import make_roles
from plsctl.process.building.builder import build_dataset
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import SplitSettings
from plsctl.process.samples.highres_scale import HighresScale

TRUE_RATIO, TRUE_ROTATION_DEG = 5.03, -0.5


@dataclass(frozen=True)
class TruthSlide:
    """A simulated slide: its seed decides cells and stain; how it comes back after staining."""

    name: str
    seed: int
    shift_um: tuple[float, float]
    rotation_deg: float


SLIDES = (
    TruthSlide("pale", 1, (24.0, -18.0), 0.1),
    TruthSlide("strong", 3, (-120.0, 90.0), -1.0),
    TruthSlide("red", 5, (212.0, -212.0), 2.0),
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of scans and data sets, to go on with")
    parser.add_argument("--hardware", default="simulator")
    parser.add_argument("--fields", type=int, nargs=2, default=(3, 3), metavar=("X", "Y"))
    parser.add_argument("--white-cells-per-mm2", type=float, default=230.0)
    names = [slide.name for slide in SLIDES]
    parser.add_argument("--slides", nargs="+", default=names, choices=names)
    parser.add_argument("--scan-only", action="store_true", help="stop when all is scanned")
    parser.add_argument("--quick", action="store_true", help="two slides of one small field")
    options = parser.parse_args()
    if options.quick:
        options.hardware, options.fields, options.slides = "simulator_small", (1, 1), names[:2]
        options.white_cells_per_mm2 = 150.0
    with tempfile.TemporaryDirectory() as folder:
        options.out = options.out or Path(folder)
        run(options)


def run(options: argparse.Namespace) -> None:
    """Scan, build, compare."""
    chosen = [slide for slide in SLIDES if slide.name in options.slides]
    scans = [prepare(slide, options) for slide in chosen]
    with stop_on_signals() as stop:
        try:
            for scan in scans:
                take_passes(scan, stop)
        except InterruptedScan as error:
            sys.exit(str(error))
    if options.scan_only:
        return
    results = {}
    for slide, scan in zip(chosen, scans, strict=True):
        results[slide.name] = built_and_compared(scan, options.out / f"{slide.name}.zarr")
    print_table(results)


def prepare(slide: TruthSlide, options: argparse.Namespace) -> Scan:
    """Write slide and hardware files for the asked size and open the scan."""
    folder: Path = options.out / slide.name
    folder.mkdir(parents=True, exist_ok=True)
    described = load_hardware(options.hardware)
    pixel = described.pixel_um("20x")
    size = [
        (1 + (count - 1) * 0.95) * side * pixel
        for count, side in zip(options.fields, described.camera.size_px, strict=True)
    ]
    low = (10_000.0, 5_000.0)
    document = yaml.safe_load(described.file.read_text())
    document["options"] |= {
        "smear": {"white_cells_per_mm2": options.white_cells_per_mm2, "seed": slide.seed},
        "mount": {
            "return_centre_um": [low[0] + size[0] / 2, low[1] + size[1] / 2],
            "return_shift_um": list(slide.shift_um),
            "return_rotation_deg": slide.rotation_deg,
        },
    }
    (folder / "hardware.yaml").write_text(yaml.safe_dump(document))
    description = {
        "slide": slide.name,
        "stain": slide.name,
        "hardware": "hardware.yaml",
        "recipe": "le8deg",
        "exposures": "shipped:exposures_20x.csv",
        "region": {
            "x_um": [low[0], low[0] + size[0]],
            "y_um": [low[1], low[1] + size[1]],
        },
        "focus": {"points": 3 if options.quick else 5},
    }
    (folder / "slide.yaml").write_text(yaml.safe_dump(description))
    return open_scan(folder / "slide.yaml", options.out / "scans")


def take_passes(scan: Scan, stop: StopRequest) -> None:
    """Take what is missing of the three passes."""
    for name in PASSES:
        if not scan.is_finished(name):
            began = time.monotonic()
            run_pass(scan, name, lambda operator: make_roles(operator, True), stop)
            print(f"{scan.slide.slide} {name}: {time.monotonic() - began:.0f} s", flush=True)


def built_and_compared(scan: Scan, path: Path) -> Comparison:
    """The data set of one slide, held against the truth."""
    result = build_dataset(
        [scan.folder.path], path, split=SplitSettings(ratios=None), overwrite=True
    )
    dataset = Dataset.open(path)
    scale = HighresScale(**dataset.attributes.highres_scales[0])  # type: ignore[arg-type]
    print(
        f"{scan.slide.slide}: {result.samples} samples in {result.seconds:.0f} s, dropped "
        f"{result.dropped}; scale {scale.ratio:.4f} "
        f"({100 * (scale.ratio / TRUE_RATIO - 1):+.3f} %), "
        f"{scale.rotation_deg:.3f} deg ({scale.rotation_deg - TRUE_ROTATION_DEG:+.3f}), "
        f"{scale.fields} fields",
        flush=True,
    )
    return compare(scan, dataset.table)


def print_table(results: dict[str, Comparison]) -> None:
    """One column a slide and one for all, with 95 % intervals."""
    columns = dict(results)
    if len(results) > 1:
        columns["all"] = Comparison(*(
            np.concatenate([getattr(part, name) for part in results.values()])
            for name in Comparison.__dataclass_fields__
        ))  # fmt: skip
    rows = pd.DataFrame({name: described(part) for name, part in columns.items()})
    print("| what | " + " | ".join(rows.columns) + " |")
    print("| --- |" + " --- |" * len(rows.columns))
    for label, row in rows.iterrows():
        print(f"| {label} | " + " | ".join(row) + " |")


def described(part: Comparison) -> dict[str, str]:
    """The rows of the table."""
    rows = {
        "white cells to be found": f"{len(part.found)}",
        "recall": share(part.found),
        "samples": f"{len(part.right)}",
        "samples that are white cells": share(part.right),
    }
    for kind, errors in (
        ("unstained-stained", part.match_px),
        ("20x-100x", part.highres_px),
    ):
        low, high = median_interval(errors)
        rows[f"{kind}, median (20x px)"] = f"{np.median(errors):.3f} ({low:.3f}-{high:.3f})"
        rows[f"{kind}, within 1 px"] = share(errors <= 1)
        rows[f"{kind}, largest"] = f"{errors.max():.2f}"
    return rows


def share(hits: NDArray[np.bool_]) -> str:
    """Percentage with Wilson's 95 % interval."""
    n, p, z = len(hits), float(np.mean(hits)), 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return f"{100 * p:.2f} % ({100 * (centre - half):.2f}-{100 * min(1.0, centre + half):.2f})"


def median_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the median, by the ranks of a binomial."""
    ordered = np.sort(values)
    half = 1.96 * math.sqrt(len(ordered)) / 2
    low = max(0, math.floor(len(ordered) / 2 - half))
    high = min(len(ordered) - 1, math.ceil(len(ordered) / 2 + half))
    return float(ordered[low]), float(ordered[high])


if __name__ == "__main__":
    main()
