"""A confirmation of where the returned slide lies must not contradict what it confirms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import ALIGNED, SlideTransform
from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.slide import ReturnSettings
from plsctl.acquire.scanning.slide_search import SlideSearch

TRUTH = SlideTransform(0.0, 0.0, 25.0, -19.0, 0.0)
PLACES = [(0.0, 0.0), (400.0, 300.0)]


class Registrar:
    """Guesses wrongly by some micrometres in x; each look corrects that by a share of it."""

    def __init__(self, off_um: float, share: float) -> None:
        self._off_um, self._share = off_um, share

    def locate(self, *_: object) -> SlideTransform:
        return SlideTransform(0.0, 0.0, 25.0 + self._off_um, -19.0, 0.0)

    def register(self, pairs: object, pixel: float, turn: float, guess: Any) -> SlideTransform:
        off_um = (guess.shift_x_um - 25.0) * (1 - self._share)
        return SlideTransform(0.0, 0.0, 25.0 + off_um, -19.0, 0.0)


def search(off_um: float, share: float) -> SlideTransform:
    blank = np.zeros((4, 4, 3), np.uint8)
    before: Any = SimpleNamespace(
        positions=[
            SimpleNamespace(name=f"A/{i}", slide_x_um=x, slide_y_um=y)
            for i, (x, y) in enumerate(PLACES)
        ],
        names=["A/0", "A/1"],
        path=Path("S") / "unstained.ome.zarr",
        size_px=lambda name: (480, 360),
        brightfield=lambda name: blank,
    )
    attributes: Any = SimpleNamespace(
        pixel_um=0.3, orientation=ALIGNED, camera_rotation_deg=0.0, camera_mirrored=False
    )

    def look(x_um: float, y_um: float) -> Image:
        return blank

    settings = ReturnSettings(fields=2, reach_um=100.0)
    found = SlideSearch(before, attributes, Registrar(off_um, share), settings)
    return found.find(look, check=lambda images: None)


@pytest.mark.parametrize(("off_um", "share"), [(0.0, 1.0), (5.0, 1.0), (30.0, 1.0), (12.0, 0.9)])
def test_a_guess_that_comes_back_or_is_corrected_at_the_second_look_is_right(
    off_um: float, share: float
) -> None:
    found = search(off_um, share)
    assert found.apply(0.0, 0.0) == pytest.approx(TRUTH.apply(0.0, 0.0), abs=1.0)


def test_looks_that_contradict_their_guesses_confirm_nothing() -> None:
    # Mirrored, each look leads away from the truth by as much as it should lead there.
    with pytest.raises(UserError, match=r"not found .* show it 100 µm beside, twice"):
        search(50.0, -1.0)
