"""The sharpest height of a sweep through heights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from plsctl.acquire.errors import HardwareError


class NoFocus(HardwareError):
    """A search has found no focus; the microscope itself is sound."""


Sharpness = Callable[[float], float]
"""Goes to a height (um), takes an image and says how sharp it is."""

MIN_PEAK_RATIO = 1.05
"""A sweep whose peak exceeds its ends by less than this factor has found no focus."""

MAX_EXTENSIONS = 4


ANYWHERE = (-math.inf, math.inf)


def sweep(
    sharpness: Sharpness,
    centre_um: float,
    half_range_um: float,
    step_um: float,
    limits_um: tuple[float, float] = ANYWHERE,
) -> tuple[float, float]:
    """The height of greatest sharpness near `centre_um` and the sharpness there.

    A peak at the end of the range moves the range, as far as the limits allow; a parabola through
    the peak and its neighbours gives the height between the steps.

    Raises
    ------
    NoFocus
        No peak: nothing to focus on, or focus lies elsewhere.
    """
    count = max(3, 2 * math.ceil(half_range_um / step_um) + 1)
    values: dict[int, float] = {}
    middle = best = 0
    low, high = limits_um
    for _ in range(MAX_EXTENSIONS):
        for index in range(middle - count // 2, middle + count // 2 + 1):
            if index not in values and low <= centre_um + index * step_um <= high:
                values[index] = sharpness(centre_um + index * step_um)
        best = max(values, key=values.__getitem__, default=0)
        if not values or min(values) < best < max(values):
            break
        middle = best
    reached = [centre_um + index * step_um for index in (*values, best)]
    steps = sorted(values)
    if not (steps and is_peak([values[step] for step in steps], steps.index(best))):
        raise no_focus(centre_um, half_range_um, min(reached), max(reached), limits_um)
    before, peak, after = values[best - 1], values[best], values[best + 1]
    curvature = before - 2 * peak + after
    offset = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return centre_um + (best + offset) * step_um, peak


def is_peak(values: Sequence[float], best: int) -> bool:
    """Whether the best value of a sweep is no end of it, and exceeds both."""
    # So written that a sharpness that is no number is none.
    return 0 < best < len(values) - 1 and values[best] >= MIN_PEAK_RATIO * max(
        values[0], values[-1]
    )


def no_focus(
    centre_um: float,
    half_range_um: float,
    lowest_um: float,
    highest_um: float,
    limits_um: tuple[float, float],
) -> NoFocus:
    """The error of a search that went from the lowest to the highest height in vain."""
    low, high = limits_um
    is_cut = lowest_um - half_range_um < low or highest_um + half_range_um > high
    ends = f" The objective's limits ({low:g} to {high:g} µm) end the search." if is_cut else ""
    return NoFocus(
        f"no focus was found around z = {centre_um:.1f} µm (searched {lowest_um:.1f} to "
        f"{highest_um:.1f} µm).{ends}",
        hint="Focus by hand once and set 'focus_z_um' in the hardware file, check that the slide "
        "has cells there, or widen 'focus.range_um' in the slide file.",
    )


def find_focus(
    sharpness: Sharpness,
    centre_um: float,
    half_range_um: float,
    step_um: float,
    limits_um: tuple[float, float] = ANYWHERE,
) -> tuple[float, float]:
    """A coarse sweep over the whole range, then a fine one about its peak; see `sweep`."""
    coarse_um = max(step_um, half_range_um / 6)
    if coarse_um >= 2 * step_um:
        centre_um, _ = sweep(sharpness, centre_um, half_range_um, coarse_um, limits_um)
        half_range_um = coarse_um
    return sweep(sharpness, centre_um, max(half_range_um, 2 * step_um), step_um, limits_um)
