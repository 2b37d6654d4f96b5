"""Focus from two images, against the simulated world's own truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.microscope import Microscope, open_microscope
from plsctl.acquire.focus.one_shot import OneShot
from plsctl.acquire.interrupt import StopRequest
from plsctl.process.matching.parallax import CorrelationParallax

Opened = Callable[..., tuple[Microscope, Any]]


def _hardware(**camera: Any) -> Hardware:
    described = load_hardware("simulator_small")
    size = {"size_px": (480, 360)} | camera
    return described.model_copy(update={"camera": described.camera.model_copy(update=size)})


@pytest.fixture
def opened(objective_watch: Any) -> Iterator[Opened]:
    """Opens a microscope and its world."""
    microscopes: list[Microscope] = []

    def open_one(hardware: Hardware | None = None) -> tuple[Microscope, Any]:
        microscope = open_microscope(hardware or _hardware())
        microscopes.append(microscope)
        return microscope, objective_watch.opened[-1].world

    yield open_one
    for microscope in microscopes:
        microscope.close()


def _error_um(
    microscope: Microscope, world: Any, off_um: float, reach_um: float, at: tuple[float, float]
) -> float | None:
    """What is found, less the truth, where focus is expected `off_um` from it."""
    microscope.travel(*microscope.to_stage(*at))
    focus = world.z_um - world.defocus_um()
    one_shot = OneShot(microscope, CorrelationParallax(), StopRequest())
    found = one_shot.height(focus + off_um, reach_um)
    return None if found is None else found - (world.z_um - world.defocus_um())


@pytest.mark.parametrize(("stained", "mirrored"), [(False, False), (True, True)])
def test_at_20x_two_images_tell_focus_from_twenty_micrometres_away(
    opened: Opened, stained: bool, mirrored: bool
) -> None:
    microscope, world = opened(_hardware(mirrored=mirrored))
    microscope.set_objective("20x")
    if stained:
        world.stain()
    found = [
        _error_um(microscope, world, off, 20.0, (10_000.0 + 150 * k, 5_000.0))
        for k, off in enumerate((-20.0, 1.0, 19.0))
    ]
    assert None not in found
    assert np.sqrt(np.mean(np.square(np.array(found, float)))) < 0.5


def test_under_a_camera_unlike_its_file_nothing_is_told(opened: Opened) -> None:
    hardware = _hardware()
    truth = hardware.options | {"camera": {"mirrored": True, "rotation_deg": 20.0}}
    microscope, world = opened(hardware.model_copy(update={"options": truth}))
    microscope.set_objective("20x")
    assert _error_um(microscope, world, 3.0, 8.0, (10_000.0, 5_000.0)) is None


def test_at_100x_two_images_tell_focus_from_three_micrometres_away(opened: Opened) -> None:
    microscope, world = opened()
    world.add_oil()
    world.stain()
    microscope.set_objective("100x")
    found = [
        _error_um(microscope, world, off, 3.0, (10_000.0 + 50 * k, 5_000.0))
        for k, off in enumerate((-2.5, 0.2))
    ]
    assert None not in found
    assert np.sqrt(np.mean(np.square(np.array(found, float)))) < 0.15


def test_noise_dirt_and_other_content_tell_nothing() -> None:
    rng = np.random.default_rng(3)
    noise = [rng.normal(120, 4, (240, 320)) for _ in range(2)]
    dirt = np.zeros((240, 320))
    dirt[60:66, 40:47] = dirt[180:184, 200:206] = -60
    blobs = [np.kron(rng.normal(120, 30, (24, 32)), np.ones((10, 10))) for _ in range(2)]
    finder = CorrelationParallax()
    for first, second in (noise, [image + dirt for image in noise], blobs):
        images = [np.clip(image, 0, 255).astype(np.uint8) for image in (first, second)]
        assert finder.height(*images, (0.0, 0.0), (2.0, 0.5), (-30.0, -5.0)) is None
    # The same content, shifted as by 12.5 micrometres.
    moved = np.roll(blobs[0], (-6, -25), axis=(0, 1))
    images = [np.clip(image, 0, 255).astype(np.uint8) for image in (moved, blobs[0])]
    found = finder.height(*images, (0.0, 0.0), (2.0, 0.5), (-30.0, -5.0))
    assert found == pytest.approx(-12.5, abs=0.2)


@pytest.mark.parametrize(("scatter", "told"), [(0.0, False), (0.1, True)])
def test_cells_in_a_lattice_are_not_taken_for_their_neighbours(scatter: float, told: bool) -> None:
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[-10:27, -10:40]
    cells = np.stack([(columns + rows % 2 / 2) * 25, rows * 25 * 0.866], axis=-1).reshape(-1, 2)
    cells += rng.normal(0, scatter * 25, cells.shape)
    images = []
    for shift in ((-32.0, 0.0), (0.0, 0.0)):
        image = np.zeros((360, 480), np.float32)
        for x, y in cells + np.array(shift):
            cv2.circle(image, (round(16 * x), round(16 * y)), 160, 1.0, -1, cv2.LINE_AA, 4)
        grey = 128 - 40 * cv2.GaussianBlur(image, (0, 0), 1.5) + rng.normal(0, 3, image.shape)
        images.append(np.clip(grey, 0, 255).astype(np.uint8))
    found = CorrelationParallax().height(*images, (0.0, 0.0), (2.0, 0.0), (-30.0, -5.0))
    assert found == (pytest.approx(-16.0, abs=0.2) if told else None)


def test_the_lens_does_not_leave_its_limits_for_the_images(opened: Opened) -> None:
    microscope, world = opened()
    microscope.set_objective("20x")
    low_um, _ = microscope.z_limits_um
    before_um = world.z_um
    one_shot = OneShot(microscope, CorrelationParallax(), StopRequest())
    assert one_shot.height(low_um + 5.0, 8.0) is None
    assert world.z_um == before_um
