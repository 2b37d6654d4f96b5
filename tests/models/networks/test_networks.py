"""U-Net and fast network: sizes, frames of any size, reach, gradients, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from plsctl.acquire.errors import UserError
from plsctl.cli.shared.completion import MODELS as NAMED
from plsctl.models.networks.fast import FastNet, LayerNorm2d, gate, window_means
from plsctl.models.networks.generators import make_network
from plsctl.models.networks.sizes import alignment_px, network_parameters, receptive_radius_px
from plsctl.models.networks.unet import UNet
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.config import TrainingConfig, config_from_options
from plsctl.models.runs.registry import MODELS
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_unet_has_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        assert _parameters(UNet(132)) == 29_279_011


@pytest.mark.parametrize("name", ["unet", "fast", "rrdb"])
@pytest.mark.parametrize(("channels", "blocks", "width"), [(132, 4, None), (12, 2, 10)])
def test_parameters_are_counted_without_building(
    name: Any, channels: int, blocks: int, width: int | None
) -> None:
    with torch.device("meta"):
        network = make_network(name, channels, blocks, 16, width)
    assert _parameters(network) == network_parameters(name, channels, blocks, 16, width)


def test_the_command_names_every_model() -> None:
    assert set(NAMED) == set(MODELS)


def test_gate_norm_and_window_means_by_hand() -> None:
    assert gate(torch.tensor([2.0, 3.0, 5.0, 7.0]).view(1, 4, 1, 1)).flatten().tolist() == [10, 21]
    normalised = LayerNorm2d(2)(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)).detach()
    torch.testing.assert_close(normalised.flatten(), torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)
    small = torch.rand(1, 2, 16, 16)
    expected = small.mean(dim=(2, 3), keepdim=True).expand(1, 2, 4, 4)
    torch.testing.assert_close(window_means(small, 4), expected)
    # 12 cells in a row, a window of 8: it stays inside, so that places near the ends share one.
    row = torch.arange(12.0).view(1, 1, 1, 12)
    means = [3.5] * 4 + [4.5, 5.5, 6.5] + [7.5] * 5
    assert window_means(row, 1).flatten().tolist() == means


@pytest.mark.parametrize("network", [UNet(6, width=4), FastNet(6, blocks=1, width=4)])
def test_frames_of_any_size_keep_it(network: nn.Module) -> None:
    for shape in ((64, 64), (24, 24), (70, 131)):
        assert network.eval()(torch.rand(1, 6, *shape)).shape == (1, 3, *shape)
    with pytest.raises(ValueError, match=r"expected \(B, 6, H, W\)"):
        network(torch.zeros(1, 3, 64, 64))


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        UNet(0)
    with pytest.raises(ValueError, match="must be positive"):
        FastNet(3, blocks=0)


@pytest.mark.parametrize("network", [UNet(3, width=4), FastNet(3, blocks=1, width=4)])
def test_every_weight_gets_a_gradient(network: nn.Module) -> None:
    torch.manual_seed(0)
    network.train()(torch.randn(3, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


def test_a_last_batch_of_one_crop_trains_the_unet() -> None:
    network = UNet(3, width=4).train()
    network(torch.rand(1, 3, 64, 64)).mean().backward()
    assert all(
        bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None
    )


@pytest.mark.parametrize(
    ("name", "network", "blocks"),
    [("unet", UNet(1, width=2), 0), ("fast", FastNet(1, blocks=1, width=2), 1)],
)
def test_no_pixel_looks_further_than_the_exact_halo(
    name: Any, network: nn.Module, blocks: int
) -> None:
    torch.manual_seed(1)
    network = network.double().eval()
    radius, step = receptive_radius_px(blocks, name), alignment_px(name)
    length = (2 * radius + 100) // step * step
    strip = torch.randn(1, 1, 8 if name == "fast" else 64, length, dtype=torch.float64)
    centre = length // 2
    strip.requires_grad_()
    for column in (centre, centre + 5, centre + step - 1):
        (found,) = torch.autograd.grad(network(strip)[0, :, :, column].sum(), strip)
        reached = found[0, 0].abs().amax(dim=0).nonzero()
        assert int((reached - column).abs().max()) <= radius


def _config(data: Path, out: Path, model: str, **changes: Any) -> TrainingConfig:
    options = {
        "data": data, "out": out, "width": 4, "batch": 8, "learning_rate": 3e-3, "epochs": 2,
        "device": "cpu", "precision": "float32",
        "memory_format": "channels_last",
    } | changes  # fmt: skip
    return config_from_options(model, options)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("model", ["unet", "fast"])
def test_both_train_resume_and_stain_in_tiles(
    model: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(_config(dataset, tmp_path / "whole", model, average=0.5))
    train(_config(dataset, tmp_path / "pieces", model, average=0.5, epochs=1))
    pieced = train(_config(dataset, tmp_path / "pieces", model, average=0.5))
    assert pieced.metrics == pytest.approx(whole.metrics, rel=1e-4)
    predictor = Predictor(Run.open(tmp_path / "whole"), device="cpu", precision="float32")
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 255, (4, 150, 90, 3)).astype(np.uint8)
    exact = predictor.stain_frame(stack, tile_px=512)
    tiled = predictor.stain_frame(stack, tile_px=70)
    assert np.abs(exact.astype(int) - tiled).max() <= 1
    # Networks that halve their images look unequally far from place to place.
    halo = predictor.measure_halo(stack, 70)
    assert halo.exact_px == predictor.run.config.exact_halo_px and halo.error_counts <= 1
    tiled = predictor.stain_frame(stack, tile_px=70, halo_px=halo.px)
    assert np.abs(exact.astype(int) - tiled).max() <= 1


def test_a_size_that_a_network_has_not_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--blocks 8: unet has no blocks to choose"):
        _config(dataset, tmp_path, "unet", blocks=8)
    with pytest.raises(UserError, match="--growth 8: fast has no growth to choose"):
        _config(dataset, tmp_path, "fast", growth=8)
