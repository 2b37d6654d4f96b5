"""An LED array is found from its images alone, or it is said why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plsctl.acquire.leds.pose import ArrayPose
from plsctl.process.calibration.failures import CalibrationError
from plsctl.process.calibration.led_array import EstimateSettings, estimate_array
from plsctl.process.calibration.views import ArrayOptics, LedViews

QUICK = EstimateSettings(tiles=2, side_px=0)


def test_a_moved_array_is_found_with_its_dead_and_swapped_leds(
    moved_array: tuple[LedViews, np.ndarray], optics: ArrayOptics
) -> None:
    views, truth = moved_array
    found = estimate_array([views], optics, QUICK)
    assert [(p.led, p.kind, p.other) for p in found.problems] == [
        (14, "swapped", 23),
        (23, "swapped", 14),
        (30, "dead", -1),
    ]
    pose = found.pose
    assert np.hypot(pose.x_mm - 1.6, pose.y_mm + 1.2) < 0.1
    assert pose.rotation_deg == pytest.approx(3.0, abs=0.1)
    assert pose.height_mm == pytest.approx(3.0, abs=0.3)
    off = found.directions - truth
    bright = np.hypot(*truth.T) < 0.4
    assert np.sqrt(np.mean(off[bright] ** 2)) < 0.003
    assert np.sqrt(np.mean(off[~bright] ** 2)) < 0.005
    assert list(found.unclear) == []


def test_images_without_light_saturated_or_of_bare_glass_are_refused(
    moved_array: tuple[LedViews, np.ndarray], optics: ArrayOptics
) -> None:
    views, _ = moved_array
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 2, views.images.shape)
    inside = np.hypot(*optics.in_image(ArrayPose()).T) < optics.na
    glass = np.where(inside[:, None, None, None], 180.0, 4.0) + noise
    for images, reason in (
        (np.full_like(views.images, 255), "saturated"),
        (np.clip(4 + noise, 0, 255), "give light"),
        (np.clip(glass, 0, 255), "bare glass"),
    ):
        with pytest.raises(CalibrationError, match=reason):
            estimate_array([replace(views, images=images.astype(np.uint8))], optics, QUICK)


def test_another_objective_and_another_array_are_refused(
    moved_array: tuple[LedViews, np.ndarray], optics: ArrayOptics
) -> None:
    views, _ = moved_array
    # The file says 10x / 0.25 and 20x / 0.4 is in the light path.
    other = replace(optics, pixel_um=0.586, na=0.25)
    with pytest.raises(CalibrationError, match=r"an NA of 0\.2\d with these pixels"):
        estimate_array([views], other, QUICK)
    mirrored = replace(optics, places_mm=optics.places_mm * [-1.0, 1.0, 1.0] @ _turn(36))
    with pytest.raises(CalibrationError, match=r"fit no pose|shine from elsewhere"):
        estimate_array([views], mirrored, QUICK)


def _turn(angle_deg: float) -> np.ndarray:
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
