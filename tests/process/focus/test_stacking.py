"""Focus stacking: a simulated stack with known planes, known motion, a real stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import UserError
from plsctl.cli.app import app
from plsctl.process.focus.alignment import align_frames
from plsctl.process.focus.stacking import FocusStackSettings, focus_stack, harris_response
from plsctl.process.image_files import read_image, write_image
from plsctl.sim.backend import open_world

Image = NDArray[np.uint8]


def noise_ratio_db(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2)))


@pytest.fixture(scope="module")
def sharp_and_blurred() -> tuple[Image, Image, Image]:
    """A stained white cell at 100x in focus, 2 um below and 2 um above."""
    hardware = load_hardware("simulator_small")
    camera = hardware.camera.model_copy(update={"size_px": (320, 240)})
    world = open_world(hardware.model_copy(update={"camera": camera}))
    world.stained, world.oil = True, True
    around = world.smear.cells(10_900, 5_500, 11_100, 5_700)
    x, y = next(cell for cell in around if cell.is_white).position(stained=True)
    world.turn_to("100x")
    world.lit = {row.led: 1.0 for row in world.geometry.within(0.4)}
    world.look_at(x, y)
    focus = world.z_um
    images = []
    for z_um in (0.0, -2.0, 2.0):
        world.move_z(focus + z_um)
        images.append(np.asarray(world.expose(5.3, 1.0), dtype=np.uint8))
    return images[0], images[1], images[2]


@pytest.fixture(scope="module")
def tilted(sharp_and_blurred: tuple[Image, Image, Image]) -> list[Image]:
    """Frames of a slide whose left half is in focus in the second, its right half in the first."""
    sharp, below, above = sharp_and_blurred
    left = np.arange(sharp.shape[1])[None, :, None] < sharp.shape[1] // 2
    return [
        np.where(left, below, sharp),
        np.where(left, sharp, above),
        np.where(left, above, above),
    ]


@pytest.mark.parametrize("method", ["wavelet", "harris"])
def test_a_stack_becomes_the_image_in_focus(
    sharp_and_blurred: tuple[Image, Image, Image], tilted: list[Image], method: str
) -> None:
    sharp = sharp_and_blurred[0]
    settings = FocusStackSettings.model_validate({"method": method, "align": False})
    result = focus_stack(tilted, settings)
    best_single = max(noise_ratio_db(frame, sharp) for frame in tilted)
    assert noise_ratio_db(result.image, sharp) > best_single + 3
    response = harris_response(sharp)
    detail = response > np.percentile(response, 70)
    truth = np.where(np.arange(sharp.shape[1]) < sharp.shape[1] // 2, 1, 0)
    right = (result.depth == truth)[detail]
    assert right.mean() > 0.9


def test_the_response_counts_edges_and_corners_and_falls_with_blur(
    sharp_and_blurred: tuple[Image, Image, Image],
) -> None:
    edge = np.zeros((40, 40, 3), np.uint8)
    edge[:, 20:] = 200
    corner = edge.copy()
    corner[:20] = 0
    flat = harris_response(np.full((40, 40, 3), 90, np.uint8))
    # The plain Harris response is negative on an edge and would lose it to flat ground.
    assert harris_response(edge)[20, 20] > 100 * (flat.max() + 1)
    assert harris_response(corner)[20, 20] > harris_response(corner)[30, 30] + 1
    sharp, below, above = (float(harris_response(image).mean()) for image in sharp_and_blurred)
    assert sharp > 1.3 * max(below, above)


def moved(
    image: Image, scale: float, shift: tuple[float, float]
) -> tuple[Image, NDArray[np.float64]]:
    """The image enlarged about its corner and shifted, and the matrix into it."""
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    size = (image.shape[1], image.shape[0])
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
        dtype=np.uint8,
    ), matrix


def corners(shape: tuple[int, ...], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.array([[0, 0, 1], [shape[1], 0, 1], [0, shape[0], 1], [shape[1], shape[0], 1]])
    return np.asarray(points @ matrix.T)


def test_breathing_and_drift_are_undone(sharp_and_blurred: tuple[Image, Image, Image]) -> None:
    sharp, _, above = sharp_and_blurred
    first, first_matrix = moved(sharp, 1.012, (-3.0, 2.0))
    last, last_matrix = moved(above, 0.99, (4.3, 1.6))
    frames: Sequence[Image] = [first, sharp, last]
    aligned, transforms = align_frames(frames, 1)
    # The last frame is blurred over more pixels than it moved.
    for matrix, found, limit in (
        (first_matrix, transforms[0], 0.2),
        (last_matrix, transforms[2], 1.5),
    ):
        error = np.abs(corners(sharp.shape, found) - corners(sharp.shape, matrix))
        assert error.max() < limit
    inner = (slice(10, -10), slice(10, -10))
    assert noise_ratio_db(aligned[0][inner], sharp[inner]) > 30
    np.testing.assert_array_equal(aligned[1], sharp)


@pytest.mark.parametrize(("method", "least_db"), [("wavelet", 27), ("harris", 25)])
def test_a_real_stack_comes_near_a_reference(
    data_folder: Path, method: str, least_db: float
) -> None:
    """Eight-frame macro stack with focus breathing, at a third of its size; centre of the image."""
    folder = data_folder / "focus_stack_pcb"
    names = [*sorted(folder.glob("pcb_*.jpg")), folder / "expected.jpg"]
    small = [
        np.asarray(cv2.resize(read_image(name), (683, 512), interpolation=cv2.INTER_AREA), np.uint8)
        for name in names
    ]
    frames, expected = small[:-1], small[-1]
    result = focus_stack(frames, FocusStackSettings.model_validate({"method": method}))
    (expected, image), _ = align_frames([expected, result.image], 1)
    inner = (slice(30, -30), slice(40, -40))
    found = noise_ratio_db(image[inner], expected[inner])
    assert found > least_db
    assert found > max(noise_ratio_db(frame[inner], expected[inner]) for frame in frames) + 4


def test_frames_that_make_no_stack_are_refused(
    sharp_and_blurred: tuple[Image, Image, Image],
) -> None:
    sharp = sharp_and_blurred[0]
    with pytest.raises(UserError, match="no focus stack"):
        focus_stack([sharp])
    with pytest.raises(UserError, match="frame 2 has"):
        focus_stack([sharp, sharp[:-2]])
    noise = np.random.default_rng(0).integers(0, 255, sharp.shape).astype(np.uint8)
    with pytest.raises(UserError, match="too little in common"):
        focus_stack([sharp, noise])


def test_the_command_writes_image_and_depth(tilted: list[Image], tmp_path: Path) -> None:
    for index, frame in enumerate(tilted):
        write_image(tmp_path / f"z{index}.png", frame)
    names = [str(tmp_path / f"z{index}.png") for index in range(3)]
    out, depth = tmp_path / "sharp.png", tmp_path / "depth.png"
    arguments = ["focus-stack", *names, "-o", str(out), "--depth", str(depth), "--no-align"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert sum(part["share"] for part in answer["in_focus"]) == pytest.approx(1)
    assert answer["in_focus"][2]["share"] < 0.2
    assert read_image(out).shape == tilted[0].shape
    assert set(np.unique(read_image(depth))) <= {0, 128, 255}
    assert CliRunner().invoke(app, [*arguments, "--method", "laplace"]).exit_code == 2
