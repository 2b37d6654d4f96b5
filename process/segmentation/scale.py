"""The scale of a stained image in pixels per red cell: given, or measured on its cells."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.segmentation.background import odd_disc
from plsctl.process.segmentation.cells import LEAST_SIDE_PX
from plsctl.process.segmentation.chromatin import chromatin_strength, estimate_strength
from plsctl.process.segmentation.red_cells import (
    RedCellRuler,
    disc_diameter_px,
    foreground_mask,
    is_small,
    red_cell_diameter_px,
)
from plsctl.process.segmentation.settings import SegmentationSettings

RED_CELL_UM = 7.5
WINDOW_PX = 1400
"""Side of the windows in which the cells of a large image are measured."""

_WIDEST_PX = 2000  # of an image that is measured as a whole
OTHER_SIZE = 1.25  # ratio of two diameters that are not the same
_WINDOWS = 4  # along each side
_SKETCH_PX = 480
_TOO_LARGE = 3.5  # red-cell diameters of a nucleus, or of three that touch
_LEAST_LEFT = 0.02  # share of the image that red cells beside the white ones must fill


def given_red_cell_px(settings: SegmentationSettings) -> float | None:
    """Diameter of a red cell in pixels, where the settings tell it."""
    if settings.red_cell_px is None and settings.pixel_um is not None:
        return RED_CELL_UM / settings.pixel_um
    return settings.red_cell_px


def resolve_red_cells(flat: NDArray[np.uint8], settings: SegmentationSettings) -> RedCellRuler:
    """Diameter of a red cell in pixels, of an image (y, x, rgb) with a flat background."""
    given = given_red_cell_px(settings)
    if given is not None:
        return RedCellRuler(given, True)
    if max(flat.shape[:2]) > _WIDEST_PX:
        windows = spread_windows(flat.shape[:2], WINDOW_PX)
        typical = typical_red_cell_px((flat[window] for window in windows), settings)
        return RedCellRuler(typical, True)
    ruler = _measured(flat, settings)
    large = min(flat.shape[:2]) >= LEAST_SIDE_PX
    return RedCellRuler(ruler.diameter_px, ruler.reliable and large)


def second_red_cell_px(flat: NDArray[np.uint8], settings: SegmentationSettings) -> float | None:
    """Another diameter of the red cells of a field, by their outlines; None where there is none.

    Where red cells lie close, what fits into the foreground may be larger than one of them, or be a
    part of one. What is a white cell is one with either size.
    """
    if given_red_cell_px(settings) is not None or is_small(flat.shape):
        return None
    if max(flat.shape[:2]) > _WIDEST_PX:
        return None
    return disc_diameter_px(flat)


def spread_windows(shape: tuple[int, ...], side: int) -> list[tuple[slice, slice]]:
    """Square windows of that side, evenly spread over an image (y, x): 3 or 4 along each axis."""
    places = []
    for length in shape:
        last = max(0, length - side)
        count = min(_WINDOWS, 1 + -(-last // side))
        starts = np.linspace(0, last, count).astype(int) if count > 1 else np.zeros(1, int)
        places.append([slice(int(n), int(min(length, n + side))) for n in starts])
    return [(rows, columns) for rows in places[0] for columns in places[1]]


def typical_red_cell_px(
    windows: Iterable[NDArray[np.uint8]], settings: SegmentationSettings
) -> float:
    """Median diameter over windows (y, x, rgb) of an image, those with cells; pixels.

    An overview of a large image would make the cells smaller than what can be measured.
    """
    found, sides = [], []
    for flat in windows:
        sides.append(max(flat.shape[:2]))
        absorbing = np.count_nonzero(foreground_mask(flat))
        if absorbing > _LEAST_LEFT * flat.shape[0] * flat.shape[1]:
            found.append(_measured(flat, settings).diameter_px)
    return float(np.median(found)) if found else max(sides) / 20


def _measured(flat: NDArray[np.uint8], settings: SegmentationSettings) -> RedCellRuler:
    nuclei = _nuclei_sketch(flat, settings)
    if nuclei is None:
        return red_cell_diameter_px(flat)
    diameter, white_cells = nuclei
    ruler = red_cell_diameter_px(flat, white_cells)
    # Nuclei measure 0.6 to 1.8 red cells. They help where red cells lie too close to be measured;
    # against red cells that were measured they count only if no touching cells explain their size.
    if diameter > _TOO_LARGE * ruler.diameter_px or not ruler.reliable:
        within = np.clip(ruler.diameter_px, diameter / 1.8, diameter / 0.6)
        return RedCellRuler(float(within), ruler.reliable)
    return ruler


def _nuclei_sketch(
    flat: NDArray[np.uint8], settings: SegmentationSettings
) -> tuple[float, NDArray[np.bool_] | None] | None:
    """Diameter in pixels of a disc as large as the largest nucleus, and where white cells lie.

    None where there is no nucleus. White cells are None where they would hide nearly all that
    absorbs: then red cells are as purple as chromatin, or there are none.
    """
    shrink = max(flat.shape[:2]) / _SKETCH_PX
    size = (max(1, round(flat.shape[1] / shrink)), max(1, round(flat.shape[0] / shrink)))
    sketch = cv2.resize(flat, size, interpolation=cv2.INTER_AREA)
    smooth = np.asarray(cv2.GaussianBlur(sketch, (0, 0), 1.5), dtype=np.uint8)
    strength = chromatin_strength(smooth, settings.hue)
    foreground = foreground_mask(smooth)
    least = estimate_strength(strength, foreground, settings.least_strength)
    chromatin = (strength >= least).astype(np.uint8)
    inscribed = 2 * float(cv2.distanceTransform(chromatin, cv2.DIST_L2, 5).max())
    if inscribed < 8:
        return None
    opened = cv2.morphologyEx(chromatin, cv2.MORPH_OPEN, odd_disc(0.5 * inscribed))
    joined = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, odd_disc(0.7 * inscribed))
    stats = cv2.connectedComponentsWithStats(joined)[2]
    diameter = float(np.sqrt(4 / np.pi * stats[1:, cv2.CC_STAT_AREA].max()))
    cells = cv2.dilate(joined, odd_disc(0.7 * diameter)) > 0
    hidden = np.count_nonzero(foreground & ~cells) < _LEAST_LEFT * foreground.size
    return shrink * diameter, None if hidden else np.asarray(cells)
