"""Which of the two passes of a field is out of focus, on simulated fields of known focus."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import find_file, load_hardware
from plsctl.acquire.plans.exposures import load_exposures
from plsctl.acquire.plans.plan import frame_records
from plsctl.process.matching.fields import match_position
from plsctl.process.matching.shared_detail import SharedDetail, shared_detail
from plsctl.sim.backend import open_world
from plsctl.sim.world.world import World

Image = NDArray[np.uint8]
PIXEL_UM, SIZE_PX = 0.293, (400, 320)
PLACE_UM = (9300.0, 5200.0)


@cache
def _world() -> World:
    hardware = load_hardware("simulator_small")
    camera = hardware.camera.model_copy(update={"size_px": SIZE_PX})
    return World(hardware.model_copy(update={"camera": camera}), open_world(hardware).settings)


@cache
def _field(stained: bool, defocus_um: float) -> Image:
    """A bright-field image, (y, x, rgb)."""
    world = _world()
    table = load_exposures(find_file("exposures_20x.csv", world.hardware.file.parent))
    frame = frame_records("brightfield", table, world.hardware.geometry(), 0.4)[0]
    world.stained = stained
    world.look_at(*PLACE_UM)
    world.z_um += defocus_um
    world.lit = dict.fromkeys(frame.leds, frame.brightness)
    return np.asarray(world.expose(frame.exposure_ms, frame.gain), dtype=np.uint8)


def _compared(before: Image, after: Image, pixel_um: float = PIXEL_UM) -> SharedDetail:
    found = match_position(before, after, 0.1, pixel_um)
    return shared_detail(before, after, found.to_unstained, pixel_um)


def _blurred(image: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8)


def _noisy(image: Image) -> Image:
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _dimmed(image: Image) -> Image:
    return np.asarray(np.rint(image * [0.8, 0.72, 0.68]), np.uint8)


@pytest.mark.parametrize(
    ("unstained_um", "stained_um", "told"),
    [
        (0.0, 0.0, ""),
        (0.0, 1.5, ""),
        (0.0, -1.5, ""),
        (0.0, 3.0, "stained"),
        (0.0, -3.0, "stained"),
        (0.0, 6.0, "stained"),
        (0.0, -6.0, "stained"),
        (3.0, 0.0, "unstained"),
        (-3.0, 0.0, "unstained"),
        (4.5, 0.0, "unstained"),
    ],
)
def test_the_pass_that_is_out_of_focus_is_named(
    unstained_um: float, stained_um: float, told: str
) -> None:
    found = _compared(_field(False, unstained_um), _field(True, stained_um))
    assert found.out_of_focus == told, found


@pytest.mark.parametrize("change", [_blurred, _noisy, _dimmed])
def test_other_changes_of_a_pass_are_no_defocus(change: object) -> None:
    before, after = _field(False, 0.0), _field(True, 0.0)
    usual = _compared(before, after).fine
    assert usual > 0.8
    for pair in ((before, change(after)), (change(before), after)):  # type: ignore[operator]
        found = _compared(*pair)
        assert found.fine == pytest.approx(usual, abs=0.15) and not found.out_of_focus


def test_another_place_is_not_out_of_focus() -> None:
    before, after = _field(False, 0.0), _field(True, 0.0)
    for other in (after[:, ::-1], after[::-1], _field(True, 3.0)[::-1]):
        found = _compared(before, np.ascontiguousarray(other))
        assert found.fine < 0.3 and found.coarse < 0.2 and not found.out_of_focus


def test_an_empty_field_tells_nothing() -> None:
    empty = np.full((*SIZE_PX[::-1], 3), 200, np.uint8)
    for pair in ((empty, empty), (_field(False, 0.0), empty), (_noisy(empty), _noisy(empty))):
        assert not _compared(*pair).out_of_focus


@pytest.mark.parametrize("zoom", [0.6, 2.0])
@pytest.mark.parametrize(("defocus_um", "told"), [(0.0, ""), (3.0, "stained")])
def test_limits_are_those_of_the_slide_whatever_the_pixel(
    zoom: float, defocus_um: float, told: str
) -> None:
    before, after = (
        cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        for image in (_field(False, 0.0), _field(True, defocus_um))
    )
    found = _compared(np.asarray(before, np.uint8), np.asarray(after, np.uint8), PIXEL_UM / zoom)
    assert found.out_of_focus == told, found
