"""Recall and precision of `plsctl segment` against boxes drawn by hand, on the real sets.

    PLSCTL_DATA=FOLDER python benchmarks/segmentation.py [--every N]

One setting, the default, for all sets. A find and a box belong together when they overlap by at
least a fifth (intersection over union), each at most once, best pairs first.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from plsctl.process.image_files import read_image
from plsctl.process.segmentation import segment

Box = tuple[float, float, float, float]
LEAST_OVERLAP = 0.2


def load_sets(data: Path) -> dict[str, dict[Path, list[Box]]]:
    """Images and their white-cell boxes (x0, y0, x1, y1) by set."""
    sets: dict[str, dict[Path, list[Box]]] = {
        "bccd": _boxes(data / "bccd/wbc_boxes.csv", data / "bccd/images", "xmin ymin xmax ymax"),
        "chula": _boxes(
            data / "chula_wbc/boxes.csv", data / "chula_wbc/fields_half", "x0 y0 x1 y1"
        ),
    }
    table = data / "txl_pbc_raabin"
    for source in ("PBC", "Raabin"):
        sets[source] = _boxes(table / "boxes.csv", table / "images", "x0 y0 x1 y1", source)
    sets["chula_rbc12"] = {p: [] for p in sorted((data / "chula_rbc12/images").iterdir())}
    return sets


def _boxes(
    table: Path, images: Path, columns: str, source: str | None = None
) -> dict[Path, list[Box]]:
    found: dict[Path, list[Box]] = defaultdict(list)
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if source is not None and row["source"] != source:
                continue
            boxes = found[images / f"{row['image']}.jpg"]
            if row.get("label", "WBC") == "WBC":
                x0, y0, x1, y1 = (float(row[name]) for name in columns.split())
                boxes.append((x0, y0, x1, y1))
    return dict(sorted(found.items()))


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (area - shared)


def pair_up(found: Sequence[Box], truth: Sequence[Box]) -> list[float]:
    """Overlaps of the pairs of finds and boxes."""
    pairs = sorted(
        ((overlap(f, t), i, j) for i, f in enumerate(found) for j, t in enumerate(truth)),
        reverse=True,
    )
    used_found: set[int] = set()
    used_truth: set[int] = set()
    overlaps = []
    for value, i, j in pairs:
        if value >= LEAST_OVERLAP and i not in used_found and j not in used_truth:
            used_found.add(i)
            used_truth.add(j)
            overlaps.append(value)
    return overlaps


def measure(images: dict[Path, list[Box]]) -> tuple[int, int, int, list[float], float]:
    """Boxes, finds, pairs, their overlaps, and milliseconds an image."""
    boxes = finds = 0
    overlaps: list[float] = []
    spent = 0.0
    for path, truth in images.items():
        image = read_image(path)
        began = time.perf_counter()
        cells = segment(image).cells
        spent += time.perf_counter() - began
        found = [(c.x, c.y, c.x + c.width, c.y + c.height) for c in cells]
        boxes, finds = boxes + len(truth), finds + len(found)
        overlaps += pair_up(found, truth)
    return boxes, finds, len(overlaps), overlaps, 1000 * spent / max(1, len(images))


def main() -> None:
    """Print one line per set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take every Nth image")
    every = parser.parse_args().every
    folder = os.environ.get("PLSCTL_DATA")
    if not folder:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    print("| set | images | boxes | recall | precision | F1 | median box IoU | ms an image |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, images in load_sets(Path(folder)).items():
        chosen = dict(list(images.items())[::every])
        boxes, finds, pairs, overlaps, spent = measure(chosen)
        if not boxes:
            print(f"| {name} | {len(chosen)} | 0 | | {finds} false | | | {spent:.0f} |")
            continue
        recall, precision = pairs / boxes, pairs / max(1, finds)
        f1 = 2 * pairs / (boxes + finds)
        print(
            f"| {name} | {len(chosen)} | {boxes} | {recall:.3f} | {precision:.3f} | {f1:.3f} "
            f"| {np.median(overlaps):.2f} | {spent:.0f} |"
        )


if __name__ == "__main__":
    main()
