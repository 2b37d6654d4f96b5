"""Where one image overlaps another, shifted by any amount and turned by a few degrees.

Correlation normalised over the overlap of each shift (equation A.1 of papers/002 where neither
image holds the other, with the means of the overlap taken out), for every shift by Fourier
transforms and for a series of angles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from plsctl.acquire.arrays import FloatArray
from plsctl.process.matching.correlation import LEAST_VARIANCE, best_place

ANGLES_DEG = tuple(0.5 * step for step in range(-6, 7))
"""Angles that are tried: a slide put back by hand is turned by less."""

LEAST_OVERLAP = 0.15
"""Least overlap, as a share of the smaller image; less matches by chance."""

LEAST_SCORE = 0.25
"""Correlation of edges that are the same; those of other cells stay below 0.15."""


@dataclass(frozen=True)
class Overlap:
    """Where the middle of one image lies against the middle of the other, in pixels.

    What lies at p in the reference, against its middle, lies at R(rotation) (p - (dx, dy)) in the
    moving image against its own. `score` is the correlation there, and `second_ratio` how near
    the best other place comes to it, both weighted by how much of the images overlaps.
    """

    dx: float
    dy: float
    rotation_deg: float
    score: float
    second_ratio: float

    def trusted(self, most_second_ratio: float = 0.75) -> bool:
        """Whether the place fits, and no other one nearly as well."""
        return self.score >= LEAST_SCORE and self.second_ratio <= most_second_ratio


def find_overlap(
    reference: FloatArray,
    moving: FloatArray,
    covered: NDArray[np.bool_] | None = None,
    angles_deg: Sequence[float] = ANGLES_DEG,
    reach_px: float | None = None,
    apart_px: int = 12,
) -> Overlap:
    """The best of all shifts and angles.

    Parameters
    ----------
    reference
        Image, (y, x), for instance of edges.
    moving
        The image that is looked for in it, (y, x).
    covered
        Which pixels of the reference are known, (y, x); all by default.
    angles_deg
        Angles by which `moving` may be turned against `reference`.
    reach_px
        Largest shift of the middles against each other along x or y; as far as they overlap by
        default.
    apart_px
        A second place nearer than this to the best is the same one.
    """
    known = np.ones(reference.shape, np.bool_) if covered is None else covered
    limits = [
        (a + b) // 2 if reach_px is None else min(math.ceil(reach_px), (a + b) // 2)
        for a, b in zip(reference.shape, moving.shape, strict=True)
    ]
    correlator = _Correlator(reference, known, moving, (limits[0], limits[1]))
    best: FloatArray | None = None
    angles = np.zeros(1)
    for angle in angles_deg:
        scores = correlator.scores(_turned(moving, angle))
        if best is None:
            best, angles = scores, np.full(scores.shape, angle)
        else:
            better = scores > best
            best[better], angles[better] = scores[better], angle
    if best is None:
        raise ValueError("find_overlap needs an angle")
    found = best_place(best, radius_px=apart_px)
    row, column = (int(i) for i in np.unravel_index(int(best.argmax()), best.shape))
    # Where sides differ by an odd number of pixels, the middles lie half a pixel apart at best.
    odd_y, odd_x = ((a - b) % 2 / 2 for a, b in zip(reference.shape, moving.shape, strict=True))
    return Overlap(
        found.dx - limits[1] - odd_x,
        found.dy - limits[0] - odd_y,
        float(angles[row, column]),
        correlator.score(_turned(moving, float(angles[row, column])), row, column),
        found.second_ratio,
    )


def _turned(moving: FloatArray, angle_deg: float) -> FloatArray:
    """The moving image turned back by an angle about its middle."""
    if angle_deg == 0:
        return moving
    height, width = moving.shape
    grid = turn_grid((width - 1) / 2, (height - 1) / 2, angle_deg)
    turned = cv2.warpAffine(
        moving,
        grid,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float(moving.mean()),
    )
    return np.asarray(turned, np.float32)


def turn_grid(
    x: float, y: float, angle_deg: float, target: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Affine map (2, 3) from an upright image to one turned by an angle: `target` goes to (x, y).

    `target` is (x, y) itself by default.
    """
    u, v = (x, y) if target is None else target
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[cosine, -sine, x - cosine * u + sine * v],
                     [sine, cosine, y - sine * u - cosine * v]])  # fmt: skip


