"""A pose moves an array as a rigid body about its own middle."""

from __future__ import annotations

import numpy as np
import pytest

from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.leds.pose import ArrayPose, table_places

PLACES = table_places(standard_array())


def test_a_pose_keeps_all_distances_between_leds() -> None:
    moved = ArrayPose(1.5, -2.0, 3.0, 4.0, 1.0, -2.0).places(PLACES)
    before, after = (np.linalg.norm(places[:, None] - places, axis=2) for places in (PLACES, moved))
    np.testing.assert_allclose(after, before, atol=1e-9)


def test_shift_and_rise_move_the_middle_and_turn_and_tilt_leave_it() -> None:
    middle = np.array([[0.0, 0.0, -80.0]])
    np.testing.assert_allclose(
        ArrayPose(1.0, 2.0, 3.0, 30.0, 2.0, 1.0).places(middle), [[1.0, 2.0, -77.0]]
    )


@pytest.mark.parametrize(
    ("pose", "expected"),
    [
        (ArrayPose(rotation_deg=90), [0, 10, -80]),  # x is turned to y
        (ArrayPose(tilt_x_deg=30), [10 * np.sqrt(0.75), 0, -75]),  # and rises with its x side
        (ArrayPose(tilt_y_deg=30), [10, 0, -80]),
    ],
)
def test_turn_goes_from_x_to_y_and_a_tilt_raises_the_side_it_names(
    pose: ArrayPose, expected: list[float]
) -> None:
    np.testing.assert_allclose(
        pose.places(np.array([[10.0, 0, -80], [0, 0, -80]]))[0], expected, atol=1e-9
    )
