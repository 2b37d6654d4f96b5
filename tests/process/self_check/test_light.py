"""LEDs that have dimmed, from levels of frames that were made up."""

from __future__ import annotations

import numpy as np
import pytest

from plsctl.process.self_check.light import LedLevels, SingleLed, dimmed

LEDS = tuple(
    SingleLed(
        index=index,
        led=index,
        name=f"led-{index}",
        light=2.0 if sine < 0.4 else 90.0,
        direction=(sine * np.cos(azimuth), sine * np.sin(azimuth)),
        lit_from=(sine * np.cos(azimuth), sine * np.sin(azimuth)),
        bright=sine < 0.4,
    )
    for index, (sine, azimuth) in enumerate(
        (sine, azimuth) for sine in (0.17, 0.31, 0.5) for azimuth in np.arange(5) * 1.26
    )
)
BLACK = 4.0
STEEP = np.array([led.steepness for led in LEDS])


def _levels(positions: int, dims_at: int | None = None, led: int = 7) -> LedLevels:
    """Fields whose content makes dark field twice or half as bright, with a scatter of 3 %."""
    rng = np.random.default_rng(5)
    levels = LedLevels(LEDS, BLACK)
    for position in range(positions):
        content = np.where(STEEP < 0.4, 1.0, rng.uniform(0.5, 2))
        counts = 40 * content * np.exp(rng.normal(0, 0.03, len(LEDS)))
        if dims_at is not None and position >= dims_at:
            counts[led] *= 0.8
        frames = [{"mean": BLACK + value, "saturated": 0.0} for value in counts]
        levels.add(f"A/{position + 1}", frames)
    return levels


@pytest.mark.parametrize("led", [2, 12])
def test_an_led_dimmed_since_its_light_was_kept_is_found(led: int) -> None:
    kept = {one.name: 1 / one.light for one in LEDS}
    left = _levels(4, dims_at=0, led=led).left_since(kept, STEEP, na=0.4)
    assert dimmed(left).tolist() == [led]
    assert left[led] == pytest.approx(0.8, abs=0.06)


def test_an_led_that_dims_during_the_pass_is_found_after_two_positions() -> None:
    assert dimmed(_levels(6, dims_at=5).left_in_pass()).tolist() == []
    later = _levels(7, dims_at=5)
    assert dimmed(later.left_in_pass()).tolist() == [7]
    assert later.dimmed_from(7) == "A/6"
    assert later.has_changed() and not _levels(8).has_changed()


def test_without_kept_light_nothing_is_said_of_it() -> None:
    assert np.isnan(_levels(5).left_since({}, STEEP, na=0.4)).all()
