"""Dense blocks by tiles give what direct convolutions give, with all gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from plsctl.models.networks import winograd
from plsctl.models.networks.rrdb import RRDBNet
from plsctl.models.networks.winograd import images_of, tiles_of


def _output_and_gradients(
    network: RRDBNet, stacks: Tensor, by_tiles: bool, asked: Tensor
) -> list[Tensor]:
    network.winograd = by_tiles
    network.zero_grad()
    stacks = stacks.clone().requires_grad_()
    stained = network(stacks)
    (stained * asked).sum().backward()
    parameters = [p.grad for p in network.parameters() if p.grad is not None]
    assert stacks.grad is not None
    return [stained.detach(), stacks.grad, *parameters]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)], ids=str
)
def test_output_and_every_gradient_are_those_of_direct_convolutions(
    dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    network = RRDBNet(12, blocks=2, growth=5, width=20)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    # Sides that differ, one of them a single tile: every border is there.
    stacks, asked = torch.randn(3, 12, 4, 20, dtype=dtype), torch.randn(3, 3, 4, 20, dtype=dtype)
    network.to(dtype)
    direct = _output_and_gradients(network, stacks, False, asked)
    found = _output_and_gradients(network, stacks, True, asked)
    assert len(found) == len(direct) == 2 + len(list(network.parameters()))
    for one, other in zip(found, direct, strict=True):
        assert float((one - other).norm()) <= tolerance * float(other.norm())


def test_tiles_hold_the_pixels_of_an_image_and_give_it_back() -> None:
    image = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    tiles = tiles_of(image)
    assert tiles.shape == (2, 16, 3, 2, 3)
    assert tiles[1, 4 * 2 + 3, 1, 1, 2] == image[1, 1, 4 + 2, 8 + 3]
    assert torch.equal(images_of(tiles), image)


def test_prediction_and_sizes_without_whole_tiles_go_the_ordinary_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = RRDBNet(3, blocks=1, growth=2)
    network.winograd = True
    monkeypatch.setattr(winograd._DenseBlock, "apply", lambda *given: pytest.fail("by tiles"))
    network(torch.rand(1, 3, 8, 9)).mean().backward()
    with torch.no_grad():
        network(torch.rand(1, 3, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 3, 8, 8)).mean().backward()
    with pytest.raises(pytest.fail.Exception, match="by tiles"):
        network(torch.rand(1, 3, 8, 8))
