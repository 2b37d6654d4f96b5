"""A cheap network that looks at several scales at once, made of gated blocks (NAFNet).

    stack ── first ── block ──> 1/2 ── block ──> 1/4 ── block ──> 1/8 ── blocks ──┐
                        │               │               │                         │
    image ── last ──── block <──(+)─── block <──(+)─── block <────────(+)─────────┘

Blocks after Chen et al., "Simple baselines for image restoration" (ECCV 2022): normalisation over
channels, products of two halves in place of activations, and a channel attention of means. The
means are taken over a window of the size of a training crop, not over the whole frame, so that a
frame sees what the crops saw (Chu et al., "Improving image restoration by revisiting global
information aggregation", ECCV 2022). Tensors are (B, C, H, W), best in `torch.channels_last`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.networks.layers import pad_to_multiple
from plsctl.models.networks.sizes import FAST_DEPTH, FAST_WINDOW_CELLS

INITIAL_SCALE = 0.1
"""Share of a block's result that it adds at first: small, so that depth does no harm."""


class LayerNorm2d(nn.LayerNorm):
    """Normalisation of each pixel over its channels, (B, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        # Without a copy where memory is channels-last.
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def gate(features: Tensor) -> Tensor:
    """The product of both halves of the channels: (B, 2 C, H, W) -> (B, C, H, W)."""
    first, second = features.chunk(2, dim=1)
    return first * second


def window_means(features: Tensor, cell_px: int) -> Tensor:
    """Means over a window around every cell of `cell_px` pixels.

    Images no larger than the window have one mean, that of the whole image; at the border the
    window stays inside the image.

    Parameters
    ----------
    features
        (B, C, H, W), both sides multiples of `cell_px`.

    Returns
    -------
    Tensor
        (B, C, H / cell_px, W / cell_px).
    """
    cells = functional.avg_pool2d(features, cell_px) if cell_px > 1 else features
    if torch.compiler.is_exporting():
        return _means_in_graph(cells)
    rows, columns = cells.shape[2:]
    window = (min(rows, FAST_WINDOW_CELLS), min(columns, FAST_WINDOW_CELLS))
    means = functional.avg_pool2d(cells, window, stride=1)
    missing_rows, missing_columns = rows - means.shape[2], columns - means.shape[3]
    above, left = missing_rows // 2, missing_columns // 2
    return functional.pad(
        means, (left, missing_columns - left, above, missing_rows - above), mode="replicate"
    )


def _means_in_graph(cells: Tensor) -> Tensor:
    """The same without a branch on the size: one exported graph holds for all sizes.

    Rows and columns are counted by tensors, and what a window lacks is filled with zeros.
    """
    side = FAST_WINDOW_CELLS
    sums = functional.avg_pool2d(functional.pad(cells, (0, side - 1, 0, side - 1)), side, stride=1)
    for axis, line in ((2, cells[0, 0, :, 0]), (3, cells[0, 0, 0, :])):
        number = torch.ones_like(line).cumsum(0)  # 1, 2, ... to the last
        count = number[-1:]
        last = torch.clamp(count - side, min=0)  # where the last whole window begins
        before = torch.floor((count - 1 - last) / 2)
        begin = torch.minimum(torch.clamp(number - 1 - before, min=0), last)
        sums = sums.index_select(axis, begin.long()) * (side / torch.clamp(count, max=side))
    return sums


class GatedBlock(nn.Module):
    """Depthwise convolution with channel attention, then a gated product of channels.

    Parameters
    ----------
    width
        Channels in and out.
    cell_px
        Pixels of this level in a cell, the unit of the attention's window.
    """

    def __init__(self, width: int, cell_px: int) -> None:
        super().__init__()
        self.cell_px = cell_px
        self.spatial_norm = LayerNorm2d(width, eps=1e-6)
        self.widening = nn.Conv2d(width, 2 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attention = nn.Conv2d(width, width, 1)
        self.narrowing = nn.Conv2d(width, width, 1)
        self.channel_norm = LayerNorm2d(width, eps=1e-6)
        self.mixing = nn.Conv2d(width, 2 * width, 1)
        self.closing = nn.Conv2d(width, width, 1)
        self.spatial_scale = nn.Parameter(torch.full((1, width, 1, 1), INITIAL_SCALE))
        self.channel_scale = nn.Parameter(torch.full((1, width, 1, 1), INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, width, H, W) in and out."""
        features = gate(self.depthwise(self.widening(self.spatial_norm(x))))
        features = self.narrowing(features * self._attend(features))
        x = x + features * self.spatial_scale
        features = self.closing(gate(self.mixing(self.channel_norm(x))))
        mixed: Tensor = x + features * self.channel_scale
        return mixed

    def _attend(self, features: Tensor) -> Tensor:
        weights: Tensor = self.attention(window_means(features, self.cell_px))
        rows, columns = features.shape[2] // self.cell_px, features.shape[3] // self.cell_px
        if not torch.compiler.is_exporting() and max(rows, columns) <= FAST_WINDOW_CELLS:
            return weights[:, :, :1, :1]  # one mean for all
        if self.cell_px == 1:
            return weights
        return functional.interpolate(
            weights, size=features.shape[2:], mode="bilinear", align_corners=False
        )


class FastNet(nn.Module):
    """Network from a stack of images to one colour image of the same size, at a small cost.

    Frames of any size are padded to a multiple of 8 px by repeating their last pixels, and
    cropped again.

    Parameters
    ----------
    channels
        Input channels: 3 for each image of the stack.
    blocks
        Blocks at the coarsest of the four scales; the others have one downwards and one upwards.
    width
        Channels at full resolution; each scale has twice as many as the one before.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    def __init__(self, channels: int, blocks: int = 4, width: int = 32) -> None:
        super().__init__()
        if min(channels, blocks, width) < 1:
            raise ValueError(
                f"channels {channels}, blocks {blocks} and width {width} must be positive"
            )
        self.channels = channels
        widths = [width * 2**level for level in range(FAST_DEPTH + 1)]
        cells = [2 ** (FAST_DEPTH - level) for level in range(FAST_DEPTH + 1)]
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        levels = range(FAST_DEPTH)
        self.encoders = nn.ModuleList(GatedBlock(widths[n], cells[n]) for n in levels)
        self.halvings = nn.ModuleList(
            nn.Conv2d(widths[n], widths[n + 1], 2, stride=2) for n in levels
        )
        self.middle = nn.Sequential(*(GatedBlock(widths[-1], 1) for _ in range(blocks)))
        self.doublings = nn.ModuleList(
            nn.Conv2d(widths[n + 1], 4 * widths[n], 1, bias=False) for n in levels
        )
        self.decoders = nn.ModuleList(GatedBlock(widths[n], cells[n]) for n in levels)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Stained image for a stack.

        Parameters
        ----------
        x
            (B, channels, H, W), normalised.

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
        height, width = x.shape[2:]
        features = self.first(pad_to_multiple(x, 2**FAST_DEPTH))
        skips = []
        for encoder, halving in zip(self.encoders, self.halvings, strict=True):
            skips.append(encoder(features))
            features = halving(skips[-1])
        features = self.middle(features)
        for level in reversed(range(FAST_DEPTH)):
            finer = functional.pixel_shuffle(self.doublings[level](features), 2)
            features = self.decoders[level](finer + skips[level])
        stained: Tensor = self.last(features)
        return stained[:, :, :height, :width]
