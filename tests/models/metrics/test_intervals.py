"""Intervals of counts against the definition: what they exclude is seen in 2.5 % of the cases."""

from __future__ import annotations

import math

import pytest

from plsctl.models.metrics.intervals import measured_share, rate_interval, share_interval


def test_ends_of_a_share_are_where_the_count_becomes_unlikely() -> None:
    low, high = share_interval(3, 10)
    at_least = sum(math.comb(10, k) * low**k * (1 - low) ** (10 - k) for k in range(3, 11))
    at_most = sum(math.comb(10, k) * high**k * (1 - high) ** (10 - k) for k in range(4))
    assert at_least == pytest.approx(0.025) and at_most == pytest.approx(0.025)
    # None of 20: the end is where (1 - p)^20 = 2.5 %.
    assert share_interval(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert share_interval(20, 20) == pytest.approx((0.025 ** (1 / 20), 1))
    assert measured_share(0, 0) is None


def test_ends_of_a_rate_are_where_the_count_becomes_unlikely() -> None:
    low, high = rate_interval(2, 50)
    more = 1 - math.exp(-50 * low) * (1 + 50 * low)
    fewer = math.exp(-50 * high) * (1 + 50 * high + (50 * high) ** 2 / 2)
    assert more == pytest.approx(0.025) and fewer == pytest.approx(0.025)
    assert rate_interval(0, 10) == pytest.approx((0, -math.log(0.025) / 10))
