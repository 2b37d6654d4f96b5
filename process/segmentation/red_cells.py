"""Size of the red cells of an image: the scale of an image without one.

In a field isolated round cells tell it, or the discs that fit into the foreground. In a crop dark
discs are found by their outlines: every edge point votes for the centres of the discs that it may
bound, for it knows the direction, from bright to dark, and not the distance. Where a disc lies the
votes of its whole outline meet. No threshold parts cells from glass; cells may touch, overlap and
be cut by the border, and pale middles do not count, since they are bright inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.segmentation.background import BACKGROUND_LEVEL, odd_disc

_SKETCH_PX = 640
_LEAST_ROUND = 3  # with fewer isolated round cells discs or the distance transform speak
_LEAST_AREA_PX = 150.0  # of them, in pixels of the image and of the sketch
_LEAST_DISCS = 3  # of one size: with fewer the distance transform speaks
_LEAST_SHOWN = 0.02  # of the image that they cover: dust on the sensor is round too

_DISC_SKETCH_PX = 480
_SMALLEST_PX = 4.0  # radius in the sketch
_LARGEST = 0.5  # radius over the shorter side
_STEP = 1.12  # from one radius to the next
_SCATTER = 0.2  # of the radius: how far votes for one disc may lie apart
_LEAST_SEEN = 0.5  # of the outline
_APART = 0.8  # radii of the larger: nearer middles are those of one disc
_ALIKE = 1.25  # ratio of radii of red cells to that of the typical one
_FAINTEST_EDGE = 64.0  # Scharr's operator: a step of some 4 grey values

FIELD_SIDE_PX = 360
"""Shorter side of an image that shows enough of a field for any of its cells to tell the scale."""


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether an image (y, x, ...) is a crop: few of its cells are whole, and it may hold none."""
    return min(shape[:2]) < FIELD_SIDE_PX


@dataclass(frozen=True)
class RedCellRuler:
    """Diameter of the red cells; reliable if it is given or several of one size are seen."""

    diameter_px: float
    reliable: bool


