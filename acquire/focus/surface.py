"""The surface of focus over a slide: a tilted plane, what departs from it, and drift.

A Gaussian process (C. E. Rasmussen, C. K. I. Williams: Gaussian Processes for Machine Learning, MIT
Press 2006, section 2.7): every measured height refines the whole surface, the more the nearer it
was taken. Time is counted in positions, so that a pass that was interrupted goes on as it would
have without that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.focus.plane import FocusPoint

OFFSET_UM = 1000.0
"""How far the surface may lie from the mean of what was measured: as good as anywhere."""

SLOPE_UM_PER_MM = 10.0
"""Usual tilt of a slide on its stage, at most."""

BOW_UM, BOW_LENGTH_MM = 2.0, 5.0
"""How far a slide bulges from a plane, and over which distance."""

DRIFT_UM = 0.15
"""Usual steady drift from each position to the next: what was seen of it is continued."""

WANDER_UM2 = 0.03
"""Variance that each position adds to that."""

ERROR_UM = 0.3
"""Of a measured height."""


class FocusSurface:
    """Heights of focus at any place and step of a pass, from those measured so far.

    Parameters
    ----------
    points
        Measured heights; more may follow (`add`).
    """

    def __init__(self, points: Sequence[FocusPoint] = ()) -> None:
        self.points = list(points)
        self._solved: tuple[NDArray[np.float64], float] | None = None

    def add(self, point: FocusPoint) -> None:
        """Refine the surface by one more height."""
        self.points.append(point)
        self._solved = None

    def z_um(self, x_um: float, y_um: float, step: float) -> float:
        """The height at a stage position after so many steps; zero where nothing was measured."""
        if not self.points:
            return 0.0
        known = _coordinates(self.points)
        if self._solved is None:
            heights = np.array([point.z_um for point in self.points])
            mean = float(heights.mean())
            covariance = _covariance(known, known) + ERROR_UM**2 * np.eye(len(known))
            self._solved = (np.asarray(np.linalg.solve(covariance, heights - mean)), mean)
        weights, mean = self._solved
        here = np.array([[x_um / 1000, y_um / 1000, step]])
        return mean + float(_covariance(here, known, known)[0] @ weights)

    def error_um(self, x_um: float, y_um: float, step: float) -> float:
        """Standard deviation of a height measured there from what the surface says."""
        if not self.points:
            return OFFSET_UM
        known = _coordinates(self.points)
        here = np.array([[x_um / 1000, y_um / 1000, step]])
        covariance = _covariance(known, known) + ERROR_UM**2 * np.eye(len(known))
        towards = _covariance(here, known, known)[0]
        told = float(towards @ np.linalg.solve(covariance, towards))
        own = float(_covariance(here, here, known)[0, 0])
        return float(np.sqrt(max(own - told, 0.0) + ERROR_UM**2))


def _coordinates(points: Sequence[FocusPoint]) -> NDArray[np.float64]:
    """Millimetres and steps, shape (point, 3)."""
    return np.array([[p.x_um / 1000, p.y_um / 1000, p.step] for p in points])


def _covariance(
    one: NDArray[np.float64], other: NDArray[np.float64], known: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Covariance of heights, um^2, at places and steps (n, 3) and (m, 3); shape (n, m)."""
    middle = (other if known is None else known).mean(axis=0)
    (a, since_a), (b, since_b) = ((p[:, :2], p[:, 2]) for p in (one - middle, other - middle))
    squared = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    apart = np.abs(since_a[:, None] - since_b[None])
    covariance: NDArray[np.float64] = (
        OFFSET_UM**2
        + SLOPE_UM_PER_MM**2 * (a @ b.T)
        + BOW_UM**2 * np.exp(-squared / (2 * BOW_LENGTH_MM**2))
        + DRIFT_UM**2 * np.outer(since_a, since_b)
        - WANDER_UM2 / 2 * apart
    )
    return covariance
