"""Confidence intervals of counts and of means.

Those of counts are exact, so that nothing seen in few cells does not pass for never: drawing
samples again (the bootstrap) says that what was never seen never happens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2, t

LEVEL = 0.95


def share_interval(count: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of Clopper and Pearson for the share of things that have a property.

    Parameters
    ----------
    count, of
        How many have it, and how many there are, at least one.
    """
    tail = (1 - level) / 2
    low = beta.ppf(tail, count, of - count + 1) if count else 0.0
    high = beta.ppf(1 - tail, count + 1, of - count) if count < of else 1.0
    return float(low), float(high)


def rate_interval(count: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval for the number of events (Poisson, Garwood) for each of `of` things."""
    tail = (1 - level) / 2
    low = chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    high = chi2.ppf(1 - tail, 2 * count + 2) / 2
    return float(low) / of, float(high) / of


def mean_interval(values: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float] | None:
    """Student's interval for the mean of values (n,); None for fewer than two.

    Of a handful of values the bootstrap's percentiles are too narrow.
    """
    count = len(values)
    if count < 2:
        return None
    half = float(t.ppf((1 + level) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count))
    mean = float(values.mean())
    return mean - half, mean + half


def measured_share(count: int, of: int) -> dict[str, object] | None:
    """`mean` and `ci95` of a share; None where there is nothing to count."""
    return {"mean": count / of, "ci95": list(share_interval(count, of))} if of else None


def measured_rate(count: int, of: int) -> dict[str, object] | None:
    """`mean` and `ci95` of events for each thing; None where there are no things."""
    return {"mean": count / of, "ci95": list(rate_interval(count, of))} if of else None
