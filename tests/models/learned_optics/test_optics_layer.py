"""The optics layer against the theory of a round pupil, and its folded form against itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import j1

from plsctl.acquire.errors import UserError
from plsctl.models.learned_optics.blur import Blur
from plsctl.models.learned_optics.fixed_filter import FixedFilter
from plsctl.models.learned_optics.layer import OpticsLayer


def jinc(size_px: int) -> np.ndarray:
    """2 J1(pi r) / (pi r), r in pixels: the amplitude of a round pupil up to Nyquist."""
    place = np.arange(size_px) - size_px // 2
    radius = np.pi * np.hypot(*np.meshgrid(place, place))
    safe = np.where(radius == 0, 1.0, radius)
    return np.where(radius == 0, 1.0, 2 * j1(safe) / safe)


def learned(layer: OpticsLayer, seed: int = 0) -> OpticsLayer:
    """Other weights than those it begins with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return layer


def image(channels: int = 3, side: int = 40, seed: int = 1) -> torch.Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(seed))


def test_a_point_through_a_flat_pupil_is_the_airy_pattern() -> None:
    layer = OpticsLayer(channels=1, size_px=127)
    point = torch.zeros(1, 1, 131, 131)
    point[0, 0, 65, 65] = 1
    shown = layer(point)[0, 0].detach().numpy()
    inner = slice(45, 86)
    assert np.abs(shown / shown[65, 65] - jinc(131) ** 2)[inner, inner].max() < 1e-4
    # All of it together is 1, so the middle has the area of the disc of frequencies, pi / 4
    # (Parseval), but for the edge of the pupil, which is a cell wide.
    assert shown.sum() == pytest.approx(1, abs=1e-5)
    assert shown[65, 65] == pytest.approx(np.pi / 4, rel=1 / 63)


def test_a_flat_spectrum_has_the_kernel_of_papers_000() -> None:
    kernel = Blur("spectrum", 127).kernels()[0].detach().numpy()
    inner = slice(45, 82)
    assert np.abs(kernel - np.pi / 4 * jinc(127))[inner, inner].max() < 1e-3
    assert kernel.min() < -0.05
    assert kernel.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("form", ["pupil", "spectrum"])
def test_any_blur_keeps_the_light_and_a_point_in_its_place(form: str) -> None:
    layer = learned(OpticsLayer(3, form=form, size_px=15, blur_each=True))  # type: ignore[arg-type]
    weights, kernels = layer.channel_weights(), layer.blur.kernels()
    assert kernels.sum(dim=(1, 2)).detach().numpy() == pytest.approx(np.ones(3), abs=1e-5)
    # Real weights in the pupil: a kernel that is the same on opposite sides.
    assert torch.allclose(kernels, kernels.flip(1, 2), atol=1e-6)
    even = layer(torch.ones(1, 3, 20, 20))
    assert torch.allclose(even, weights.sum().expand_as(even), atol=1e-5)


def test_light_sums_to_one_and_nothing_is_negative() -> None:
    layer = learned(OpticsLayer(3, 2, size_px=15, blur_each=True))
    assert float(layer.light().detach().sum()) == pytest.approx(1)
    assert (layer.light() >= 0).all() and (layer.channel_weights() >= 0).all()
    assert (layer.blur.kernels() >= 0).all()
    assert (layer(image()) > 0).all()
    sharp = learned(OpticsLayer(3, form="spectrum", size_px=15))
    points = torch.zeros(1, 3, 20, 20)
    points[..., 10, 10] = 1
    assert (sharp(points) >= 0).all() and (sharp(points) == 0).any()


def test_images_add_as_their_light_does() -> None:
    layer = learned(OpticsLayer(3, 2, size_px=15, blur_each=True))
    one, other = image(seed=1), image(seed=2)
    together = layer(2 * one + 0.5 * other)
    assert torch.allclose(together, 2 * layer(one) + 0.5 * layer(other), atol=1e-5)


@pytest.mark.parametrize("pooling", [1, 2, 3, 4, 5, 6])
def test_pooling_is_the_mean_of_whole_squares(pooling: int) -> None:
    layer = learned(OpticsLayer(3, pooling, size_px=9))
    images = image(side=41)
    before = layer.unpooled(images)[1, 0].detach().numpy()
    after = layer(images)[1, 0].detach().numpy()
    assert after.shape == (41 // pooling, 41 // pooling)
    last = before[-(41 % pooling) - pooling :, :pooling][:pooling]
    assert after[-1, 0] == pytest.approx(last.mean(), rel=1e-5)


@pytest.mark.parametrize("order", ["blur_then_add", "add_then_blur"])
def test_the_order_matters_where_light_is_clipped_only(order: str) -> None:
    images = image()
    pupil = [learned(OpticsLayer(3, size_px=9, order=o)) for o in ("blur_then_add", order)]  # type: ignore[arg-type]
    assert torch.allclose(pupil[0](images), pupil[1](images), atol=1e-5)
    points = torch.zeros(1, 3, 20, 20)
    points[0, 0, 10, 10] = points[0, 1, 10, 11] = 1
    clipped = [
        learned(OpticsLayer(3, form="spectrum", size_px=9, order=o))  # type: ignore[arg-type]
        for o in ("blur_then_add", order)
    ]
    same = torch.allclose(clipped[0](points), clipped[1](points), atol=1e-4)
    assert same == (order == "blur_then_add")


@pytest.mark.parametrize("form", ["pupil", "spectrum"])
@pytest.mark.parametrize("blur_each", [False, True])
def test_gradients(form: str, blur_each: bool) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        layer = learned(OpticsLayer(2, 2, form, 5, blur_each=blur_each))  # type: ignore[arg-type]
    finally:
        torch.set_default_dtype(torch.float32)
    images = image(2, 8).double().requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)

    def shown(pixels: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, given, (pixels,))

    assert torch.autograd.gradcheck(shown, (images, *values))


@pytest.mark.parametrize(
    ("form", "blur_each", "order", "edge"),
    [
        ("pupil", False, "blur_then_add", "reflect"),
        ("pupil", True, "blur_then_add", "wrap"),
        ("spectrum", True, "blur_then_add", "reflect"),
        ("spectrum", False, "add_then_blur", "wrap"),
    ],
)
def test_the_folded_filter_shows_the_same(
    tmp_path: Path, form: str, blur_each: bool, order: str, edge: str
) -> None:
    layer = learned(
        OpticsLayer(3, 3, form, 15, blur_each=blur_each, order=order, edge=edge)  # type: ignore[arg-type]
    )
    layer.folded().save(tmp_path / "filter.npz")
    folded = FixedFilter.load(tmp_path / "filter.npz")
    images = image(side=31) - 0.3
    expected = layer(images)[0, 0].detach().numpy()
    assert folded(images[0].numpy()) == pytest.approx(expected, abs=1e-5)


def test_frozen_optics_learn_nothing_and_training_moves_the_rest() -> None:
    layer, images = OpticsLayer(3, 2, size_px=9), image()
    before = layer(images).mean() + layer(images).var()
    before.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    layer.freeze()
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="one blur in common"):
        OpticsLayer(3, order="add_then_blur", blur_each=True)
    with pytest.raises(ValueError, match="not from 1 to 6"):
        OpticsLayer(3, 7)
    with pytest.raises(ValueError, match="must be odd"):
        OpticsLayer(3, size_px=16)
    with pytest.raises(ValueError, match="smaller than the 32 px"):
        OpticsLayer(3)(image(side=30))


def test_another_file_is_no_filter(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("text")
    with pytest.raises(UserError, match="no filter of learned optics"):
        FixedFilter.load(tmp_path / "x.npz")
