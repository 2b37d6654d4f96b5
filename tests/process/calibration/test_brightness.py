"""A dim LED is told by its own light of before, whatever sample and angle have changed."""

from __future__ import annotations

import numpy as np

from plsctl.acquire.devices.calibration_kinds import DIMMED
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.leds.pose import ArrayPose, table_places
from plsctl.process.calibration.brightness import light_left


def test_an_led_that_lost_a_fifth_is_told_though_the_array_moved_and_the_slide_is_another() -> None:
    places = table_places(standard_array())
    before, now = (
        np.hypot(*pose.directions(places).T) for pose in (ArrayPose(), ArrayPose(1.0, 0.5))
    )
    rng = np.random.default_rng(1)
    own = rng.uniform(0.6, 1.4, 43)
    dark = [np.where(s < 0.4, 1.0, 0.2 * np.exp(-11 * (s - 0.4))) for s in (before, now)]
    noise = rng.normal(1, 0.02, 43)
    then, later = own * dark[0], own * dark[1] * noise * np.where(now < 0.4, 1.3, 1.8)
    later[[4, 25]] *= 0.8
    left = light_left(later, then, now, before, 0.4)
    assert list(np.flatnonzero(left < DIMMED)) == [4, 25]