def foreground_mask(flat: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True where cells absorb, in an image with a flat background; shape (y, x).

    Otsu's threshold on green, where both haemoglobin and Romanowsky stains absorb, within limits:
    among dark white cells it would leave out the red ones.
    """
    green = cv2.GaussianBlur(flat[..., 1], (0, 0), 1.0)
    level, _ = cv2.threshold(green, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(green < np.clip(level, 0.83 * BACKGROUND_LEVEL, 0.96 * BACKGROUND_LEVEL))


def _fill_pale_centres(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill holes smaller than 0.4 % of the image, and convex ones up to 2 %.

    The pale middle of a red cell is convex at any magnification; the gap between cells that touch
    has their outlines for walls, and is not.
    """
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    filled = mask.copy()
    for number, outline in enumerate(outlines):
        if tree[0][number][3] < 0:  # an outer rim: no hole
            continue
        area = cv2.contourArea(outline)
        small = area < 0.004 * mask.size
        if small or (
            area < 0.02 * mask.size and area > 0.92 * cv2.contourArea(cv2.convexHull(outline))
        ):
            cv2.drawContours(filled, outlines, number, (1,), cv2.FILLED)
    return filled


def _area_weighted_median(diameters: NDArray[np.float64]) -> float:
    # Weighted by area, so that platelets and specks do not count.
    if not diameters.size:
        return 0.0
    ordered = np.sort(diameters)
    weight = np.cumsum(ordered**2)
    return float(ordered[np.searchsorted(weight, weight[-1] / 2)])


def _round_diameters(
    mask: NDArray[np.uint8], without: NDArray[np.bool_], least_area: float
) -> NDArray[np.float64]:
    """Diameters of isolated round objects that lie whole in the image and outside `without`."""
    height, width = mask.shape
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for outline in outlines:
        x, y, w, h = cv2.boundingRect(outline)
        cut = x <= 1 or y <= 1 or x + w >= width - 1 or y + h >= height - 1
        area = cv2.contourArea(outline)
        if cut or area < least_area or max(w, h) > 1.35 * min(w, h):
            continue
        if without[y + h // 2, x + w // 2]:
            continue
        if area > 0.93 * cv2.contourArea(cv2.convexHull(outline)):
            found.append(2 * np.sqrt(area / np.pi))
    return np.array(found)


def _inscribed_diameters(
    mask: NDArray[np.uint8], without: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Diameters of the largest discs that fit into the foreground, one for each local maximum."""
    if mask.all():  # nothing bounds a disc
        return np.zeros(0)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    peaks = (
        (distance == cv2.dilate(distance, np.ones((9, 9), np.uint8))) & (distance > 2) & ~without
    )
    return np.asarray(2 * distance[peaks], dtype=np.float64)


def red_cell_diameter_px(
    flat: NDArray[np.uint8], without: NDArray[np.bool_] | None = None
) -> RedCellRuler:
    """Typical diameter of the red cells in pixels, good to about a factor of 1.5.

    Parameters
    ----------
    flat
        Image with a flat background, (y, x, rgb).
    without
        True where white cells lie, which are no measure of red ones; shape (y, x) of any size.

    Returns
    -------
    The diameter; a twentieth of the longer side when nothing that looks like cells is there.
    """
    longer = max(flat.shape[:2])
    shrink = longer / _SKETCH_PX
    size = (max(1, round(flat.shape[1] / shrink)), max(1, round(flat.shape[0] / shrink)))
    mode = cv2.INTER_AREA if shrink > 1 else cv2.INTER_LINEAR
    sketch = np.asarray(cv2.resize(flat, size, interpolation=mode), dtype=np.uint8)
    mask = _fill_pale_centres(foreground_mask(sketch).astype(np.uint8))
    left_out = _resized(without, size)
    inscribed = _area_weighted_median(_inscribed_diameters(mask, left_out))
    # In a small image, enlarged, the noise of the camera makes round objects.
    isolated = _round_diameters(mask, left_out, _LEAST_AREA_PX * max(1.0, 1 / shrink**2))
    typical = _area_weighted_median(isolated)
    # Platelets are round and isolated too where all red cells touch: larger discs tell on them.
    if isolated.size >= _LEAST_ROUND and typical > 0.6 * inscribed:
        return RedCellRuler(shrink * typical, True)
    if is_small(flat.shape):
        diameter = disc_diameter_px(flat, without)
        if diameter is not None:
            return RedCellRuler(diameter, True)
    return RedCellRuler(shrink * inscribed if inscribed else longer / 20, False)


def disc_diameter_px(
    flat: NDArray[np.uint8], without: NDArray[np.bool_] | None = None
) -> float | None:
    """Diameter of the red cells by dark discs alone; None where too few are of one size.

    Parameters as those of `red_cell_diameter_px`.
    """
    diameter, count = find_discs(flat, without).typical()
    shown = count * np.pi / 4 * diameter**2 / (flat.shape[0] * flat.shape[1])
    return diameter if count >= _LEAST_DISCS and shown > _LEAST_SHOWN else None


def _resized(mask: NDArray[np.bool_] | None, size: tuple[int, int]) -> NDArray[np.bool_]:
    if mask is None:
        return np.zeros((size[1], size[0]), dtype=np.bool_)
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)) > 0


@dataclass(frozen=True)
class Discs:
    """Discs of an image: radius in pixels and the share of the outline that is seen; both (disc,).

    The best seen come first.
    """

    radius_px: NDArray[np.float64]
    seen: NDArray[np.float64]

    def typical(self) -> tuple[float, int]:
        """Diameter in pixels of the size that covers most of the image, and how many have it."""
        if not self.radius_px.size:
            return 0.0, 0
        ratio = self.radius_px[:, None] / self.radius_px
        alike = (ratio < _ALIKE) & (ratio > 1 / _ALIKE)
        weight = self.seen * self.radius_px**2
        chosen = alike[int(np.argmax(alike @ weight))]
        return 2 * float(np.median(self.radius_px[chosen])), int(np.count_nonzero(chosen))


def find_discs(flat: NDArray[np.uint8], without: NDArray[np.bool_] | None = None) -> Discs:
    """Discs that are darker in green than what lies around them.

    Parameters
    ----------
    flat
        Image with a flat background, (y, x, rgb).
    without
        True where outlines do not count, shape (y, x) of any size.
    """
    shrink = max(1.0, max(flat.shape[:2]) / _DISC_SKETCH_PX)
    size = (max(1, round(flat.shape[1] / shrink)), max(1, round(flat.shape[0] / shrink)))
    sketch = cv2.resize(flat, size, interpolation=cv2.INTER_AREA) if shrink > 1 else flat
    points, normals = _edges(np.asarray(sketch[..., 1], dtype=np.uint8), without)
    found: list[tuple[float, float, float, float]] = []
    radius = _SMALLEST_PX
    while radius < _LARGEST * min(size) and len(points):
        found += _centres(points, normals, radius, (size[1], size[0]))
        radius *= _STEP
    kept = _once(found)
    return Discs(
        np.array([disc[1] * shrink for disc in kept]), np.array([disc[0] for disc in kept])
    )


def _edges(
    green: NDArray[np.uint8], without: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points on edges and the directions in which it gets brighter there; both (point, xy)."""
    smooth = cv2.GaussianBlur(green, (0, 0), 1.5)
    dx, dy = (cv2.Scharr(smooth, cv2.CV_16S, *axis) for axis in ((1, 0), (0, 1)))
    slope = np.hypot(dx.astype(np.float32), dy.astype(np.float32))
    scaled = np.clip(slope / 8, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    clear = max(8 * level, _FAINTEST_EDGE)
    edges = np.asarray(cv2.Canny(dx, dy, 0.5 * clear, clear, L2gradient=True)) > 0
    if without is not None:
        hidden = cv2.resize(
            without.astype(np.uint8), green.shape[::-1], interpolation=cv2.INTER_NEAREST
        )
        edges &= np.asarray(hidden) == 0
    y, x = np.nonzero(edges)
    normals = np.stack([dx[y, x], dy[y, x]], axis=1) / slope[y, x, None]
    return np.stack([x, y], axis=1).astype(np.float64), normals.astype(np.float64)


def _centres(
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    radius: float,
    shape: tuple[int, int],
) -> list[tuple[float, float, float, float]]:
    """Discs of one radius: share of the outline that is seen, radius, x and y in the sketch."""
    x, y = np.rint(points - radius * normals).astype(np.int64).T
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    cell = y[inside] * shape[1] + x[inside]
    votes = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)
    near = odd_disc(2 * _SCATTER * radius, 1)
    met = cv2.filter2D(votes, -1, near.astype(np.float32), borderType=cv2.BORDER_CONSTANT)
    seen = np.asarray(met, np.float32) / np.float32(2 * np.pi * radius)
    peaks = (seen > _LEAST_SEEN) & (seen == cv2.dilate(seen, np.ones_like(near)))
    return [
        (float(seen[row, column]), radius, float(column), float(row))
        for row, column in np.argwhere(peaks)
    ]


def _once(
    found: list[tuple[float, float, float, float]],
) -> list[tuple[float, float, float, float]]:
    """Of discs in nearly the same place the best seen."""
    kept: list[tuple[float, float, float, float]] = []
    for disc in sorted(found, reverse=True):
        if all(
            np.hypot(disc[2] - other[2], disc[3] - other[3]) > _APART * max(disc[1], other[1])
            for other in kept
        ):
            kept.append(disc)
    return kept
