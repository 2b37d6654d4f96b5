"""Losses against values computed by hand, and their gradients."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from plsctl.acquire.errors import UserError
from plsctl.models.networks.features import StainFeatures, VggFeatures
from plsctl.models.runs.registry import MODELS, LossWeights
from plsctl.models.staining.losses import (
    fourier_amplitude,
    mean_absolute_error,
    perceptual,
    weighted_loss,
)


def test_weights_are_those_of_the_paper() -> None:
    assert MODELS["maenet"].losses == LossWeights(1, 0, 0)
    assert MODELS["maepnet"].losses == LossWeights(1, 0.0125, 0)
    assert MODELS["maepfnet"].losses == LossWeights(1, 0.0125, 0.0125)


def test_mean_absolute_error_by_hand() -> None:
    a = torch.tensor([0.5, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    assert float(mean_absolute_error(a, torch.zeros_like(a))) == pytest.approx(0.625)


def test_fourier_loss_by_hand() -> None:
    # A constant c on n pixels has one amplitude, n c, at frequency 0; unnormalised.
    constant = torch.full((1, 3, 4, 4), 0.5)
    zero = torch.zeros_like(constant)
    assert float(fourier_amplitude(constant, zero)) == pytest.approx(16 * 0.5 / 16, abs=1e-3)
    # A cosine of amplitude a splits into two amplitudes n a / 2.
    wave = 0.3 * torch.cos(2 * math.pi * torch.arange(8) / 8).expand(1, 1, 8, 8)
    assert float(fourier_amplitude(wave, torch.zeros_like(wave))) == pytest.approx(0.3, abs=1e-3)
    # Amplitudes do not see a shift.
    assert float(fourier_amplitude(wave, wave.roll(3, dims=3))) < 1e-3


def test_fourier_gradient_is_finite_at_zero_amplitude_and_right_elsewhere() -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 8, 8, requires_grad=True)
    fourier_amplitude(image, torch.rand(1, 3, 8, 8)).backward()
    assert image.grad is not None and bool(torch.isfinite(image.grad).all())
    # Central difference along one direction in float32's reach.
    at, way = torch.rand(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    target = torch.rand(1, 3, 8, 8)
    at.requires_grad_()
    fourier_amplitude(at, target).backward()
    step = 1e-3
    with torch.no_grad():
        difference = fourier_amplitude(at + step * way, target) - fourier_amplitude(
            at - step * way, target
        )
    assert at.grad is not None
    assert float((at.grad * way).sum()) == pytest.approx(float(difference) / (2 * step), rel=2e-2)


def test_stain_features_are_white_and_repeatable() -> None:
    torch.manual_seed(1)
    base = torch.rand(24, 3, 8, 8)
    targets = torch.nn.functional.interpolate(base, size=32, mode="bilinear") * 2 - 1
    features = StainFeatures.from_targets(targets)
    maps = features(targets)
    assert [tuple(m.shape[1:]) for m in maps] == [(12, 32, 32), (24, 16, 16), (48, 8, 8)]
    # Principal components: unit variance, uncorrelated, over the patches they were made from.
    inner = maps[0][:, :, 1:-1, 1:-1].transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(inner), torch.eye(12), atol=0.02, rtol=0)
    again = StainFeatures.from_targets(targets)
    for one, other in zip(features.stages, again.stages, strict=True):
        torch.testing.assert_close(one.weight, other.weight)


@pytest.mark.parametrize("levels", [[1.0, 1.0], [0.5, 0.5 + 2 / 255]], ids=["white", "two greys"])
def test_targets_in_which_nothing_varies_give_finite_features(levels: list[float]) -> None:
    torch.manual_seed(3)
    drawn = torch.rand(8, 3, 16, 16) < 0.5
    targets = torch.where(drawn, levels[0], levels[1])
    features = StainFeatures.from_targets(targets)
    loss = perceptual(torch.rand(8, 3, 16, 16), targets, features)
    # Of what is only rounding nothing is made up: two greys next to each other stay alike.
    assert bool(loss.isfinite())
    assert float(perceptual(targets, targets.flip(0), features)) < 2


def test_perceptual_loss_is_zero_for_equals_and_reaches_the_prediction() -> None:
    torch.manual_seed(2)
    targets = torch.rand(8, 3, 16, 16) * 2 - 1
    features = StainFeatures.from_targets(targets)
    assert float(perceptual(targets, targets, features)) == 0
    image = torch.zeros_like(targets, requires_grad=True)
    perceptual(image, targets, features).backward()
    assert image.grad is not None and bool(image.grad.any())
    assert all(p.grad is None for p in features.parameters())


def test_vgg_is_read_from_a_file_and_tapped_before_activation(tmp_path: Path) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in VggFeatures().parameters()) == 10_585_152
    torch.manual_seed(3)
    network = VggFeatures()
    assert isinstance(network.features[25], torch.nn.Conv2d) and len(network.features) == 26
    state = {**network.state_dict(), "classifier.0.weight": torch.zeros(2)}
    torch.save(state, tmp_path / "vgg19.pth")
    loaded = VggFeatures.load(tmp_path / "vgg19.pth")
    (found,) = loaded(torch.rand(1, 3, 16, 16))
    assert found.shape == (1, 512, 2, 2) and bool((found < 0).any())
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold VGG19"):
        VggFeatures.load(tmp_path / "other.pth")
    with pytest.raises(UserError, match="no such file"):
        VggFeatures.load(tmp_path / "missing.pth")


def test_the_weighted_terms_add_up() -> None:
    torch.manual_seed(4)
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    features = StainFeatures.from_targets(b)
    terms = weighted_loss(MODELS["maepfnet"].losses, features)(a, b)
    assert list(terms) == ["loss", "mae", "perceptual", "fourier"]
    assert float(terms["fourier"]) == pytest.approx(0.0125 * float(fourier_amplitude(a, b)))
    assert float(terms["loss"]) == pytest.approx(
        sum(float(terms[name]) for name in ("mae", "perceptual", "fourier"))
    )
    with pytest.raises(ValueError, match="feature network"):
        weighted_loss(MODELS["maepnet"].losses, None)
    with pytest.raises(ValueError, match="must be the same"):
        mean_absolute_error(a, b[:1])
    assert np.isfinite(float(terms["loss"]))
