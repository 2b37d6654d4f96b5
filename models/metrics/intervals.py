"""Confidence intervals of counts and of means.

Those of counts are at least the exact ones, so that nothing seen in few cells does not pass for
never: drawing samples again (the bootstrap) says that what was never seen never happens. Those of
means are Student's, over cells, positions and slides, and counts take these where they are wider.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, chi2, t

from plsctl.models.metrics.similarity import Values

LEVEL = 0.95

Groups = tuple[NDArray[np.int64], ...]
"""The group of each value, at several levels."""

EVERYWHERE = (-np.inf, np.inf)
SHARE = (0.0, 1.0)


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


def groups_of(rows: pd.DataFrame) -> Groups:
    """The positions and slides of samples, as `mean_interval` takes them.

    Parameters
    ----------
    rows
        One a sample, with `slide` and `position` where they are known.
    """
    found = []
    for names in (["slide", "position"], ["slide"]):
        if set(names) <= set(rows.columns):
            keys = pd.MultiIndex.from_frame(rows[names].astype(str))
            found.append(np.asarray(pd.factorize(keys)[0], dtype=np.int64))
    return tuple(found)


def mean_interval(
    values: Values, groups: Groups = (), within: tuple[float, float] = EVERYWHERE
) -> tuple[float, float] | None:
    """Student's interval for the mean of values (n,); None for fewer than two.

    Cells of a position, and of a slide, are alike, so that there are fewer independent ones than
    cells. So intervals are made over cells, over positions and over slides (of the means' sums,
    robust against what is alike within), where there are two or more of them, and the widest
    holds. Of a handful of values the bootstrap's percentiles are too narrow.

    Parameters
    ----------
    groups
        Which group each value is of, (n,) for each level, see `groups_of`.
    within
        Smallest and largest mean that there can be.
    """
    return ratio_interval(values, np.ones_like(values), groups, within)


def ratio_interval(
    parts: Values, wholes: Values, groups: Groups = (), within: tuple[float, float] = EVERYWHERE
) -> tuple[float, float] | None:
    """The same for sum(parts) / sum(wholes) over samples, both (n,)."""
    total = float(wholes.sum())
    if len(parts) < 2 or not total:
        return None
    ratio = float(parts.sum()) / total
    off = parts - ratio * wholes
    half = 0.0
    for level in (np.arange(len(parts)), *groups):
        count = len(np.unique(level))
        if count < 2:
            continue
        sums = np.bincount(level, off)
        error = np.sqrt(count / (count - 1) * float(sums @ sums)) / total
        half = max(half, float(t.ppf((1 + LEVEL) / 2, count - 1)) * float(error))
    return max(ratio - half, within[0]), min(ratio + half, within[1])


def measured_mean(
    values: Values, groups: Groups = (), within: tuple[float, float] = EVERYWHERE
) -> dict[str, object] | None:
    """`mean` and `ci95` of the values that are numbers, or None; ends are None for one of them."""
    known = np.isfinite(values)
    if not known.any():
        return None
    chosen = values[known]
    found = mean_interval(chosen, tuple(level[known] for level in groups), within)
    return {"mean": float(chosen.mean()), "ci95": list(found or (None, None))}


def measured_share(
    counts: NDArray[np.int64], of: NDArray[np.int64], groups: Groups = ()
) -> dict[str, object] | None:
    """`mean` and `ci95` of a share over samples; None where there is nothing to count.

    Parameters
    ----------
    counts, of
        How many things of each sample have the property, and how many there are, both (n,).
    groups
        As for `mean_interval`: the interval is the wider one of the exact one, as if all things
        were independent, and of that over samples, positions and slides.
    """
    count, total = int(counts.sum()), int(of.sum())
    if not total:
        return None
    return _measured(counts, of, share_interval(count, total), groups, SHARE)


def measured_rate(
    counts: NDArray[np.int64], of: NDArray[np.int64], groups: Groups = ()
) -> dict[str, object] | None:
    """The same of events for each thing, of which there may be more than things."""
    count, total = int(counts.sum()), int(of.sum())
    if not total:
        return None
    return _measured(counts, of, rate_interval(count, total), groups, (0.0, np.inf))


def _measured(
    counts: NDArray[np.int64],
    of: NDArray[np.int64],
    exact: tuple[float, float],
    groups: Groups,
    within: tuple[float, float],
) -> dict[str, object]:
    parts, wholes = counts.astype(np.float64), of.astype(np.float64)
    ends = [exact]
    over = ratio_interval(parts, wholes, groups, within)
    if over is not None:
        ends.append(over)
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return {"mean": float(parts.sum() / wholes.sum()), "ci95": [low, high]}
