"""Matching of fields and crops against places that are known."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import metrics

from plsctl.acquire.errors import UserError
from plsctl.process.matching.correlation import match_fields, search_margin_px
from plsctl.process.matching.fields import FieldAligner, match_position
from plsctl.process.matching.fine_alignment import align_crop, cell_weights, similarity_map
from plsctl.process.matching.locate import locate_by_edges
from plsctl.process.matching.similarity import Similarity


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


def _turned(fields: Any, angle_deg: float) -> tuple[Similarity, NDArray[np.uint8]]:
    """The stained field as if the slide had come back turned by so much more; and the motion."""
    motion = Similarity.about((319.5, 239.5), (319.5, 239.5), angle_deg)
    image = cv2.warpAffine(
        fields.stained.image, motion.matrix, (640, 480), borderMode=cv2.BORDER_REFLECT
    )
    return motion, np.asarray(image, np.uint8)


@pytest.mark.parametrize(("turned_deg", "known_deg"), [(0.0, 0.1), (2.0, 2.1), (2.0, 0.0)])
def test_white_cells_are_aligned_to_a_fraction_of_a_pixel(
    fields: Any, turned_deg: float, known_deg: float
) -> None:
    """Each by itself, whether or not the transform of the slide tells how it lies."""
    motion, after = _turned(fields, turned_deg)
    field = match_position(fields.unstained.image, after, known_deg, fields.pixel_um)
    assert field.trusted
    assert field.to_unstained.rotation_deg == pytest.approx(-0.1 - turned_deg, abs=0.1)
    aligner = FieldAligner(fields.unstained.image, after, field)
    errors = []
    for cell in fields.cells:
        seen = motion.apply_to(*fields.stained.to_pixel(*cell.position(stained=True)))
        box = (cell.diameter_um / fields.pixel_um,) * 2
        found = aligner.align(seen[0] + 1.3, seen[1] - 0.8, box, 64, 5)
        if found is None:
            continue
        there = fields.stained.to_slide(*motion.inverse.apply_to(*found.stained))
        moved = there - [cell.shift_x_um, cell.shift_y_um]
        errors.append(np.linalg.norm(fields.unstained.to_pixel(*moved) - found.unstained))
        assert found.fine.inside
    assert len(errors) >= 4
    assert np.median(errors) <= 0.25
    assert max(errors) <= 1.0


def test_a_field_of_another_place_is_not_trusted(fields: Any) -> None:
    mirrored = np.ascontiguousarray(fields.unstained.image[::-1, ::-1])
    assert not match_position(mirrored, fields.stained.image, 0.1, fields.pixel_um).trusted


def test_neighbours_do_not_count_where_the_cell_is_weighted() -> None:
    rng = np.random.default_rng(5)
    base = cv2.GaussianBlur(rng.normal(128, 60, (90, 90)).astype(np.float32), (0, 0), 2)
    search = np.clip(base, 0, 255).astype(np.uint8)[8:82, 8:82]
    crop = np.clip(base, 0, 255).astype(np.uint8)[15:79, 11:75].copy()  # the neighbours' shift
    y, x = np.mgrid[:64, :64] - 31.5
    own = np.hypot(x, y) < 16
    crop[own] = search[3:67, 4:68][own]  # the cell's
    found = align_crop(crop, search, weights=cell_weights(64, 24, 24))
    assert (found.dx, found.dy) == pytest.approx((-1, -2), abs=0.15)


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
