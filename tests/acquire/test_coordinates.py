from __future__ import annotations

import pytest

from plsctl.acquire.coordinates import CameraOrientation, ImageAxes, SlideTransform

RETURNED = SlideTransform(1000.0, 2000.0, 30.0, -5.0, 3.0)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation_deg", [0.0, 90.0, -137.5])
@pytest.mark.parametrize("size_px", [(640, 481), (3, 2)])
def test_a_pixel_goes_to_the_slide_and_comes_back(
    size_px: tuple[int, int], rotation_deg: float, mirrored: bool
) -> None:
    orientation = CameraOrientation(rotation_deg, mirrored)
    on_stage = ImageAxes((1100.0, 1900.0), size_px, 0.293, orientation)
    turned = orientation.on_slide(RETURNED.rotation_deg)
    on_slide = ImageAxes(RETURNED.invert(*on_stage.centre_um), size_px, 0.293, turned)
    for pixel in ((0.0, 0.0), (12.5, 1.0), (-7.0, 480.0)):
        stage_um = on_stage.to_um(*pixel)
        slide_um = RETURNED.invert(*stage_um)
        assert on_slide.to_um(*pixel) == pytest.approx(slide_um, abs=1e-9)
        assert on_stage.matrix @ (*pixel, 1) == pytest.approx(stage_um, abs=1e-9)
        assert RETURNED.apply(*slide_um) == pytest.approx(stage_um, abs=1e-9)
        assert on_stage.to_px(*stage_um) == pytest.approx(pixel, abs=1e-9)
        assert on_slide.to_px(*slide_um) == pytest.approx(pixel, abs=1e-9)


@pytest.mark.parametrize(
    ("rotation_deg", "mirrored", "stage_um"),
    [
        # The pixel lies 20 px (10 um) right of the middle and 8 px (4 um) below it.
        (0.0, False, (1010.0, 2004.0)),
        (90.0, False, (996.0, 2010.0)),  # right is now down, and down is left
        (180.0, False, (990.0, 1996.0)),
        (0.0, True, (990.0, 2004.0)),
        (90.0, True, (996.0, 1990.0)),  # first mirrored: right is up
    ],
)
def test_camera_orientations_by_hand(
    rotation_deg: float, mirrored: bool, stage_um: tuple[float, float]
) -> None:
    orientation = CameraOrientation(rotation_deg, mirrored)
    axes = ImageAxes((1000.0, 2000.0), (641, 481), 0.5, orientation)
    assert axes.to_um(340, 248) == pytest.approx(stage_um)


def test_a_returned_slide_by_hand() -> None:
    quarter = SlideTransform(100.0, 100.0, 30.0, -5.0, 90.0)
    # 50 um right of the centre it turns about is 50 um below it, then shifted.
    assert quarter.apply(150.0, 100.0) == pytest.approx((130.0, 145.0))


@pytest.mark.parametrize("rotation_deg", [0.7, 20.0, -70.0, 90.0, 135.0, 270.0])
def test_neighbouring_fields_leave_no_gap_however_the_camera_is_turned(rotation_deg: float) -> None:
    orientation = CameraOrientation(rotation_deg)
    width, height = orientation.upright(480.0, 360.0)
    image = ImageAxes((0.0, 0.0), (480, 360), 1.0, orientation)
    for x, y in ((width, height), (-width, height)):
        column, row = image.from_middle_px(x / 2, y / 2)
        # Turned a little, a field lacks corners that the overlap of the grid makes up for.
        assert abs(column) <= 240 + 5 and abs(row) <= 180 + 5
    assert width * height >= 0.35 * 480 * 360
