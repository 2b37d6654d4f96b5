"""Moves of the stage tell how the camera stands, and what of it contradicts the hardware file."""

from __future__ import annotations

import math

import pytest

from plsctl.acquire.bench.camera_axes import AxesCheck, CameraAxes, axes_from_shifts
from plsctl.acquire.coordinates import CameraOrientation, ImageAxes
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.process.matching.shifts import EdgeShiftFinder

MOVES = ((21.0, 0.0), (0.0, -21.0))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation_deg", [0.0, 90.0, 180.0, -90.0, 20.0])
def test_shifts_tell_the_camera(rotation_deg: float, mirrored: bool) -> None:
    truth = CameraOrientation(rotation_deg, mirrored)
    cell = (1007.0, 1990.0)

    def seen(x_um: float, y_um: float) -> tuple[float, float]:
        return ImageAxes((x_um, y_um), (480, 360), 0.31, truth).to_px(*cell)

    before = seen(1000.0, 2000.0)
    shifts = []
    for dx, dy in MOVES:
        after = seen(1000.0 + dx, 2000.0 + dy)
        shifts.append((after[0] - before[0], after[1] - before[1]))
    found = axes_from_shifts(MOVES, shifts)
    assert found is not None
    assert found.orientation.mirrored == mirrored
    assert truth.turn_to(found.orientation) == pytest.approx(0.0, abs=1e-9)
    assert found.pixel_um == pytest.approx(0.31)
    assert found.misfit < 1e-9


def test_an_image_that_stands_still_tells_nothing() -> None:
    assert axes_from_shifts(MOVES, [(0.0, 0.0), (0.0, 0.0)]) is None


@pytest.mark.parametrize(
    ("rotation_deg", "mirrored", "scale", "misfit", "field", "remedy"),
    [
        (0.7, True, 1.0, 0.0, "camera.mirrored", "camera: {mirrored: true}"),
        (180.7, False, 1.0, 0.0, "camera.rotation_deg", "camera: {rotation_deg: 180.7}"),
        (-19.3, True, 1.0, 0.0, "camera.mirrored", "{mirrored: true, rotation_deg: -19.3}"),
        (4.2, False, 1.0, 0.0, "camera.rotation_deg", "rotation_deg: 4.2"),
        (0.7, False, 1.1, 0.0, "camera.pixel_pitch_um", "{pixel_pitch_um: 6.45}"),
        (0.7, False, 2.0, 0.0, "camera.pixel_pitch_um", "binning"),
        (0.7, False, 1.0, 0.3, "stage.xy_device", "step size"),
        (3.0, False, 1.03, 0.03, None, ""),
        (-1.0, False, 0.97, 0.03, None, ""),
        (360.7, False, 1.0, 0.0, None, ""),
    ],
)
def test_what_contradicts_the_file_is_named_with_its_remedy(
    rotation_deg: float, mirrored: bool, scale: float, misfit: float, field: str | None, remedy: str
) -> None:
    hardware = load_hardware("simulator_small")
    check = AxesCheck(hardware, "20x", EdgeShiftFinder())
    found = CameraAxes(CameraOrientation(rotation_deg, mirrored), 0.293 * scale, misfit)
    error = check.contradiction(found)
    if field is None:
        assert error is None
        return
    assert error is not None
    assert (error.file, error.field) == (str(hardware.file), field)
    assert remedy in str(error.hint)


def test_a_stage_that_arrives_inexactly_may_err_more_over_a_short_way() -> None:
    shipped = load_hardware("simulator_small")
    camera = shipped.camera.model_copy(update={"size_px": (80, 60)})
    check = AxesCheck(shipped.model_copy(update={"camera": camera}), "20x", EdgeShiftFinder())
    assert check.move_um == pytest.approx(0.2 * 60 * 0.293)
    near = CameraAxes(CameraOrientation(math.degrees(0.15)), 0.293 * 1.15, 0.1)
    assert check.contradiction(near) is None
    assert check.contradiction(CameraAxes(CameraOrientation(90.0), 0.293, 0.1)) is not None
