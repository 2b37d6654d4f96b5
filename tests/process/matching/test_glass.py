"""Correlation where there is nothing to correlate: bounded, and no evidence."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.acquire.roles import FieldPair, FieldView
from plsctl.process.matching.correlation import best_place, correlate
from plsctl.process.matching.locate import Location, locate_by_edges
from plsctl.process.matching.overlap import find_overlap
from plsctl.process.matching.slide_registration import CoarseRegistrar

Image = NDArray[np.uint8]
GLASS = 205.0
# What images are measured in: logarithms, shares of the light, grey values, 16 bits.
UNITS = (1e-3, 1.0, 255.0, 65_535.0)
KINDS = ("noise", "constant", "half flat", "one pixel", "almost constant")


def _values(kind: str, shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    image = np.full(shape, 0.8)
    if kind == "noise":
        image = rng.random(shape)
    elif kind == "half flat":
        image[:, : shape[1] // 2] = rng.random((shape[0], shape[1] // 2))
    elif kind == "one pixel":
        image[shape[0] // 3, shape[1] // 3] = 0.1
    elif kind == "almost constant":
        image += rng.normal(0, 1e-7, shape)
    return image.astype(np.float32)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("search", KINDS)
@pytest.mark.parametrize("template", KINDS)
def test_scores_lie_between_minus_one_and_one(template: str, search: str, unit: float) -> None:
    small = _values(template, (37, 45), 1) * np.float32(unit)
    large = _values(search, (90, 74), 2) * np.float32(unit)
    for centred in (False, True):
        scores = correlate(large, small, centred=centred)
        assert scores.shape == (54, 30)
        assert np.abs(scores).max() <= 1
    found = find_overlap(large, small, angles_deg=(-2.0, 0.0, 2.0))
    assert -1 <= found.score <= 1
    if "constant" in (template, search):
        assert found.score == 0
        assert not found.trusted()
        assert best_place(scores).second_ratio == 1


@pytest.mark.parametrize("unit", UNITS)
def test_the_score_is_the_correlation_of_what_overlaps(unit: float) -> None:
    field = cv2.GaussianBlur(_values("noise", (120, 150), 3), (0, 0), 2) * np.float32(unit)
    moving = field[40:, :90] + _values("noise", (80, 90), 4) * np.float32(0.05 * unit)
    reference = field[:100, 20:]
    found = find_overlap(reference, moving, angles_deg=(0.0,))
    # Middles of (80, 90) at (40, 0) against those of (100, 130) at (0, 20), in (y, x).
    assert (found.dx, found.dy) == pytest.approx((-40.0, 30.0), abs=0.1)
    literal = np.corrcoef(reference[40:, :70].ravel(), moving[:60, 20:].ravel())[0, 1]
    assert found.score == pytest.approx(literal, abs=1e-4)


def _field(seed: int, bare: tuple[slice, slice] | None = None) -> Image:
    """Rings like red cells, 400 x 520 pixels, less dense to the right, and glass."""
    rng = np.random.default_rng(seed)
    image = np.full((400, 520), GLASS, np.float32)
    for _ in range(130):
        centre = (int(520 * rng.random() ** 1.3), int(rng.integers(0, 400)))
        axes = (int(rng.integers(10, 17)), int(rng.integers(10, 17)))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, 150.0, -1)
        cv2.ellipse(image, centre, (5, 4), 0, 0, 360, 185.0, -1)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.2))
    if bare is not None:
        image[bare] = GLASS
    image += rng.normal(0, 1.5, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


BARE = (
    (slice(0, 400), slice(260, 520)),
    (slice(120, 400), slice(0, 520)),
    (slice(100, 300), slice(200, 420)),
)


def _is_at(found: Location, x: float, y: float) -> bool:
    return abs(found.dx - x) < 1 and abs(found.dy - y) < 1


@pytest.mark.parametrize("bare", BARE)
@pytest.mark.parametrize("seed", range(3))
def test_a_part_of_a_field_with_glass_is_found(seed: int, bare: tuple[slice, slice]) -> None:
    field = _field(seed, bare)
    found = locate_by_edges(field[10:210, 30:330], field)
    assert found.trusted
    assert _is_at(found, 30, 10)


@pytest.mark.parametrize("bare", BARE)
@pytest.mark.parametrize("seed", range(3))
def test_glass_is_not_taken_for_a_place(seed: int, bare: tuple[slice, slice]) -> None:
    # Glass elsewhere: its outline is nothing that both show.
    field, other = _field(seed, bare), _field(seed + 10, BARE[BARE.index(bare) - 1])
    assert not locate_by_edges(field[100:260, 180:400], other).trusted
    assert not locate_by_edges(field[120:220, 210:310], other).trusted
    nothing = np.full((120, 140), int(GLASS), np.uint8)
    assert not locate_by_edges(nothing, other).trusted


def test_a_dark_image_has_edges_too() -> None:
    field = _field(5)
    dark = np.rint(field[50:250, 60:300] * 0.12).astype(np.uint8)
    found = locate_by_edges(dark, field)
    assert found.trusted
    assert _is_at(found, 60, 50)


def _half_bare(image: Image, share: float) -> Image:
    """The field with its right share as bare as its brightest parts."""
    covered = image.copy()
    part = covered[:, round((1 - share) * image.shape[1]) :]
    glass = np.percentile(image.reshape(-1, 3), 97, axis=0)
    noise = np.random.default_rng(1).normal(0, 1.5, part.shape)
    part[:] = np.clip(np.rint(glass + noise), 0, 255)
    return covered


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6])
def test_a_returned_slide_is_found_though_a_part_of_it_is_glass(fields: Any, share: float) -> None:
    before, after = (
        FieldView(*fields.centre_um, _half_bare(field.image, share))
        for field in (fields.unstained, fields.stained)
    )
    found = CoarseRegistrar().locate([before], after, 100.0, fields.pixel_um, 0.7)
    assert found is not None
    truth = fields.returned.apply(*fields.centre_um)
    assert found.apply(*fields.centre_um) == pytest.approx(truth, abs=2.0)


def test_bare_fields_do_not_count_against_a_returned_slide(fields: Any) -> None:
    pair = FieldPair(
        FieldView(*fields.centre_um, fields.unstained.image),
        FieldView(*fields.centre_um, fields.stained.image),
    )
    glass = FieldView(*fields.centre_um, _half_bare(fields.unstained.image, 1.0))
    bare = FieldPair(glass, glass)
    found = CoarseRegistrar().register([bare, bare, bare, pair], fields.pixel_um, 0.7)
    truth = fields.returned.apply(*fields.centre_um)
    assert found.apply(*fields.centre_um) == pytest.approx(truth, abs=0.5)
