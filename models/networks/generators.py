"""A network by its name."""

from __future__ import annotations

from typing import TypeAlias

from plsctl.models.networks.fast import FastNet
from plsctl.models.networks.rrdb import RRDBNet
from plsctl.models.networks.sizes import NetworkName
from plsctl.models.networks.unet import UNet

Generator: TypeAlias = RRDBNet | UNet | FastNet
"""From (B, channels, H, W) stacks to (B, 3, H, W) colours; the first layer is called `first`."""


def make_network(
    name: NetworkName, channels: int, blocks: int, growth: int, width: int | None
) -> Generator:
    """The untrained network; sizes that it does not have are not looked at."""
    if name == "unet":
        return UNet(channels, 64 if width is None else width)
    if name == "fast":
        return FastNet(channels, blocks, 32 if width is None else width)
    return RRDBNet(channels, blocks, growth, width)
