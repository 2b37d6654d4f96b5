"""The sharpest height of a sweep through heights."""

from __future__ import annotations

import math
from collections.abc import Callable

from plsctl.acquire.errors import HardwareError

Sharpness = Callable[[float], float]
"""Goes to a height (um), takes an image and says how sharp it is."""

MIN_PEAK_RATIO = 1.05
"""A sweep whose peak exceeds its ends by less than this factor has found no focus."""

MAX_EXTENSIONS = 4


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
