"""The plane of focus: fitted through a few points that lie far apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FocusPoint:
    """Where focus was found, and after how many positions of the pass."""

    x_um: float
    y_um: float
    z_um: float
    step: float = 0.0


@dataclass(frozen=True)
class FocusPlane:
    """z = z0 + slope_x x + slope_y y, in stage micrometres."""

    z0_um: float
    slope_x: float
    slope_y: float

    def z_um(self, x_um: float, y_um: float) -> float:
        """The height of focus at a stage position."""
        return self.z0_um + self.slope_x * x_um + self.slope_y * y_um


def fit_plane(points: Sequence[FocusPoint]) -> FocusPlane:
    """The plane through focus points; one point gives its height, two a line along them."""
    places = np.array([[point.x_um, point.y_um] for point in points])
    heights = np.array([point.z_um for point in points])
    centre = places.mean(axis=0)
    slopes = _slopes(places - centre, heights - heights.mean())
    z0 = float(heights.mean() - centre @ slopes)
    return FocusPlane(z0, float(slopes[0]), float(slopes[1]))


def _slopes(places: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    # The pseudo-inverse leaves slopes at zero in directions in which no points lie.
    slopes: NDArray[np.float64] = np.linalg.pinv(places, rcond=1e-3) @ heights
    return slopes


def spread_points(places: Sequence[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """At most `count` of the places, far from one another, the first one nearest the middle."""
    if not places:
        return []
    grid = np.array(places, dtype=np.float64)
    start = int(np.argmin(np.linalg.norm(grid - grid.mean(axis=0), axis=1)))
    chosen = [start]
    nearest = np.linalg.norm(grid - grid[start], axis=1)
    while len(chosen) < min(count, len(places)):
        farthest = int(np.argmax(nearest))
        if nearest[farthest] == 0:
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, np.linalg.norm(grid - grid[farthest], axis=1))
    return [places[index] for index in chosen]


def grid_points(
    places: Sequence[tuple[float, float]], spacing_um: float
) -> list[tuple[float, float]]:
    """Of each square of a coarse grid the place nearest its middle, row by row, to and fro."""
    if not places:
        return []
    low = np.array(places, dtype=np.float64).min(axis=0)
    nearest: dict[tuple[int, int], tuple[float, tuple[float, float]]] = {}
    for place in places:
        across, down = (np.array(place) - low) / spacing_um
        square = (int(down), int(across))
        off = max(abs(across - square[1] - 0.5), abs(down - square[0] - 0.5))
        nearest[square] = min(nearest.get(square, (np.inf, place)), (float(off), place))
    order = sorted(nearest, key=lambda s: (s[0], s[1] if s[0] % 2 == 0 else -s[1]))
    return [nearest[square][1] for square in order]
