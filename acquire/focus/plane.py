"""Focus: z sweeps at a few points and a plane through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import HardwareError

Sharpness = Callable[[float], float]
"""Goes to a height (um), takes an image and says how sharp it is."""

MIN_PEAK_RATIO = 1.05
"""A sweep whose peak stands out less than this over its ends has found nothing."""

MAX_EXTENSIONS = 4


@dataclass(frozen=True)
class FocusPoint:
    """Where focus was found."""

    x_um: float
    y_um: float
    z_um: float
    sharpness: float


@dataclass(frozen=True)
class FocusPlane:
    """z = z0 + slope_x x + slope_y y, in stage micrometres."""

    z0_um: float
    slope_x: float
    slope_y: float

    def z_um(self, x_um: float, y_um: float) -> float:
        """The height of focus at a stage position."""
        return self.z0_um + self.slope_x * x_um + self.slope_y * y_um


def sweep(
    sharpness: Sharpness, centre_um: float, half_range_um: float, step_um: float
) -> tuple[float, float]:
    """The height of greatest sharpness near `centre_um` and the sharpness there.

    A peak at the end of the range moves the range; a parabola through the peak and its
    neighbours gives the height between the steps.

    Raises
    ------
    HardwareError
        No peak: nothing to focus on, or focus lies elsewhere.
    """
    count = max(3, 2 * math.ceil(half_range_um / step_um) + 1)
    values: dict[int, float] = {}
    middle = 0
    for _ in range(MAX_EXTENSIONS):
        for index in range(middle - count // 2, middle + count // 2 + 1):
            if index not in values:
                values[index] = sharpness(centre_um + index * step_um)
        best = max(values, key=values.__getitem__)
        if min(values) < best < max(values):
            break
        middle = best
    else:
        raise _no_focus(centre_um, half_range_um)
    ends = max(values[min(values)], values[max(values)])
    if values[best] < MIN_PEAK_RATIO * ends:
        raise _no_focus(centre_um, half_range_um)
    before, peak, after = values[best - 1], values[best], values[best + 1]
    curvature = before - 2 * peak + after
    offset = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return centre_um + (best + offset) * step_um, peak


def _no_focus(centre_um: float, half_range_um: float) -> HardwareError:
    return HardwareError(
        f"no focus was found around z = {centre_um:.1f} µm (searched {half_range_um:g} µm "
        "either way and beyond).",
        hint="Focus by hand once and set 'focus_z_um' in the hardware file, check that the slide "
        "has cells there, or widen 'focus.range_um' in the slide file.",
    )


def find_focus(
    sharpness: Sharpness, centre_um: float, half_range_um: float, step_um: float
) -> tuple[float, float]:
    """A coarse sweep over the whole range, then a fine one about its peak."""
    coarse_um = max(step_um, half_range_um / 6)
    if coarse_um >= 2 * step_um:
        centre_um, _ = sweep(sharpness, centre_um, half_range_um, coarse_um)
        half_range_um = coarse_um
    return sweep(sharpness, centre_um, max(half_range_um, 2 * step_um), step_um)


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
