"""The 100x match: place, reduction to the 20x grid, and what plain correlation makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plsctl.acquire.errors import UserError
from plsctl.process.matching.highres import find_highres, match_highres, reduce_highres
from plsctl.process.matching.locate import locate_by_log

TRUE_RATIO = 5.03


def test_cells_are_found_at_100x_though_scale_and_rotation_are_not_nominal(fields: Any) -> None:
    errors = []
    for cell, high in zip(fields.cells, fields.highres, strict=False):
        x, y = fields.stained.to_pixel(*cell.position(stained=True)).round().astype(int)
        if not (32 <= x <= 608 and 32 <= y <= 448):
            continue
        crop = fields.stained.image[y - 32 : y + 32, x - 32 : x + 32]
        expected = high.to_pixel(*cell.position(stained=True)) + np.array([25.0, -18.0])
        found = match_highres(crop, high.image, (expected[0], expected[1]), 60, "log")
        true = high.to_pixel(*fields.stained.to_slide(x - 0.5, y - 0.5))
        errors.append(np.hypot(found.x - true[0], found.y - true[1]) / TRUE_RATIO)
    assert len(errors) >= 3
    assert np.median(errors) <= 0.5
    assert max(errors) <= 2.0


def test_reduction_averages_squares_of_pixels() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (400, 420, 3), dtype=np.uint8)
    crop = reduce_highres(image, (47 + 159.5, 31 + 159.5), 64)
    squares = image[31 : 31 + 320, 47 : 47 + 320].reshape(64, 5, 64, 5, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(crop.astype(float), squares, atol=0.51)


def test_reduction_turns_and_scales() -> None:
    y, x = np.mgrid[0:400, 0:400].astype(float)
    image = np.repeat((0.25 * x + 0.3 * y)[..., None], 3, axis=2).astype(np.uint8)
    crop = reduce_highres(image, (200.0, 190.0), 32, ratio=5.03, rotation_deg=2.0).astype(float)
    angle = np.radians(2.0)
    u, v = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5)
    there_x = 200 + 5.03 * (np.cos(angle) * u - np.sin(angle) * v)
    there_y = 190 + 5.03 * (np.sin(angle) * u + np.cos(angle) * v)
    expected = 0.25 * there_x + 0.3 * there_y - 0.5  # the ramp was cut to whole numbers
    np.testing.assert_allclose(crop[..., 0], expected, atol=1.0)


def test_a_cell_at_the_border_of_the_100x_image_is_refused() -> None:
    image = np.zeros((400, 400, 3), dtype=np.uint8)
    with pytest.raises(UserError, match="beyond the 100x image"):
        reduce_highres(image, (150.0, 200.0), 64)


def test_laplacian_subtraction_finds_cells_nearer_than_plain_correlation(fields: Any) -> None:
    """papers/002 section 3.1.3: red cells have dark rims at 20x that are missing at 100x."""
    errors: dict[str, list[float]] = {"plain": [], "log": []}
    for cell, high in zip(fields.cells, fields.highres, strict=False):
        x, y = fields.stained.to_pixel(*cell.position(stained=True)).round().astype(int)
        if not (32 <= x <= 608 and 32 <= y <= 448):
            continue
        crop = fields.stained.image[y - 32 : y + 32, x - 32 : x + 32]
        true = high.to_pixel(*fields.stained.to_slide(x - 0.5, y - 0.5))
        for method, found in errors.items():
            place = match_highres(crop, high.image, (true[0], true[1]), 60, method)  # type: ignore[arg-type]
            found.append(np.hypot(place.x - true[0], place.y - true[1]) / TRUE_RATIO)
    assert np.median(errors["log"]) < np.median(errors["plain"])


def test_contrast_of_the_stain_finds_cells_more_exactly(fields: Any) -> None:
    """Rims depend on focus and medium, the ratio of green to blue light does not."""
    errors: dict[str, list[float]] = {"log": [], "colour": []}
    for cell, high in zip(fields.cells, fields.highres, strict=False):
        x, y = fields.stained.to_pixel(*cell.position(stained=True)).round().astype(int)
        if not (32 <= x <= 608 and 32 <= y <= 448):
            continue
        centre = (x - 0.5, y - 0.5)
        true = high.to_pixel(*fields.stained.to_slide(*centre))
        for method, found in errors.items():
            place = find_highres(
                fields.stained.image,
                centre,
                high.image,
                (true[0] + 30.0, true[1] - 20.0),
                size_px=64,
                reach_px=100,
                method=method,  # type: ignore[arg-type]
                ratio=TRUE_RATIO,
                rotation_deg=-0.5,
            )
            found.append(np.hypot(place.x - true[0], place.y - true[1]) / TRUE_RATIO)
            assert place.second_ratio < 0.9
    assert max(errors["colour"]) <= 0.3
    assert np.median(errors["colour"]) <= np.median(errors["log"])


@pytest.mark.parametrize("coloured", [True, False])
def test_scale_and_rotation_between_the_objectives_are_measured(
    fields: Any, coloured: bool
) -> None:
    # The second of the 100x images lies whole in the field.
    low, high = fields.stained.image, fields.highres[1]
    image = high.image if coloured else high.image[..., 1]
    found = locate_by_log(low if coloured else low[..., 1], image)
    assert found.trusted
    assert found.scale == pytest.approx(TRUE_RATIO, rel=0.01)
    assert found.rotation_deg == pytest.approx(-0.5, abs=1.0)
    # The middle of the 100x image, seen in both.
    middle = np.array([319.5, 239.5])
    seen = fields.stained.to_pixel(*high.to_slide(*middle))
    angle = np.radians(found.rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    there = np.array([found.dx, found.dy]) + found.scale * turn @ seen
    np.testing.assert_allclose(there, middle, atol=3.0)
