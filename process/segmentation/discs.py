"""Dark discs in an image, found by their outlines: what tells the size of red cells.

Every edge point votes for the centres of the discs that it may bound: it knows the direction, from
bright to dark, and not the distance. Where a disc lies the votes of its whole outline meet. No
threshold parts cells from glass; cells may touch, overlap and be cut by the border, and pale
middles do not count, since they are bright inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.segmentation.background import odd_disc

_SKETCH_PX = 480
_SMALLEST_PX = 4.0  # radius in the sketch
_LARGEST = 0.5  # radius over the shorter side
_STEP = 1.12  # from one radius to the next
_SCATTER = 0.2  # of the radius: how far votes for one disc may lie apart
_LEAST_SEEN = 0.5  # of the outline
_APART = 0.8  # radii of the larger: nearer middles are those of one disc
_ALIKE = 1.25  # ratio of radii of red cells to that of the typical one
_FAINTEST_EDGE = 64.0  # Scharr's operator: a step of some 4 grey values


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
    shrink = max(1.0, max(flat.shape[:2]) / _SKETCH_PX)
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
    seen = np.asarray(met) / (2 * np.pi * radius)
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
