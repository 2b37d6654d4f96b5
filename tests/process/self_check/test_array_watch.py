"""What is wrong with the LED array counts once two fields show it, each thing for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plsctl.acquire.leds.pose import ArrayPose
from plsctl.process.calibration.led_array import LedProblem
from plsctl.process.calibration.views import ArrayOptics
from plsctl.process.self_check import array_watch
from plsctl.process.self_check.array import MOVED_ARRAY, ArrayState, finding

SWAPPED, DEAD = LedProblem(1, "swapped", 2), LedProblem(3, "dead")


@pytest.mark.parametrize(
    ("seen", "sure"),
    [
        # LEDs that are exchanged after it is known that the array stands elsewhere.
        ([(), (), (SWAPPED,), (SWAPPED,)], [set(), {None}, set(), {None, SWAPPED}]),
        # What one field alone shows is not made sure by an array that both show elsewhere.
        ([(DEAD,), (), ()], [set(), {None}, set()]),
    ],
)
def test_each_finding_needs_two_fields(
    monkeypatch: pytest.MonkeyPatch,
    seen: list[tuple[LedProblem, ...]],
    sure: list[set[LedProblem | None]],
) -> None:
    optics = ArrayOptics(np.full((4, 3), [0.0, 0.0, 80.0]), 0.23, 0.4)
    names = [f"A/{number}" for number in range(1, len(seen) + 1)]
    unused: Any = None

    def state(reader: object, name: str, *known: object) -> ArrayState:
        problems = seen[names.index(name)]
        return ArrayState(name, optics, unused, ArrayPose(x_mm=1.0), problems)

    monkeypatch.setattr(array_watch, "array_optics", lambda *known: optics)
    monkeypatch.setattr(array_watch, "look_at_array", state)
    watch = array_watch.ArrayWatch(unused, (), unused, names, unused)
    for name, expected in zip(names, sure, strict=True):
        told = watch.look(name)
        found = set() if told is None else set(told[1])
        assert found == {MOVED_ARRAY if one is None else finding(one) for one in expected}
    assert watch.suspect is None
