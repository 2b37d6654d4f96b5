"""Learned patterns of an LED array: bounds, quantisation against all there are, export."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from plsctl.acquire.leds.geometry import LedGeometry, load_geometry, standard_array
from plsctl.acquire.plans.recipes import load_recipe
from plsctl.acquire.plans.transfer import transfers
from plsctl.models.learned_optics.led_patterns import LedPatterns
from plsctl.models.learned_optics.shown_patterns import (
    ArrayLimits,
    pattern_recipe,
    quantise,
    save_recipe,
)

NA = 0.4
SHIPPED = Path(__file__).parents[3] / "hardware_configs"


def every_pattern(leds: int, limits: ArrayLimits) -> list[np.ndarray]:
    found = []
    for count in range(1, leds + 1 if limits.several else 2):
        for chosen in combinations(range(leds), count):
            for level in range(1, limits.levels + 1):
                if count * level / limits.levels <= limits.max_light + 1e-9:
                    pattern = np.zeros(leds)
                    pattern[list(chosen)] = level / limits.levels
                    found.append(pattern)
    return found


@pytest.mark.parametrize(
    "limits",
    [
        ArrayLimits(8),
        ArrayLimits(8, max_light=1.5),
        ArrayLimits(1),
        ArrayLimits(1, max_light=2.0),
        ArrayLimits(8, several=False),
    ],
)
def test_quantising_finds_the_nearest_of_all_patterns(limits: ArrayLimits) -> None:
    rng = np.random.default_rng(0)
    patterns = np.array(every_pattern(5, limits))
    for weights in rng.random((30, 5)) ** 3:
        best = ((patterns - weights) ** 2).sum(axis=1).min()
        found = quantise(weights, limits).weights
        assert ((found - weights) ** 2).sum() == pytest.approx(best)
        assert (np.abs(patterns - found) < 1e-12).all(axis=1).any()


def test_weights_that_the_array_can_show_stay_within_half_a_step() -> None:
    weights = 0.4321 * np.isin(np.arange(43), [3, 17, 40])
    found = quantise(weights, ArrayLimits(255))
    assert found.lit.nonzero()[0].tolist() == [3, 17, 40]
    assert np.abs(found.weights - weights).max() <= 0.5 / 255


@pytest.mark.parametrize("as_shown", [False, True])
def test_exposures_add_and_stay_within_the_light(as_shown: bool) -> None:
    torch.manual_seed(0)
    layer = LedPatterns(12, 3, ArrayLimits(255, max_light=4.0), as_shown=as_shown)
    with torch.no_grad():
        layer.raw.mul_(4)
    weights = layer.weights().detach()
    assert (weights >= 0).all() and weights.max() <= 1 + 1e-6
    assert weights.sum(dim=1).max() <= 4 + 1e-5
    one, other = torch.rand(2, 2, 12, 3, 5, 4)
    assert layer(one).shape == (2, 3, 3, 5, 4)
    assert torch.allclose(layer(one + 2 * other), layer(one) + 2 * layer(other), atol=1e-5)
    used = torch.tensor(np.stack([p.weights for p in layer.shown()])) if as_shown else weights
    expected = sum(used[1, led] * one[0, led] for led in range(12))
    assert torch.allclose(layer(one)[0, 1], expected.float(), atol=1e-5)
    for pattern in layer.shown():
        assert pattern.weights.sum() <= 4 * (1 + 1e-6)


def test_gradients() -> None:
    torch.manual_seed(1)
    layer = LedPatterns(4, 2, ArrayLimits(255, max_light=1.2), as_shown=False).double()
    images = torch.rand(1, 4, 1, 2, 2, dtype=torch.float64, requires_grad=True)

    def shown(pixels: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"raw": raw}, (pixels,))

    assert torch.autograd.gradcheck(shown, (images, layer.raw))


def test_a_pattern_is_learned_from_its_images() -> None:
    torch.manual_seed(2)
    images = torch.rand(8, 6, 1, 6, 6)
    wanted = torch.zeros(6)
    wanted[[1, 4]] = 153 / 255
    exposure = torch.einsum("l,blcyx->bcyx", wanted, images)[:, None]
    layer = LedPatterns(6, 1)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (layer(images) - exposure).square().mean()
        loss.backward()
        optimiser.step()
    (pattern,) = layer.shown()
    assert pattern.lit.nonzero()[0].tolist() == [1, 4]
    assert abs(pattern.level - 153) <= 2


def learned(array: LedGeometry, limits: ArrayLimits) -> LedPatterns:
    torch.manual_seed(3)
    layer = LedPatterns(len(array.leds), 4, limits)
    with torch.no_grad():
        layer.raw.mul_(4)
    return layer


@pytest.mark.parametrize("table", ["leds_43.csv", "leds_64.csv", "leds_257.csv"])
def test_the_exported_recipe_lights_the_learned_leds(tmp_path: Path, table: str) -> None:
    array = load_geometry(SHIPPED / table)
    layer = learned(array, ArrayLimits(255, max_light=20))
    save_recipe(pattern_recipe("mine", layer.shown(), array.directions), tmp_path / "mine.yaml")
    recipe = load_recipe(tmp_path / "mine.yaml")
    bright, *images = recipe.light(array, NA)
    assert bright.frame.label == "brightfield"
    assert len(images) == 4
    for image, pattern in zip(images, layer.shown(), strict=True):
        found = np.isin([led.led for led in array.leds], [led.led for led in image.leds])
        assert found.tolist() == pattern.lit.tolist()
        assert round(255 * image.weight) == pattern.level
        assert np.abs(found * image.weight - pattern.weights).max() <= 0.5 / 255
    assert all(each.is_whole for each in transfers(recipe, array))


def test_another_array_says_what_is_lost(tmp_path: Path) -> None:
    dense, coarse = load_geometry(SHIPPED / "leds_257.csv"), standard_array()
    layer = learned(dense, ArrayLimits(255, max_light=20))
    recipe = pattern_recipe("mine", layer.shown(), dense.directions)
    for image, told in zip(layer.shown(), transfers(recipe, coarse), strict=True):
        points = [tuple(point) for point in dense.directions[image.lit]]
        far = [min(np.hypot(*(coarse.directions - point).T)) for point in points]
        reach = recipe.frames[1].reach + 0.0003
        # Places in a recipe have four digits.
        assert len(told.missing) == pytest.approx(sum(d > reach for d in far), abs=1)
        assert max(told.shifts, default=0) == pytest.approx(
            max((d for d in far if d <= reach), default=0), abs=2e-4
        )
        assert not told.is_whole


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="0 or above"):
        quantise(np.array([0.1, -0.1]), ArrayLimits())
    with pytest.raises(ValueError, match="first step"):
        ArrayLimits(4, max_light=0.2)
    with pytest.raises(ValueError, match="has 5 LEDs, and there are 43"):
        pattern_recipe("x", [quantise(np.ones(5), ArrayLimits())], standard_array().directions)
