"""EK-means: clusters against independent ones, single cells and fields against drawn truth."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from plsctl.acquire.errors import UserError
from plsctl.cli.app import app
from plsctl.process.image_files import read_image, write_image
from plsctl.process.segmentation.ek_means import ek_means, fuzzy_c_means, k_means
from plsctl.process.segmentation.single_cells import Method, segment_crop, shows_one_cell

COLOURS = np.array([[90, 50, 130], [205, 165, 190], [240, 238, 235]])


def cell_image(noise: float = 4.0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A white cell, a red cell that touches it, and the mask of the white one."""
    mask = np.zeros((120, 120), np.uint8)
    cv2.circle(mask, (58, 62), 34, (128,), -1)
    cv2.ellipse(mask, (58, 62), (24, 20), 30, 0, 360, (255,), -1)
    image = np.where(mask[..., None] == 255, COLOURS[0], COLOURS[2])
    red = np.zeros_like(mask)
    cv2.circle(red, (112, 40), 24, (1,), -1)
    image[(red > 0) | (mask == 128)] = COLOURS[1]
    grain = np.random.default_rng(0).normal(0, noise, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8), mask


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_fuzzy_centres_are_a_fixed_point_of_both_equations() -> None:
    """Memberships and centres written out as in the paper, point by point."""
    rng = np.random.default_rng(2)
    points = np.concatenate([rng.normal(c, 0.4, (40, 2)) for c in ((0, 0), (3, 0), (0, 4))])
    weights = rng.integers(1, 5, len(points)).astype(float)
    centres = fuzzy_c_means(points, weights, points[[0, 1, 2]], tolerance=1e-9)
    membership = np.zeros((3, len(points)))
    for k, point in enumerate(points):
        away = [np.linalg.norm(point - centre) for centre in centres]
        for i in range(3):
            membership[i, k] = 1 / sum((away[i] / other) ** 2 for other in away)
    share = weights * membership**2
    np.testing.assert_allclose(share @ points / share.sum(axis=1)[:, None], centres, atol=1e-4)


def test_weights_stand_for_repeated_points() -> None:
    rng = np.random.default_rng(4)
    points = rng.uniform(0, 10, (30, 3))
    counts = rng.integers(1, 6, 30)
    start = points[:4]
    labels, centres = k_means(points, counts.astype(float), start)
    repeated, same = k_means(np.repeat(points, counts, axis=0), np.ones(counts.sum()), start)
    np.testing.assert_allclose(centres, same)
    np.testing.assert_array_equal(np.repeat(labels, counts), repeated)


@pytest.mark.parametrize("space", ["rgb", "lab"])
def test_clusters_are_the_colours_painted_and_always_the_same(space: str) -> None:
    image, mask = cell_image()
    found = ek_means(image, 3, "rgb" if space == "rgb" else "lab")
    np.testing.assert_allclose(found.centres_rgb, COLOURS, atol=3)
    assert dice(found.labels == 0, mask == 255) > 0.99
    again = ek_means(image, 3, "rgb" if space == "rgb" else "lab")
    np.testing.assert_array_equal(found.labels, again.labels)


def test_an_image_of_few_colours_and_one_cluster() -> None:
    flat = np.full((8, 8, 3), 200, np.uint8)
    assert not ek_means(flat, 3).labels.any()
    assert not segment_crop(flat).any()
    assert not segment_crop(flat, method="hsv").any()
    assert not shows_one_cell(flat)
    with pytest.raises(UserError, match="clusters"):
        ek_means(flat, 1)
    with pytest.raises(UserError, match="shape"):
        segment_crop(flat[..., 0])


@pytest.mark.parametrize("method", ["ek-means", "hsv"])
def test_a_red_cell_that_touches_is_cut_off(method: Method) -> None:
    image, mask = cell_image()
    found = segment_crop(image, method=method)
    assert dice(found == 255, mask == 255) > 0.97
    assert dice(found > 0, mask > 0) > 0.95
    assert not found[40, 105:].any()


@pytest.mark.parametrize("method", ["ek-means", "hsv"])
def test_real_cells_come_near_the_drawn_masks(data_folder: Path, method: Method) -> None:
    for number, every, nucleus, whole in ((1, 10, 0.93, 0.96), (2, 5, 0.93, 0.83)):
        folder = data_folder / "segmentation_wbc" / f"dataset{number}"
        scores = []
        for path in sorted((folder / "images").iterdir())[::every]:
            truth = read_image(folder / "masks" / f"{path.stem}.png")[..., 0]
            found = segment_crop(read_image(path), method=method)
            scores.append((dice(found == 255, truth > 200), dice(found > 0, truth > 60)))
        means = np.mean(scores, axis=0)
        assert means[0] > nucleus
        assert means[1] > whole


def test_the_command_segments_crops_and_fields(data_folder: Path, tmp_path: Path) -> None:
    image, mask = cell_image()
    write_image(tmp_path / "cell.png", image)
    call = ["segment", str(tmp_path / "cell.png"), "--json", "--method", "ek-means"]
    result = CliRunner().invoke(app, [*call, "--crops", "--masks", str(tmp_path / "masks")])
    assert result.exit_code == 0, result.stderr
    (cell,) = json.loads(result.stdout)["images"][0]["cells"]
    assert cell["area"] == pytest.approx(np.count_nonzero(mask), rel=0.06)
    assert read_image(tmp_path / "masks" / "cell.png").max() == 255
    field = min((data_folder / "bccd").rglob("*.jpg"))
    result = CliRunner().invoke(app, ["segment", str(field), "--json", "--method", "ek-means"])
    assert len(json.loads(result.stdout)["images"][0]["cells"]) >= 1


def test_the_command_sees_which_images_show_one_cell(data_folder: Path, tmp_path: Path) -> None:
    image, mask = cell_image()
    write_image(tmp_path / "cell.tif", image)
    field = min((data_folder / "bccd").rglob("*.jpg"))
    call = ["segment", str(tmp_path / "cell.tif"), str(field), "--json"]
    alone = json.loads(CliRunner().invoke(app, [*call, "--crops"]).stdout)["images"]
    both = json.loads(CliRunner().invoke(app, [*call, "--fields"]).stdout)["images"]
    found = json.loads(CliRunner().invoke(app, call).stdout)["images"]
    assert found[0] == alone[0]
    assert found[0]["cells"][0]["area"] == pytest.approx(np.count_nonzero(mask), rel=0.06)
    assert found[1] == both[1] != alone[1]


def test_two_cells_make_a_field() -> None:
    image, _ = cell_image()
    assert shows_one_cell(image)
    assert not shows_one_cell(np.hstack([image, image]))
    assert not shows_one_cell(np.vstack([np.hstack([image, image])] * 2))