class _Correlator:
    """Correlation of a reference with moving images of one shape, over all shifts within limits.

    Single precision is enough: its rounding lies far below the least variance that is divided by.
    The sums over the overlap hardly change with a few degrees, so that each further angle costs
    two transforms; `score` is exact.
    """

    def __init__(
        self,
        reference: FloatArray,
        known: NDArray[np.bool_],
        moving: FloatArray,
        limits: tuple[int, int],
    ) -> None:
        self._limits = limits
        sides = list(zip(reference.shape, moving.shape, limits, strict=True))
        # Room for the moving image at its farthest shift: nothing wraps round.
        rows, columns = (
            fft.next_fast_len(-(-(a + b) // 2) + limit, real=True) for a, b, limit in sides
        )
        self._shape = (rows, columns)
        self._corner = [(a - b) // 2 for a, b, _ in sides]
        self._known = known
        seen = max(float(np.count_nonzero(known)), 1.0)
        mean = float((reference * known).sum(dtype=np.float64)) / seen
        self._fixed = ((reference - np.float32(mean)) * known).astype(np.float32)
        middle = moving - np.float32(_mean(moving))
        squares = self._fixed**2, middle**2
        self._least = (
            LEAST_VARIANCE * float(squares[0].sum()) / seen,
            LEAST_VARIANCE * _mean(squares[1]),
        )
        self._reference = self._transform(self._fixed)
        ones, mask = self._transform(np.ones_like(moving)), self._transform(known)
        count = np.maximum(np.rint(self._correlation(mask, ones)), 1.0)
        sum_fixed = self._correlation(self._reference, ones)
        sum_moved = self._correlation(mask, self._transform(middle))
        powers = [
            np.maximum(self._correlation(*pair) - total**2 / count, least * count)
            for pair, total, least in (
                ((self._transform(squares[0]), ones), sum_fixed, self._least[0]),
                ((mask, self._transform(squares[1])), sum_moved, self._least[1]),
            )
        ]
        self._means = sum_fixed * sum_moved / count
        scale = np.sqrt(powers[0]) * np.sqrt(powers[1])
        share = np.minimum(count / max(min(seen, float(moving.size)), 1.0), 1.0)
        # The spread of chance correlations falls with the root of what overlaps.
        self._weight = np.where(share >= LEAST_OVERLAP, np.sqrt(share), 0.0).astype(np.float32)
        # Where an image is flat everywhere there is nothing to correlate.
        self._inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)

    def _transform(self, image: NDArray[Any]) -> NDArray[np.complex64]:
        return np.asarray(fft.rfft2(image.astype(np.float32), self._shape), dtype=np.complex64)

    def _correlation(
        self, fixed: NDArray[np.complex64], moved: NDArray[np.complex64]
    ) -> NDArray[np.float32]:
        """Sum of fixed(p + shift) moved(p): rows and columns are shifts of the middles."""
        full = fft.irfft2(fixed * np.conj(moved), self._shape)
        rows, columns = (
            np.arange(-limit, limit + 1) + corner
            for limit, corner in zip(self._limits, self._corner, strict=True)
        )
        return np.asarray(full[np.ix_(rows % self._shape[0], columns % self._shape[1])], np.float32)

    def scores(self, moving: FloatArray) -> FloatArray:
        """Weighted correlation for each shift, from -1 to 1, shape (y shifts, x shifts)."""
        product = self._correlation(
            self._reference, self._transform(moving - np.float32(_mean(moving)))
        )
        plain = (product - self._means) * self._inverse
        return np.asarray(np.clip(plain, -1, 1) * self._weight, dtype=np.float32)

    def score(self, moving: FloatArray, row: int, column: int) -> float:
        """The correlation itself at one shift of the map, summed over the overlap."""
        here, there = [], []
        for index, limit, corner, a, b in zip(
            (row, column), self._limits, self._corner, self._fixed.shape, moving.shape, strict=True
        ):
            shift = index - limit + corner
            here.append(slice(max(0, shift), min(a, shift + b)))
            there.append(slice(max(0, -shift), min(b, a - shift)))
        known = self._known[here[0], here[1]]
        count = max(float(np.count_nonzero(known)), 1.0)
        one = self._fixed[here[0], here[1]]
        other = (moving[there[0], there[1]] - np.float32(_mean(moving))) * known
        sums = float(one.sum()), float(other.sum())
        powers = [
            max(float((image * image).sum()) - total**2 / count, least * count)
            for image, total, least in zip((one, other), sums, self._least, strict=True)
        ]
        scale = math.sqrt(powers[0]) * math.sqrt(powers[1])
        product = float((one * other).sum()) - sums[0] * sums[1] / count
        return min(1.0, max(-1.0, product / scale)) if scale > 0 else 0.0


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else 0.0
