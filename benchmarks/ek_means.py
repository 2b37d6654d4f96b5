"""EK-means beside k-means, Otsu's thresholds and HSV, on cells with masks drawn by hand.

    PLSCTL_DATA=data python benchmarks/ek_means.py [--every 4]

Mean Dice of nucleus and whole cell on the crops of segmentation_wbc, and milliseconds an image.
Masks of k-means and Otsu are opened, closed and freed of small parts; k-means begins at random
(seed 0). The cell finder for fields is not told that there is one cell, nor its scale.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu

from plsctl.process.image_files import read_image
from plsctl.process.segmentation.segment import segment
from plsctl.process.segmentation.settings import HsvLimits, SegmentationSettings
from plsctl.process.segmentation.single_cells import segment_crop

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Method = Callable[[Image], tuple[Mask, Mask]]


def dice(one: Mask, other: Mask) -> float:
    """Twice the shared area over the sum of areas."""
    return float(2 * (one & other).sum() / max(1, int(one.sum() + other.sum())))


def by_ek_means(image: Image, space: str = "lab") -> tuple[Mask, Mask]:
    """Our segmentation of single-cell images."""
    mask = segment_crop(image, "rgb" if space == "rgb" else "lab")
    return mask == 255, mask > 0


def by_hsv(image: Image) -> tuple[Mask, Mask]:
    """Limits of hue and chromatin strength from the image itself."""
    mask = segment_crop(image, method="hsv")
    return mask == 255, mask > 0


def by_fields(image: Image, method: str = "hsv", fixed: bool = False) -> tuple[Mask, Mask]:
    """The cell finder for whole fields, which must find the cell and its scale by itself."""
    settings = SegmentationSettings.model_validate(
        {"method": method, "limits": HsvLimits() if fixed else None}
    )
    found = segment(image, settings)
    return found.nucleus_mask, found.cell_mask


def by_otsu(image: Image) -> tuple[Mask, Mask]:
    """Three classes of green."""
    green = cv2.GaussianBlur(image[..., 1], (0, 0), 1.0)
    low, high = threshold_multiotsu(green, 3)
    return tidy(green <= low), tidy(green <= high)


def by_k_means(image: Image) -> tuple[Mask, Mask]:
    """Three clusters of all pixels in L*a*b*, by OpenCV."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    pixels = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 0.1)
    best = np.zeros((len(pixels), 1), dtype=np.int32)
    _, labels, centres = cv2.kmeans(pixels, 3, best, stop, 3, cv2.KMEANS_RANDOM_CENTERS)
    order = np.argsort(centres[:, 0])
    flat = labels.reshape(image.shape[:2])
    return tidy(flat == order[0]), tidy(flat != order[2])


def tidy(mask: NDArray[np.bool_]) -> Mask:
    """Opened, closed, and of the parts the largest one."""
    size = 2 * max(1, mask.shape[0] // 60) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc)
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(closed)
    if count == 1:
        return np.asarray(closed > 0)
    large = stats[:, cv2.CC_STAT_AREA] > 0.1 * stats[1:, cv2.CC_STAT_AREA].max()
    large[0] = False
    return np.asarray(large[parts])


METHODS: dict[str, Method] = {
    "EK-means, Lab": by_ek_means,
    "EK-means, RGB": lambda image: by_ek_means(image, "rgb"),
    "HSV": by_hsv,
    "k-means, Lab": by_k_means,
    "Otsu, green": by_otsu,
    "HSV, adaptive (cell finder for fields)": by_fields,
    "HSV, fixed limits (same)": lambda image: by_fields(image, fixed=True),
    "EK-means (same)": lambda image: by_fields(image, "ek-means"),
}


def load(folder: Path) -> list[tuple[Image, NDArray[np.uint8]]]:
    """Images and masks (0, about 128, 255)."""
    names = sorted(path for path in (folder / "images").iterdir() if path.is_file())
    return [(read_image(n), read_image(folder / "masks" / f"{n.stem}.png")[..., 0]) for n in names]


def main() -> None:
    """Print one line per method and set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take every Nth image")
    every = parser.parse_args().every
    data = os.environ.get("PLSCTL_DATA")
    if not data:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    print("| method | set | images | nucleus | nuclei below .8 | whole cell | ms an image |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    sets = {n: load(Path(data) / "segmentation_wbc" / f"dataset{n}")[::every] for n in (1, 2)}
    for name, method in METHODS.items():
        for number, images in sets.items():
            began = time.perf_counter()
            found = [method(image) for image, _ in images]
            spent = 1000 * (time.perf_counter() - began) / len(images)
            masks = [mask for _, mask in images]
            nuclei = [dice(f[0], mask > 200) for f, mask in zip(found, masks, strict=True)]
            cells = [dice(f[1], mask > 60) for f, mask in zip(found, masks, strict=True)]
            print(
                f"| {name} | {number} | {len(images)} | {np.mean(nuclei):.3f} "
                f"| {sum(value < 0.8 for value in nuclei)} | {np.mean(cells):.3f} | {spent:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
