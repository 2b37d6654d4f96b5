"""Directions of a recipe on the array they come from, and on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from plsctl.acquire.leds.geometry import Led, LedGeometry, standard_array
from plsctl.acquire.plans.recipes import Recipe, load_recipe
from plsctl.acquire.plans.transfer import transfers

NA = 0.4

TEXT = """\
name: spots
frames:
  - {pattern: brightfield}
  - {na_points: [[0.30, 0.0], [0.0, -0.10], [0.0, -0.12]], na_reach: 0.03, label: three}
  - {each: {na_points: [[0.1, 0.0]]}}
"""


def spots(folder: Path) -> Recipe:
    (folder / "spots.yaml").write_text(TEXT)
    return load_recipe(folder / "spots.yaml")


def array(*places: tuple[float, float]) -> LedGeometry:
    """LEDs by their direction cosines."""
    return LedGeometry(
        tuple(
            Led(number, f"LED{number}", 100 * x, 100 * y, -100 * (1 - x**2 - y**2) ** 0.5, "")
            for number, (x, y) in enumerate(places)
        )
    )


def test_directions_light_the_nearest_leds(tmp_path: Path) -> None:
    recipe = spots(tmp_path)
    own = array((0.3, 0), (0, -0.1), (0, -0.12), (0.1, 0), (0, 0))
    lit = recipe.light(own, NA)
    assert [[led.led for led in frame.leds] for frame in lit[1:]] == [[0, 1, 2], [3]]
    assert all(found.is_whole for found in transfers(recipe, own))
    assert lit[2].frame.label == "LED3"


def test_another_array_says_what_it_lacks(tmp_path: Path) -> None:
    recipe = spots(tmp_path)
    coarse = array((0.25, 0), (0, -0.11), (0.12, 0))
    lit = recipe.light(coarse, NA)
    assert [led.led for led in lit[1].leds] == [1]
    three, each = transfers(recipe, coarse)
    assert three.missing == ((0.3, 0.0),)
    assert three.shared == 1
    assert three.shifts == pytest.approx((0.01, 0.01))
    assert "1 of 3 directions have no LED near enough; 1 of 3 fall on an LED" in str(three)
    assert each.shifts == pytest.approx((0.02,)) and not each.is_whole
    assert "NA 0.020 beside them" in str(each)


def test_recipes_without_directions_lose_none() -> None:
    assert transfers(load_recipe("full"), standard_array()) == ()
