"""LEDs that have become dim since an earlier calibration.

What an LED gives is the reciprocal of the exposure that its image needs. In dark field that follows
the sample and falls steeply with the angle: so each LED is compared with its own light of before,
corrected by what its change of angle explains, and with LEDs as steep, which see the same sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plsctl.process.calibration.exchange import usual


def light_left(
    now: NDArray[np.float64],
    before: NDArray[np.float64],
    steep_now: NDArray[np.float64],
    steep_table: NDArray[np.float64],
    na: float,
) -> NDArray[np.float64]:
    """What is left of each LED's light, 1 for most and NaN where it is not known, shape (LED,).

    Parameters
    ----------
    now, before
        Light of each LED in any unit; NaN where it is not known.
    steep_now, steep_table
        |s| of each LED as it is now and by the table. Before, the array stood in one of the two
        ways: the one that explains the light better.
    na
        Aperture that divides bright field from dark field.
    """
    ways = [_left(now, before, steep_now, steep, na) for steep in (steep_table, steep_now)]
    return min(ways, key=lambda left: float(np.nanmedian(np.abs(np.log(left)))))


def _left(
    now: NDArray[np.float64],
    before: NDArray[np.float64],
    steep_now: NDArray[np.float64],
    steep_before: NDArray[np.float64],
    na: float,
) -> NDArray[np.float64]:
    left = np.full(len(now), np.nan)
    known = np.isfinite(now) & np.isfinite(before) & (now > 0) & (before > 0)
    # An LED that has crossed the rim of the aperture gives another kind of image.
    for group in ((steep_now < na) & (steep_before < na), (steep_now >= na) & (steep_before >= na)):
        leds = np.flatnonzero(known & group)
        if len(leds) < 3:
            continue
        change = np.log(now[leds] / before[leds])
        change -= _slope(np.log(now[leds]), steep_now[leds]) * (
            steep_now[leds] - steep_before[leds]
        )
        left[leds] = np.exp(change - usual(change, steep_now[leds]))
    return left


def _slope(light: NDArray[np.float64], steepness: NDArray[np.float64]) -> float:
    """How the logarithm of the light changes with |s|: the median over all pairs of LEDs."""
    one, other = np.triu_indices(len(light), 1)
    apart = steepness[other] - steepness[one]
    far = np.abs(apart) > 0.3 * np.abs(apart).max()
    return float(np.median((light[other] - light[one])[far] / apart[far])) if far.any() else 0.0
