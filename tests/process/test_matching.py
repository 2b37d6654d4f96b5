"""Matching of fields and crops against places that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import metrics

from plsctl.acquire.errors import UserError
from plsctl.process.fine_alignment import align_crop, similarity_map
from plsctl.process.locate import locate_by_edges
from plsctl.process.matching import match_fields, search_margin_px


def test_similarity_of_all_shifts_is_that_of_scikit_image_for_each() -> None:
    rng = np.random.default_rng(3)
    search = rng.integers(0, 256, (46, 50), dtype=np.uint8)
    crop = rng.integers(0, 256, (40, 42), dtype=np.uint8)
    ours = similarity_map(crop, search)
    similarity: Any = metrics.structural_similarity
    literal = [
        [similarity(crop, search[y : y + 40, x : x + 42], data_range=255) for x in range(9)]
        for y in range(7)
    ]
    np.testing.assert_allclose(ours, literal, atol=1e-6)


@pytest.mark.parametrize("shift", [(3, -4), (0, 0), (-2, 1)])
def test_alignment_finds_a_whole_pixel_shift(shift: tuple[int, int], fields: Any) -> None:
    grey = fields.unstained.image[..., 2]
    x, y = 300 + shift[0], 200 + shift[1]
    found = align_crop(grey[y - 32 : y + 32, x - 32 : x + 32], grey[163:237, 263:337])
    assert (found.dx, found.dy) == pytest.approx(shift, abs=0.1)
    assert found.inside
    assert found.score == pytest.approx(1.0, abs=1e-5)


def test_margin_is_the_papers_on_the_full_sensor_and_its_share_on_others() -> None:
    assert search_margin_px((1200, 1920)) == 264
    assert search_margin_px((600, 800)) == 132


def test_stained_field_is_found_in_the_unstained_one(fields: Any) -> None:
    found = match_fields(fields.stained.image, fields.unstained.image)
    middle = np.array([319.5, 239.5])
    truth = fields.unstained.to_pixel(*fields.stained.to_slide(*middle)) - middle
    assert (found.dx, found.dy) == pytest.approx(tuple(truth), abs=0.5)
    assert found.trusted()


def test_a_field_elsewhere_is_not_trusted(fields: Any) -> None:
    mirrored = np.ascontiguousarray(fields.unstained.image[::-1, ::-1])
    assert not match_fields(fields.stained.image, mirrored).trusted()


def test_white_cells_are_aligned_to_a_fraction_of_a_pixel(fields: Any) -> None:
    coarse = match_fields(fields.stained.image, fields.unstained.image)
    before, after = fields.unstained.image[..., 2], fields.stained.image[..., 2]
    errors = []
    for cell in fields.cells:
        true = fields.unstained.to_pixel(*cell.position(stained=False))
        seen = fields.stained.to_pixel(*cell.position(stained=True))
        x, y = (round(float(value)) for value in seen)
        u, v = x + round(coarse.dx), y + round(coarse.dy)
        if not (min(u, v) >= 37 and u <= 603 and v <= 443 and 32 <= x <= 608 and 32 <= y <= 448):
            continue
        fine = align_crop(
            after[y - 32 : y + 32, x - 32 : x + 32], before[v - 37 : v + 37, u - 37 : u + 37]
        )
        errors.append(
            np.hypot(u + fine.dx - x - (true - seen)[0], v + fine.dy - y - (true - seen)[1])
        )
    assert len(errors) >= 4
    assert np.median(errors) <= 0.5
    assert max(errors) <= 2.0


def test_location_tells_rotation_and_place(fields: Any) -> None:
    found = locate_by_edges(fields.stained.image, fields.unstained.image)
    truth = fields.unstained.to_pixel(*fields.stained.to_slide(0, 0))
    assert (found.dx, found.dy) == pytest.approx(tuple(truth), abs=1.5)
    assert found.rotation_deg == pytest.approx(-0.1, abs=0.06)
    assert found.scale == pytest.approx(1.0, abs=0.001)
    assert found.trusted


def test_images_of_different_size_are_refused(fields: Any) -> None:
    with pytest.raises(UserError, match="differ in size"):
        match_fields(fields.stained.image[:-1], fields.unstained.image)
