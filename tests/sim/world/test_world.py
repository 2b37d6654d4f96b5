"""The simulated microscope behaves as its description says, as seen through the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.microscope import Microscope, open_microscope
from plsctl.acquire.store.images import develop_mosaic
from plsctl.sim.backend import open_world


def small_hardware(folder: Path, **camera: object) -> Hardware:
    document = yaml.safe_load(load_hardware("simulator_small").file.read_text())
    document["camera"] |= {"size_px": [240, 180]} | camera
    document["options"]["mount"] = {"drift_um_per_min": 0.0}
    (folder / "small.yaml").write_text(yaml.safe_dump(document))
    return load_hardware("small.yaml", folder)


@pytest.fixture
def microscope(tmp_path: Path) -> Iterator[Microscope]:
    with open_microscope(small_hardware(tmp_path)) as opened:
        yield opened


def brightfield(microscope: Microscope, exposure_ms: float = 0.23) -> np.ndarray:
    microscope.light(microscope.pattern("brightfield"))
    return microscope.snap(exposure_ms).astype(np.float32)


def test_what_the_led_array_lights_is_what_the_camera_sees(microscope: Microscope) -> None:
    microscope.move_xy(10_300, 5_200)
    microscope.move_z(5006)
    assert microscope.snap(2.0).mean() < 6  # black level
    microscope.light(microscope.pattern("plate-1"))
    one = microscope.snap(2.0).mean()
    microscope.light(microscope.pattern("plate"))
    three = microscope.snap(2.0).mean()
    assert 60 < one < three
    microscope.light(microscope.pattern("arm1-57"))
    assert microscope.snap(2.0).mean() < 12


def test_a_repeated_visit_gives_the_same_image_and_a_second_snap_other_noise(
    microscope: Microscope,
) -> None:
    microscope.move_xy(10_300, 5_200)
    microscope.move_z(5006)
    first, second = brightfield(microscope), brightfield(microscope)
    assert not np.array_equal(first, second)
    microscope.move_xy(11_000, 6_000)
    microscope.move_xy(10_300, 5_200)
    assert np.array_equal(brightfield(microscope), first)


def shift_between(a: np.ndarray, b: np.ndarray, reach: int = 40) -> tuple[float, float]:
    """How far the scene of `a` has moved in `b`, by the best correlation of its middle."""
    template = np.ascontiguousarray(a[reach:-reach, reach:-reach, 1]).astype(np.float32)
    scores = cv2.matchTemplate(b[..., 1].astype(np.float32), template, cv2.TM_CCOEFF_NORMED)
    _, _, _, (x, y) = cv2.minMaxLoc(scores)
    return x - reach, y - reach


def test_the_image_moves_against_the_stage_by_its_pixel_size(microscope: Microscope) -> None:
    microscope.move_xy(10_300, 5_200)
    microscope.move_z(5006)
    before = brightfield(microscope)
    microscope.move_xy(10_306, 5_200)
    dx, dy = shift_between(before, brightfield(microscope))
    angle = np.radians(0.7)
    # 6 um are 20.5 px; the camera is turned by 0.7 degrees; repeatability is a pixel.
    assert dx == pytest.approx(-6 / 0.293 * np.cos(angle), abs=1.5)
    assert dy == pytest.approx(6 / 0.293 * np.sin(angle), abs=1.5)


def test_opposite_leds_move_apart_out_of_focus_as_geometry_says(microscope: Microscope) -> None:
    """Physics invariant 5, through the whole chain: LED protocol, stage, camera."""
    microscope.move_xy(10_300, 5_200)

    def parallax(defocus_um: float) -> float:
        microscope.move_z(5006.9 + defocus_um)
        images = []
        for name in ("arm2-18", "arm5-18"):
            microscope.light(microscope.pattern(name))
            images.append(microscope.snap(2.0))
        return shift_between(images[0], images[1])[0]

    leds = microscope.geometry
    tangents = [
        leds.named(n).direction[0] / np.sqrt(1 - np.sum(np.square(leds.named(n).direction)))
        for n in ("arm2-18", "arm5-18")
    ]
    expected_px = (tangents[0] - tangents[1]) / 0.293  # for each micrometre
    slope = (parallax(6.0) - parallax(-6.0)) / 12
    assert abs(slope) == pytest.approx(abs(expected_px), rel=0.15)


def test_the_100x_objective_sees_the_same_place_larger(tmp_path: Path) -> None:
    hardware = small_hardware(tmp_path)
    world = open_world(hardware)
    world.move_xy(10_300, 5_200)  # from below, as the microscope does it
    centre = world.to_slide(119.5, 89.5)
    world.turn_to("100x")
    world.move_xy(10_308, 5_179)
    world.move_xy(10_318, 5_189)  # parcentric offset of the hardware file
    assert world.to_slide(119.5, 89.5) == pytest.approx(centre, abs=1.0)
    assert world.pixel_um == pytest.approx(0.293 / 5.03, rel=1e-6)


def test_the_returned_slide_lies_a_little_elsewhere(tmp_path: Path) -> None:
    world = open_world(small_hardware(tmp_path))
    world.move_xy(10_300, 5_200)
    before = np.array(world.to_slide(119.5, 89.5))
    world.stain()
    moved = before - np.array(world.to_slide(119.5, 89.5))
    assert 25 < np.linalg.norm(moved) < 35


def test_a_bayer_camera_shows_the_same_scene_as_a_colour_camera(tmp_path: Path) -> None:
    images = []
    for bayer in (None, "RGGB"):
        hardware = small_hardware(tmp_path, bayer=bayer)
        with open_microscope(hardware) as microscope:
            microscope.move_xy(10_300, 5_200)
            microscope.move_z(5006)
            image = brightfield(microscope).astype(np.uint8)
            assert image.shape == ((180, 240, 3) if bayer is None else (180, 240))
            images.append(develop_mosaic(image, bayer).astype(np.float32))
    difference = np.abs(images[0] - images[1]).mean()
    assert difference < 0.05 * images[0].mean()


def test_slide_and_objective_are_drawn_apart_before_turns_and_long_ways(
    microscope: Microscope,
) -> None:
    heights: list[float] = []
    microscope.move_z(5006)
    stage = microscope.lens.stage
    original = stage.move_z

    def noted(z_um: float, roughly: bool = False) -> None:
        heights.append(z_um)
        original(z_um, roughly)

    stage.move_z = noted  # type: ignore[method-assign]
    microscope.set_objective("100x")
    assert heights == [pytest.approx(4500), pytest.approx(5018)]
    microscope.move_xy(10_000, 5_000)
    heights.clear()
    microscope.move_xy(10_050, 5_000)
    assert heights == []
    microscope.move_xy(12_000, 5_000)
    assert heights == [pytest.approx(4512), pytest.approx(5018)]
    microscope.travel(10_000, 5_000)
    assert microscope.position_um[2] == pytest.approx(4512)


@pytest.mark.parametrize(
    ("truth", "as_seen"),
    [
        ({"mirrored": True}, lambda image: image[:, ::-1]),
        ({"rotation_deg": 180.0}, lambda image: image[::-1, ::-1]),
        ({"rotation_deg": 180.0, "mirrored": True}, lambda image: image[::-1]),
    ],
)
def test_a_camera_that_stands_otherwise_than_the_file_says_shows_the_same_slide(
    tmp_path: Path, truth: dict[str, object], as_seen: Callable[[np.ndarray], np.ndarray]
) -> None:
    hardware = small_hardware(tmp_path, rotation_deg=0.0)
    images = []
    for camera in ({}, truth):
        options = hardware.options | {"camera": camera}
        world = open_world(hardware.model_copy(update={"options": options}))
        world.look_at(10_300, 5_200)
        world.lit = {world.geometry.named("plate-1").led: 1.0}
        images.append(world.image(2.0, 1.0).astype(np.float32))
    upright, turned = images
    shown = as_seen(upright)
    # Noise and dust of the sensor stay where they are; the slide does not.
    assert np.corrcoef(turned.ravel(), shown.ravel())[0, 1] > 0.9
    assert np.corrcoef(turned.ravel(), upright.ravel())[0, 1] < 0.6
    assert world.to_slide(119.5, 89.5) == pytest.approx((10_300, 5_200), abs=1e-6)


def test_prepared_images_show_a_slide_that_jumps(tmp_path: Path) -> None:
    hardware = small_hardware(tmp_path)
    jumps = [{"kind": "focus_jumps", "amount": 15.0}]

    def image(prepared: Path | None, faults: list[dict[str, object]]) -> np.ndarray:
        options = hardware.options | {"prepared": prepared, "faults": faults}
        world = open_world(hardware.model_copy(update={"options": options}))
        world.look_at(10_300, 5_200)
        world.lit = {world.geometry.named("plate-1").led: 1.0}
        world.happen()
        return np.array(world.image(2.0, 1.0))

    in_focus = image(tmp_path / "prepared", [])
    jumped = image(tmp_path / "prepared", jumps)
    assert np.array_equal(jumped, image(None, jumps))
    assert not np.array_equal(jumped, in_focus)


def test_the_simulated_pixel_may_be_larger_than_the_file_says(tmp_path: Path) -> None:
    hardware = small_hardware(tmp_path)
    options = hardware.options | {"camera": {"pixel_scale": 1.1}}
    world = open_world(hardware.model_copy(update={"options": options}))
    assert world.pixel_um == pytest.approx(1.1 * hardware.pixel_um("20x"))


def test_an_led_array_that_departs_from_its_table_lights_from_elsewhere(tmp_path: Path) -> None:
    document = yaml.safe_load(small_hardware(tmp_path).file.read_text())
    straight = open_world(load_hardware("small.yaml", tmp_path))
    truth = {"moved_mm": [2.0, -1.0], "raised_mm": 3.0, "swapped": [[3, 10]], "light": [[12, 0.0]]}
    document["options"]["led_array"] = truth
    (tmp_path / "moved.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    world = open_world(load_hardware("moved.yaml", tmp_path))
    # Led 10 is at 57 degrees, 3 at 10: each shines from the other's place.
    assert np.hypot(*world.direction(10)) == pytest.approx(np.hypot(2, 12.8919) / 76.9, rel=0.02)
    assert np.hypot(*world.direction(3)) > 0.8
    assert straight.direction(10) == pytest.approx((0.0, 0.8387), abs=0.02)
    world.lit = {12: 1.0}
    assert world.image(2.0, 1.0).mean() < 6  # black level
    world.lit = {11: 1.0}
    assert world.image(2.0, 1.0).mean() > 30
