"""Recall and precision of `plsctl segment` against boxes drawn by hand, on the real sets.

    PLSCTL_DATA=FOLDER python benchmarks/process/segmentation.py [--every N] [--quick]
        [--method ek-means] [--changed] [--hidden]

One setting, the default, for all sets. A find and a box belong together when they overlap by at
least a fifth (intersection over union), each at most once, best pairs first. With --changed the
same images are measured as another laboratory, lamp or camera would have taken them: one line a
change; with --hidden a part of each image is hidden, as outside a round field. Milliseconds are of
processor time.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.image_files import read_image
from plsctl.process.segmentation.segment import segment
from plsctl.process.segmentation.settings import SegmentationSettings

Box = tuple[float, float, float, float]
Image = NDArray[np.uint8]
Hidden = NDArray[np.bool_]
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


def bytes_of(values: NDArray[np.floating]) -> Image:
    """Rounded down and clipped to 8 bits."""
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)


def with_stain(image: Image, power: float) -> Image:
    """Every optical density times `power`; the brightest twentieth is taken for glass."""
    glass = np.percentile(image, 95, axis=(0, 1))
    return bytes_of(glass * (np.maximum(image, 1) / glass) ** power)


def with_light(image: Image, red: float, green: float, blue: float) -> Image:
    """Another colour or strength of the light."""
    return bytes_of(image * np.array([red, green, blue]))


def with_gamma(image: Image, gamma: float) -> Image:
    """Another characteristic of the camera."""
    return bytes_of(255 * (image / 255) ** gamma)


def with_vignette(image: Image) -> Image:
    """Two fifths less light in the corners, the brightest place off the middle."""
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return bytes_of(image * (1 - 0.2 * ((x - 0.2) ** 2 + (y + 0.1) ** 2))[..., None])


def with_scale(image: Image, zoom: float) -> Image:
    """More or fewer pixels."""
    mode = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=mode), np.uint8)


def with_jpeg(image: Image, quality: int) -> Image:
    """Coarse compression, once more."""
    code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)[..., ::-1].copy()


def with_noise(image: Image, deviation: float) -> Image:
    """Noise of the sensor, seed 0."""
    return bytes_of(image + np.random.default_rng(0).normal(0, deviation, image.shape))


CHANGES: dict[str, Callable[[Image], Image]] = {
    "stain x 0.65": lambda image: with_stain(image, 0.65),
    "stain x 1.4": lambda image: with_stain(image, 1.4),
    "gamma 0.7": lambda image: with_gamma(image, 0.7),
    "gamma 1.4": lambda image: with_gamma(image, 1.4),
    "yellow light": lambda image: with_light(image, 1, 0.9, 0.72),
    "blue light": lambda image: with_light(image, 0.78, 0.9, 1),
    "green light": lambda image: with_light(image, 0.85, 1, 0.85),
    "dark, 0.55": lambda image: with_light(image, 0.55, 0.55, 0.55),
    "vignette": with_vignette,
    "scale 0.7": lambda image: with_scale(image, 0.7),
    "scale 1.4": lambda image: with_scale(image, 1.4),
    "JPEG, quality 30": lambda image: with_jpeg(image, 30),
    "noise, 8 levels": lambda image: with_noise(image, 8),
    "blur, 2 px": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8),
}


def _frame(shape: tuple[int, ...], share: float) -> Hidden:
    height, width = shape[:2]
    hidden = np.ones((height, width), np.bool_)
    y, x = round(share * height), round(share * width)
    hidden[y : height - y, x : width - x] = False
    return hidden


def _outside_disc(shape: tuple[int, ...]) -> Hidden:
    height, width = shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(x**2 + y**2 > 1)


def _quarter(shape: tuple[int, ...]) -> Hidden:
    hidden = np.zeros(shape[:2], np.bool_)
    hidden[: shape[0] // 2, : shape[1] // 2] = True
    return hidden


def _corner(shape: tuple[int, ...]) -> Hidden:
    hidden = np.zeros(shape[:2], np.bool_)
    hidden[shape[0] * 3 // 4 :, : shape[1] // 3] = True
    return hidden


HIDDEN: dict[str, tuple[Callable[[tuple[int, ...]], Hidden], int, float]] = {
    "black frame, 5 %": (lambda shape: _frame(shape, 0.05), 0, 0),
    "black frame, 10 %": (lambda shape: _frame(shape, 0.1), 0, 0),
    "black frame, 20 %": (lambda shape: _frame(shape, 0.2), 0, 0),
    "dark frame (6), 10 %": (lambda shape: _frame(shape, 0.1), 6, 0),
    "round field": (_outside_disc, 0, 0),
    "round field, soft": (_outside_disc, 4, 2),
    "black quarter": (_quarter, 0, 0),
    "black tile": (_corner, 0, 0),
    "grey tile (128)": (_corner, 128, 0),
    "white frame, 10 %": (lambda shape: _frame(shape, 0.1), 255, 0),
    "white frame, 20 %": (lambda shape: _frame(shape, 0.2), 255, 0),
}
"""What hides a part of an image, its grey value, and the blur of its edge in pixels."""


def hide(image: Image, hidden: Hidden, level: int, blur_px: float) -> Image:
    """The image with a part of one grey, saved once more as JPEG."""
    share = hidden.astype(np.float32)
    if blur_px:
        share = np.asarray(cv2.GaussianBlur(share, (0, 0), blur_px), np.float32)
    return with_jpeg(bytes_of(image * (1 - share[..., None]) + level * share[..., None]), 95)


def print_hidden(sets: dict[str, dict[Path, list[Box]]], method: str) -> None:
    """Of the cells of the whole image that lie outside what is hidden: share found, and false."""
    settings = SegmentationSettings.model_validate({"method": method})
    print(f"| hidden | {' | '.join(sets)} |")
    print("| --- |" + " --- |" * len(sets))
    for name, (where, level, blur_px) in HIDDEN.items():
        row = []
        for images in sets.values():
            wanted = again = false = 0
            for path in images:
                image = read_image(path)
                hidden = where(image.shape)
                whole = boxes_of(image, settings)
                near = np.asarray(cv2.dilate(hidden.astype(np.uint8), np.ones((9, 9)))) > 0
                outside = [
                    box
                    for box in whole
                    if not near[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].any()
                ]
                found = boxes_of(hide(image, hidden, level, blur_px), settings)
                wanted += len(outside)
                again += len(pair_up(found, outside))
                false += len(found) - len(pair_up(found, whole))
            row.append(f"{again} of {wanted}, {false} false")
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def boxes_of(image: Image, settings: SegmentationSettings) -> list[Box]:
    """Boxes of the white cells found, (x0, y0, x1, y1)."""
    cells = segment(image, settings).cells
    return [(c.x, c.y, c.x + c.width, c.y + c.height) for c in cells]


def measure(
    images: dict[Path, list[Box]], method: str, change: Callable[[Image], Image] | None = None
) -> tuple[int, int, list[float], float]:
    """Boxes, finds, overlaps of their pairs, and milliseconds an image."""
    settings = SegmentationSettings.model_validate({"method": method})
    boxes = finds = 0
    overlaps: list[float] = []
    spent = 0.0
    for path, drawn in images.items():
        image, truth = read_image(path), drawn
        if change is not None:
            width = image.shape[1]
            image = change(image)
            zoom = image.shape[1] / width
            truth = [(x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom) for x0, y0, x1, y1 in drawn]
        began = time.process_time()
        found = boxes_of(image, settings)
        spent += time.process_time() - began
        boxes, finds = boxes + len(truth), finds + len(found)
        overlaps += pair_up(found, truth)
    return boxes, finds, overlaps, 1000 * spent / max(1, len(images))


def main() -> None:
    """Print one line per set, or per change of the images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take every Nth image")
    parser.add_argument("--method", default="hsv", choices=("hsv", "ek-means"))
    parser.add_argument("--changed", action="store_true", help="change the images, in 14 ways")
    parser.add_argument("--hidden", action="store_true", help="hide parts of the images")
    parser.add_argument("--quick", action="store_true", help="every 40th image")
    options = parser.parse_args()
    every = 40 if options.quick else options.every
    folder = os.environ.get("PLSCTL_DATA")
    if not folder:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    sets = {
        name: dict(list(images.items())[::every])
        for name, images in load_sets(Path(folder)).items()
    }
    if options.hidden:
        print_hidden(sets, options.method)
        return
    if options.changed:
        print_changes(sets, options.method)
        return
    print("| set | images | boxes | recall | precision | F1 | median box IoU | ms an image |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, images in sets.items():
        boxes, finds, overlaps, spent = measure(images, options.method)
        pairs = len(overlaps)
        if not boxes:
            print(f"| {name} | {len(images)} | 0 | | {finds} false | | | {spent:.0f} |")
            continue
        print(
            f"| {name} | {len(images)} | {boxes} | {pairs / boxes:.3f} "
            f"| {pairs / max(1, finds):.3f} | {2 * pairs / (boxes + finds):.3f} "
            f"| {np.median(overlaps):.2f} | {spent:.0f} |",
            flush=True,
        )


def print_changes(sets: dict[str, dict[Path, list[Box]]], method: str) -> None:
    """F1 of each set under each change, or false finds where there is nothing to find."""
    print(f"| change | {' | '.join(sets)} |")
    print("| --- |" + " --- |" * len(sets))
    for change, function in {"none": None, **CHANGES}.items():
        row = []
        for images in sets.values():
            boxes, finds, overlaps, _ = measure(images, method, function)
            f1 = f"{2 * len(overlaps) / (boxes + finds):.3f}" if boxes else f"{finds} false"
            row.append(f1)
        print(f"| {change} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
