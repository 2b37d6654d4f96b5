"""The generator: the paper's size, hand-computed values, and errors."""

from __future__ import annotations

import pytest
import torch

from plsctl.acquire.plans.recipes import recipe
from plsctl.models.networks.rrdb import DenseBlock, ResidualDenseBlock, RRDBNet
from plsctl.models.networks.sizes import parameter_count, receptive_radius_px

# papers/002 table 4.1; 29 images where the table prints 30.
COUNTS = [
    ("full", 74, 13_021_833),
    ("full-nohe", 44, 6_515_463),
    ("le36deg", 44, 6_515_463),
    ("le36deg-nohe", 29, 4_027_728),
    ("le18deg", 14, 2_050_293),
    ("le8deg", 4, 1_015_503),
    ("brightfield", 1, 749_292),
]


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("name", "images", "count"), COUNTS)
def test_generators_have_the_papers_number_of_parameters(
    name: str, images: int, count: int
) -> None:
    assert len(recipe(name)) == images
    assert parameter_count(3 * images, blocks=4, growth=32) == count
    with torch.device("meta"):
        assert _parameters(RRDBNet(3 * images)) == count


def test_the_deep_and_the_narrow_generator_are_counted_right() -> None:
    assert parameter_count(132, blocks=8, growth=32) == 12_713_463
    with torch.device("meta"):
        narrow = RRDBNet(132, blocks=2, growth=16, width=24)
    assert _parameters(narrow) == parameter_count(132, 2, 16, 24)


def _set_all(module: torch.nn.Module, weight: float, bias: float) -> None:
    """Every convolution: its middle tap of every input channel is `weight`."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.zeros_(layer.weight)
            with torch.no_grad():
                layer.weight[:, :, 1, 1] = weight
                layer.bias.fill_(bias)  # type: ignore[union-attr]


def test_dense_block_by_hand() -> None:
    block = DenseBlock(width=1, growth=1)
    _set_all(block, weight=1.0, bias=0.0)
    x = torch.tensor([3.0, -1.0]).reshape(2, 1, 1, 1)
    # Each layer sums all before it: 3 -> 3, 6, 12, 24, closing 48; 3 + 0.2 * 48 = 12.6.
    # For -1 leaky ReLU (0.2) gives -.2, -.24, -.288, -.3456; the sum is -2.0736.
    expected = torch.tensor([12.6, -1 + 0.2 * -2.0736]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(block(x), expected)


def test_residual_scaling_and_the_trunks_skip_by_hand() -> None:
    rrdb = ResidualDenseBlock(width=1, growth=1)
    _set_all(rrdb, weight=0.0, bias=1.0)
    # Dense blocks add 0.2 each, so the three give x + 0.6; the outer residual x + 0.2 (x + 0.6).
    torch.testing.assert_close(
        rrdb(torch.full((1, 1, 2, 2), 5.0)), torch.full((1, 1, 2, 2), 5 + 0.2 * 5.6)
    )
    net = RRDBNet(1, blocks=1, growth=1)
    _set_all(net.trunk, weight=0.0, bias=0.0)
    for layer, weight in ((net.first, 2.0), (net.body, 10.0), (net.last, 1.0)):
        _set_all(layer, weight=weight, bias=0.0)
    # first 2x; trunk 1.2 * 2x; body 10 * that; skip from first: 2x + 24x.
    torch.testing.assert_close(net(torch.full((1, 1, 3, 3), 0.5)), torch.full((1, 3, 3, 3), 13.0))


def test_receptive_radius_is_what_a_single_pixel_reaches() -> None:
    net = RRDBNet(1, blocks=1, growth=2, width=2).double()
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    radius = receptive_radius_px(1)
    side = 2 * radius + 5
    a = torch.zeros(1, 1, side, side, dtype=torch.float64)
    b = a.clone()
    b[0, 0, side // 2, side // 2] = 1.0
    changed = (net(a) != net(b))[0].any(dim=0).nonzero()
    assert (changed - side // 2).abs().max() == radius
    assert (receptive_radius_px(4), receptive_radius_px(8)) == (63, 123)


def test_initial_weights_are_small_and_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    net = RRDBNet(12, blocks=1)
    growing = net.trunk[0].blocks[0].growing[0]  # type: ignore[index,union-attr]
    expected = 0.1 * (2 / (12 * 9)) ** 0.5
    assert float(growing.weight.detach().std()) == pytest.approx(expected, rel=0.05)
    net(torch.randn(1, 12, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 12, H, W\)"):
        RRDBNet(12, blocks=1)(torch.zeros(1, 9, 8, 8))
    with pytest.raises(ValueError, match="must be positive"):
        RRDBNet(0)
