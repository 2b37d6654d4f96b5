"""`plsctl register` against the simulator's truth: scans, folders of images, another slide."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.cli import app as frame
from plsctl.process.image_files import read_image, write_image
from plsctl.sim.backend import open_world

CENTRE_UM = (10_300.0, 5_200.0)
RETURNED = SlideTransform(*CENTRE_UM, 180.0, -120.0, 1.5)
PIXEL_UM = 0.293
PLACES = tuple(
    (CENTRE_UM[0] + 130 * column, CENTRE_UM[1] + 95 * row)
    for row in (0, 1)
    for column in (-1, 0, 1)
)


def register(*words: object) -> tuple[Any, dict[str, Any]]:
    result = CliRunner().invoke(frame.app, ["register", *map(str, words), "--json"])
    return result, json.loads(result.stdout) if result.exit_code == 0 else {}


def _hardware(rotation_deg: float, mirrored: bool, seed: int = 1) -> Hardware:
    hardware = load_hardware("simulator_small")
    camera = {"size_px": (420, 320), "rotation_deg": rotation_deg, "mirrored": mirrored}
    mount = {
        "return_centre_um": list(CENTRE_UM),
        "return_shift_um": [RETURNED.shift_x_um, RETURNED.shift_y_um],
        "return_rotation_deg": RETURNED.rotation_deg,
    }
    smear = {"white_cells_per_mm2": 300, "seed": seed}
    return hardware.model_copy(
        update={
            "camera": hardware.camera.model_copy(update=camera),
            "options": {**hardware.options, "mount": mount, "smear": smear},
        }
    )


def _photograph(folder: Path, hardware: Hardware, stained: bool) -> Path:
    """A folder of images of a place on the slide, and the table of where the stage stood."""
    folder.mkdir()
    world = open_world(hardware)
    if stained:
        world.stain()
    lines = ["file,x_um,y_um"]
    for number, (x_um, y_um) in enumerate(PLACES):
        # Fields of the returned slide are those of before, each a little elsewhere.
        world.look_at(x_um + 20.0 * stained, y_um - 15.0 * stained)
        world.lit = {row.led: 1.0 for row in world.geometry.within(0.4)}
        write_image(folder / f"{number}.png", world.expose(0.22, 1.0).astype(np.uint8))
        lines.append(f"{number}.png,{world.commanded_um[0]},{world.commanded_um[1]}")
    (folder / "positions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _photograph(tmp_path_factory.mktemp("a") / "before", _hardware(0.0, False), False)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _photograph(tmp_path_factory.mktemp("b") / "after", _hardware(0.0, False), True)


def _check(found: dict[str, Any], scale: float = 1.0) -> None:
    """The motion is the true one all over what was photographed."""
    assert found["trusted"], found["reason"]
    assert found["scale"] == pytest.approx(scale, abs=1e-3)
    assert found["rotation_deg"] == pytest.approx(RETURNED.rotation_deg, abs=0.05)
    place = found["x_um"], found["y_um"]
    there = np.add(place, (found["dx_um"], found["dy_um"]))
    assert math.dist(there, np.array(RETURNED.apply(*place)) * scale) < 1.0
    assert found["residual_um"] < 1.0


def test_shift_turn_and_errors_of_a_returned_slide(
    before: Path, after: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "both.png"
    _, found = register(before, after, "--pixel-um", PIXEL_UM, "-o", picture)
    _check(found)
    assert 0 < found["dx_error_um"] < 0.5
    assert 0 < found["rotation_error_deg"] < 0.1
    # Laid over each other as measured, cells coincide better than shifted by 5 um.
    colours = read_image(picture).astype(np.float64)
    height, width = (side // 4 for side in colours.shape[:2])
    red, blue = (colours[height:-height, width:-width, channel] for channel in (0, 2))
    shifted = np.roll(blue, (17, 17), (0, 1))
    agreement = [np.corrcoef(red.ravel(), other.ravel())[0, 1] for other in (blue, shifted)]
    assert agreement[0] > agreement[1] + 0.1


def test_a_scale_between_the_stages_is_measured(before: Path, after: Path, tmp_path: Path) -> None:
    """A stage that counts 1 % too far: its places and its pixels are larger by as much."""
    far = tmp_path / "far"
    shutil.copytree(after, far)
    lines = (after / "positions.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines[1:]]
    text = [f"{name},{float(x) * 1.01},{float(y) * 1.01}" for name, x, y in rows]
    (far / "positions.csv").write_text("\n".join([lines[0], *text]), encoding="utf-8")
    sizes = ("--pixel-um", PIXEL_UM, "--pixel-um-b", PIXEL_UM * 1.01)
    _, found = register(before, far, *sizes)
    _check(found, scale=1.01)


def test_pixels_of_another_size_do_not_matter(before: Path, after: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    shutil.copytree(after, small)
    for file in small.glob("*.png"):
        image = read_image(file)
        size = (image.shape[1] * 3 // 4, image.shape[0] * 3 // 4)
        write_image(file, np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)))
    sizes = ("--pixel-um", PIXEL_UM, "--pixel-um-b", PIXEL_UM * 4 / 3)
    _, found = register(before, small, *sizes)
    _check(found)


def test_a_turned_and_mirrored_camera(tmp_path: Path) -> None:
    cameras = _hardware(90.7, True)
    before = _photograph(tmp_path / "before", cameras, False)
    after = _photograph(tmp_path / "after", cameras, True)
    camera = ("--camera-rotation-deg", 90.7, "--camera-mirrored")
    _, found = register(before, after, "--pixel-um", PIXEL_UM, *camera)
    _check(found)


def test_another_slide_is_not_trusted(before: Path, tmp_path: Path) -> None:
    other = _photograph(tmp_path / "other", _hardware(0.0, False, seed=2), True)
    result, found = register(before, other, "--pixel-um", PIXEL_UM, "--reach-um", 200)
    assert found["trusted"] is False
    assert found["dx_um"] is None
    assert "NOT trusted" in result.stderr
    assert "does not seem to belong to" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("positions.csv", "file,x_um,y_um\nlost.png,1,2\n", "there is no image 'lost.png'"),
        ("positions.csv", "file,x_um,y_um\n0.png,1;2,2\n", "x_um = '1;2' is not a number"),
        ("other.csv", "file,x_um,y_um\n", "is no scan and has no positions.csv"),
    ],
)
def test_a_table_that_does_not_fit(
    before: Path, tmp_path: Path, name: str, content: str, said: str
) -> None:
    write_image(tmp_path / "0.png", np.zeros((20, 20, 3), np.uint8))
    (tmp_path / name).write_text(content, encoding="utf-8")
    result, _ = register(before, tmp_path, "--pixel-um", PIXEL_UM)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_size_of_a_pixel_is_asked_for(before: Path) -> None:
    result, _ = register(before, before)
    assert result.exit_code == 2
    assert "Say it with --pixel-um" in result.stderr
