"""The generator: residual-in-residual dense blocks at full resolution (papers/002 figure 3.7).

    stack ── first ──┬── RRDB x blocks ── body ──(+)── last ── stained image
                     └──────────────────────────┘

ESRGAN's generator without its up-sampling part. Tensors are (B, C, H, W). For prediction, memory
should be in `torch.channels_last`: the convolutions run a tenth faster in float32 and take bfloat16
without conversions; joining by `torch.cat` measures faster on CPUs than a preallocated buffer or
convolutions with split weights (docs/staining.md). What is fastest in training is measured
(plsctl.models.compute.choice); on CPUs mostly the dense blocks' own arithmetic
(plsctl.models.networks.winograd), with the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.networks.sizes import DENSE_BLOCKS, DENSE_LAYERS
from plsctl.models.networks.winograd import TILE_PX, dense_block, images_of, tiles_of

RESIDUAL_SCALE = 0.2
SLOPE = 0.2
INITIAL_SCALE = 0.1


class DenseBlock(nn.Module):
    """Four convolutions that each see all before them, and one that returns to the width."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.growing = nn.ModuleList(
            _convolution(width + layer * growth, growth) for layer in range(DENSE_LAYERS)
        )
        self.closing = _convolution(width + DENSE_LAYERS * growth, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, width, H, W) in and out, or by tiles: (B, 16, width, H / 4, W / 4)."""
        if x.ndim == 5:
            return self._by_tiles(x)
        features = x
        for convolution in self.growing:
            grown = functional.leaky_relu(convolution(features), SLOPE)
            features = torch.cat((features, grown), dim=1)
        return torch.add(x, self.closing(features), alpha=RESIDUAL_SCALE)

    def _by_tiles(self, tiles: Tensor) -> Tensor:
        layers = [*self.growing, self.closing]
        return dense_block(
            tiles,
            [layer.weight for layer in layers],
            [layer.bias for layer in layers],
            SLOPE,
            RESIDUAL_SCALE,
        )


class ResidualDenseBlock(nn.Module):
    """Three dense blocks and a scaled residual around them (RRDB)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(width, growth) for _ in range(DENSE_BLOCKS)))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, width, H, W) in and out, or by tiles: (B, 16, width, H / 4, W / 4)."""
        return torch.add(x, self.blocks(x), alpha=RESIDUAL_SCALE)


class RRDBNet(nn.Module):
    """Generator from a stack of images to one colour image of the same size.

    Parameters
    ----------
    channels
        Input channels: 3 for each image of the stack.
    blocks
        Residual-in-residual blocks: 4, or 8 for the deeper generator.
    growth
        Channels that each convolution of a dense block adds.
    width
        Channels inside the network; the input's by default, as in the paper.

    Raises
    ------
    ValueError
        If a number is not positive.

    Attributes
    ----------
    winograd
        Whether the trunk is computed by minimal filtering where gradients are wanted, both sides
        are multiples of 4 and the format is not bfloat16. Results differ by rounding only.
    """

    winograd = False

    def __init__(
        self,
        channels: int,
        blocks: int = 4,
        growth: int = 32,
        width: int | None = None,
    ) -> None:
        super().__init__()
        inner = channels if width is None else width
        if min(channels, blocks, growth, inner) < 1:
            raise ValueError(
                f"channels {channels}, blocks {blocks}, growth {growth} and width {inner} "
                "must be positive"
            )
        self.channels = channels
        self.first = _convolution(channels, inner)
        self.trunk = nn.Sequential(*(ResidualDenseBlock(inner, growth) for _ in range(blocks)))
        self.body = _convolution(inner, inner)
        self.last = _convolution(inner, 3)
        self._initialise()

    def _initialise(self) -> None:
        """Small initial weights in the dense blocks keep deep residual networks stable (ESRGAN)."""
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
                with torch.no_grad():
                    module.weight.mul_(INITIAL_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Stained image for a stack.

        Parameters
        ----------
        x
            (B, channels, H, W), normalised; image-major, colours R, G, B within an image.

        Returns
        -------
        Tensor
            (B, 3, H, W), colours in [-1, 1] but not limited to it.

        Raises
        ------
        ValueError
            If the number of channels is another.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"expected (B, {self.channels}, H, W), got {tuple(x.shape)}")
        features = self.first(x)
        stained: Tensor = self.last(features + self.body(self._trunk(features)))
        return stained

    def _trunk(self, features: Tensor) -> Tensor:
        whole_tiles = features.shape[2] % TILE_PX == features.shape[3] % TILE_PX == 0
        exact = whole_tiles and features.dtype != torch.bfloat16
        if self.winograd and torch.is_grad_enabled() and exact:
            return images_of(self.trunk(tiles_of(features)))
        found: Tensor = self.trunk(features)
        return found


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
