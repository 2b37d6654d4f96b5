"""Intervals of counts against the definition: what they exclude is seen in 2.5 % of the cases.

Those of means against how often they hold what they should.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from plsctl.models.metrics.intervals import (
    SHARE,
    groups_of,
    mean_interval,
    measured_mean,
    measured_rate,
    measured_share,
    rate_interval,
    ratio_interval,
    share_interval,
)


def test_ends_of_a_share_are_where_the_count_becomes_unlikely() -> None:
    low, high = share_interval(3, 10)
    at_least = sum(math.comb(10, k) * low**k * (1 - low) ** (10 - k) for k in range(3, 11))
    at_most = sum(math.comb(10, k) * high**k * (1 - high) ** (10 - k) for k in range(4))
    assert at_least == pytest.approx(0.025) and at_most == pytest.approx(0.025)
    # None of 20: the end is where (1 - p)^20 = 2.5 %.
    assert share_interval(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert share_interval(20, 20) == pytest.approx((0.025 ** (1 / 20), 1))
    none = np.zeros(3, np.int64)
    assert measured_share(none, none) is None and measured_rate(none, none) is None
    assert measured_share(none, np.full(3, 7), (none,)) == {
        "mean": 0.0,
        "ci95": list(share_interval(0, 21)),
    }


def test_ends_of_a_rate_are_where_the_count_becomes_unlikely() -> None:
    low, high = rate_interval(2, 50)
    more = 1 - math.exp(-50 * low) * (1 + 50 * low)
    fewer = math.exp(-50 * high) * (1 + 50 * high + (50 * high) ** 2 / 2)
    assert more == pytest.approx(0.025) and fewer == pytest.approx(0.025)
    assert rate_interval(0, 10) == pytest.approx((0, -math.log(0.025) / 10))


def test_the_interval_of_few_cells_is_students() -> None:
    values = np.array([0.41, 0.52, 0.47, 0.44, 0.5])
    # t of 4 degrees of freedom: 2.776.
    half = 2.776445 * values.std(ddof=1) / 5**0.5
    found = mean_interval(values)
    assert found == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-6)
    assert mean_interval(values[:1]) is None
    assert measured_mean(np.array([0.5, np.nan])) == {"mean": 0.5, "ci95": [None, None]}
    shares = mean_interval(np.array([1.0, 1.0, 0.7]), within=SHARE)
    assert shares is not None and shares[1] == 1


@pytest.mark.parametrize(
    ("slides", "positions", "cells", "of_slides", "of_positions"),
    [(1, 1, 11, 0, 0), (1, 8, 5, 0, 1), (3, 4, 5, 1, 0.5), (5, 1, 4, 1, 0), (6, 5, 4, 0, 0)],
    ids=["few cells", "positions differ", "three slides", "slides of few cells", "all alike"],
)
def test_intervals_hold_the_mean_though_cells_of_a_place_are_alike(
    slides: int, positions: int, cells: int, of_slides: float, of_positions: float
) -> None:
    rng = np.random.default_rng(0)
    slide, position, _ = (each.ravel() for each in np.indices((slides, positions, cells)))
    groups = groups_of(pd.DataFrame({"slide": slide, "position": position}))
    held = 0
    for _ in range(400):
        values = rng.normal(0, 1, len(slide))
        values += rng.normal(0, of_slides, slides)[slide]
        values += rng.normal(0, of_positions, (slides, positions))[slide, position]
        low, high = mean_interval(values, groups) or (np.nan, np.nan)
        held += low <= 0 <= high
    assert held >= 0.92 * 400  # 95 % with the chance of 400 draws


@pytest.mark.parametrize("measured", [measured_share, measured_rate])
@pytest.mark.parametrize(
    ("slides", "positions", "cells", "spread"),
    [(1, 1, 12, 0.0), (1, 8, 5, 2.0), (5, 4, 6, 2.0), (6, 5, 4, 0.0)],
    ids=["few cells", "positions differ", "slides differ", "all alike"],
)
def test_intervals_of_counts_hold_though_cells_of_a_place_are_alike(
    measured: Callable[..., dict[str, object] | None],
    slides: int,
    positions: int,
    cells: int,
    spread: float,
) -> None:
    rng = np.random.default_rng(1)
    slide, position, _ = (each.ravel() for each in np.indices((slides, positions, cells)))
    groups = groups_of(pd.DataFrame({"slide": slide, "position": position}))
    of_group = groups[1 if slides > 1 else 0]
    # The mean over all groups that there could be.
    odds = 1 / (1 + np.exp(1.5 - spread * rng.normal(size=200_000)))
    held = exact = 0
    for _ in range(400):
        shares = rng.choice(odds, of_group.max() + 1)[of_group]
        nuclei = rng.integers(1, 3, len(slide))
        lost = rng.binomial(nuclei, shares)
        low, high = np.array((measured(lost, nuclei, groups) or {})["ci95"])
        held += low <= odds.mean() <= high
        low, high = share_interval(int(lost.sum()), int(nuclei.sum()))
        exact += low <= odds.mean() <= high
    assert held >= 0.88 * 400  # few groups, drawn from a skewed distribution
    assert bool(exact < held - 40) == bool(spread)


def test_the_interval_of_a_ratio_is_that_of_its_share() -> None:
    rng = np.random.default_rng(3)
    wholes = rng.integers(0, 3, 500).astype(float)
    parts = rng.binomial(wholes.astype(int), 0.1).astype(float)
    low, high = ratio_interval(parts, wholes) or (np.nan, np.nan)
    share, width = parts.sum() / wholes.sum(), 2 * 1.96 * np.sqrt(0.09 / wholes.sum())
    assert low < share < high and high - low == pytest.approx(width, rel=0.2)
