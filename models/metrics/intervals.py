"""Confidence intervals of counts and of means.

Those of counts are exact, so that nothing seen in few cells does not pass for never: drawing
samples again (the bootstrap) says that what was never seen never happens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2, t

from plsctl.models.metrics.similarity import Values

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


def bootstrap_interval(
    values: Values, seed: int = 0, repeats: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean when samples are drawn again with replacement.

    Of the differences between two predictions of the same samples it is the paired interval.
    """
    return bootstrap_ratio(values, np.ones_like(values), seed, repeats, level)


def bootstrap_ratio(
    parts: Values, wholes: Values, seed: int = 0, repeats: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(parts) / sum(wholes) over samples, both (n,).

    Draws without any whole are left out.
    """
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(repeats // 100):
        drawn = rng.integers(0, len(parts), (100, len(parts)))
        sums = wholes[drawn].sum(axis=1)
        ratios.append(parts[drawn].sum(axis=1)[sums > 0] / sums[sums > 0])
    low, high = np.quantile(np.concatenate(ratios), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
