"""The returned slide: shift and rotation found, disagreement reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import FieldPair, FieldView
from plsctl.process.cells.field_inspector import BrightfieldInspector
from plsctl.process.matching.slide_registration import CoarseRegistrar

CAMERA_ROTATION_DEG = 0.7
Image = NDArray[np.uint8]


def _pair(fields: Any, before: Image, after: Image, x_um: float = 0.0) -> FieldPair:
    x, y = fields.centre_um
    return FieldPair(FieldView(x + x_um, y, before), FieldView(x + x_um, y, after))


def test_shift_and_rotation_come_from_one_field(fields: Any) -> None:
    pair = _pair(fields, fields.unstained.image, fields.stained.image)
    found = CoarseRegistrar().register([pair], fields.pixel_um, CAMERA_ROTATION_DEG)
    for place in ((11_000, 5_600), (11_060, 5_640)):
        assert found.apply(*place) == pytest.approx(fields.returned.apply(*place), abs=0.5)
    assert found.rotation_deg == pytest.approx(0.1, abs=0.06)


def test_fields_that_cannot_be_found_again_are_an_error(fields: Any) -> None:
    other = np.ascontiguousarray(fields.unstained.image[::-1, ::-1])
    pair = _pair(fields, other, fields.stained.image)
    with pytest.raises(UserError, match="returned slide"):
        CoarseRegistrar().register([pair], fields.pixel_um, CAMERA_ROTATION_DEG)


def test_a_field_that_disagrees_is_left_out(fields: Any) -> None:
    good = _pair(fields, fields.unstained.image, fields.stained.image)
    rolled = np.roll(fields.stained.image, 60, axis=1)
    pairs = [good, good, _pair(fields, fields.unstained.image, rolled, 300.0)]
    found = CoarseRegistrar().register(pairs, fields.pixel_um, CAMERA_ROTATION_DEG)
    # Both good fields lie at one place: the motion there is what they agree on.
    assert found.apply(*fields.centre_um) == pytest.approx(
        fields.returned.apply(*fields.centre_um), abs=0.5
    )


def test_judge_tells_stained_from_unstained(fields: Any) -> None:
    inspector = BrightfieldInspector()
    assert inspector.looks_stained(fields.stained.image)
    assert not inspector.looks_stained(fields.unstained.image)
    assert inspector.white_cells(fields.stained.image) >= 5
    assert inspector.white_cells(fields.unstained.image) == 0
