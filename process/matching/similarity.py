"""Shift, rotation and scale in one: the similarity that carries one image's pixels into another."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Similarity:
    """q = factor p + offset, with points x + iy as complex numbers (x right, y down)."""

    factor: complex = 1 + 0j
    offset: complex = 0j

    @classmethod
    def about(
        cls,
        here: tuple[float, float],
        there: tuple[float, float],
        rotation_deg: float = 0.0,
        scale: float = 1.0,
    ) -> Similarity:
        """The similarity with that rotation and scale that carries `here` to `there` (x, y)."""
        factor = cmath.rect(scale, math.radians(rotation_deg))
        return cls(factor, complex(*there) - factor * complex(*here))

    @property
    def scale(self) -> float:
        """Pixels of the second image to one of the first."""
        return abs(self.factor)

    @property
    def rotation_deg(self) -> float:
        """How far the content is turned, from x (right) towards y (down)."""
        return math.degrees(cmath.phase(self.factor))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The same as an affine map, shape (2, 3), on (x, y)."""
        f, t = self.factor, self.offset
        return np.array([[f.real, -f.imag, t.real], [f.imag, f.real, t.imag]])

    @property
    def inverse(self) -> Similarity:
        """From the second image back to the first."""
        return Similarity(1 / self.factor, -self.offset / self.factor)

    def then(self, following: Similarity) -> Similarity:
        """Apply this one, then the following one."""
        return Similarity(
            following.factor * self.factor, following.factor * self.offset + following.offset
        )

    def apply(self, points: Points) -> Points:
        """Points (n, 2) carried over."""
        moved = self.factor * as_complex(points) + self.offset
        return np.stack([moved.real, moved.imag], axis=-1)

    def apply_to(self, x: float, y: float) -> tuple[float, float]:
        """One point carried over."""
        moved = self.factor * complex(x, y) + self.offset
        return moved.real, moved.imag


def as_complex(points: Points) -> NDArray[np.complex128]:
    """Points (..., 2) as x + iy."""
    return np.asarray(points[..., 0] + 1j * points[..., 1])


def fit_similarity(before: Points, after: Points, *, rigid: bool = False) -> Similarity | None:
    """Least-squares similarity through pairs of points, both (n, 2); None where they coincide.

    `rigid` keeps the scale at one.
    """
    p, q = as_complex(before), as_complex(after)
    if len(p) < 2:
        return None
    spread = p - p.mean()
    power = float((np.abs(spread) ** 2).sum())
    if power <= 0:
        return None
    factor = complex((np.conj(spread) @ (q - q.mean())) / power)
    if rigid:
        if factor == 0:
            return None
        factor /= abs(factor)
    return Similarity(factor, complex(q.mean() - factor * p.mean()))


def robust_similarity(
    before: Points, after: Points, tolerance: float, *, rigid: bool = False, least: int = 4
) -> tuple[Similarity, NDArray[np.bool_]] | None:
    """Similarity through most of the pairs, and which of them it keeps; None with too few.

    Begins with the pairs nearest to the usual shift, so that `after` must lie near `before` (an
    earlier guess applied), and leaves out what is farther than `tolerance`.
    """
    if len(before) < least:
        return None
    shift = as_complex(after) - as_complex(before)
    usual = np.median(shift.real) + 1j * np.median(shift.imag)
    kept = np.abs(shift - usual) < 6 * tolerance
    found: Similarity | None = None
    for step in range(12):
        if kept.sum() < least:
            return None
        found = fit_similarity(before[kept], after[kept], rigid=rigid)
        if found is None:
            return None
        off = np.linalg.norm(found.apply(before) - after, axis=1)
        now = off < tolerance * max(1.0, 3.0 - step)
        if step >= 3 and (now == kept).all():
            break
        kept = now
    return None if found is None else (found, kept)
