"""The U-Net that papers/002 compares with (appendix A.2): pix2pix's, for crops of 64 px.

    stack ── first ── down x 6 ──> 1/64 ── up x 6 ──> stained image
                        └── skip to the level of the same size ──┘

Tensors are (B, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.networks.layers import pad_to_multiple
from plsctl.models.networks.sizes import UNET_DEPTH, unet_widths

SLOPE = 0.2
DROPOUT = 0.5
DROPPED_LEVELS = 3
"""Innermost levels on the way up that drop half of their features in training."""


class UNet(nn.Module):
    """U-Net from a stack of images to one colour image of the same size.

    With 44 images and width 64 it has 29,279,011 parameters, as in the paper. Frames of any size
    are padded to a multiple of 64 px by repeating their last pixels, and cropped again.

    Parameters
    ----------
    channels
        Input channels: 3 for each image of the stack.
    width
        Channels after the first halving; deeper levels have 2, 4 and 8 times as many.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        if channels < 1 or width < 2:
            raise ValueError(f"channels {channels} must be positive and width {width} at least 2")
        self.channels = channels
        widths = unet_widths(width)
        self.first = nn.Conv2d(channels, widths[0], kernel_size=1)
        self.down = nn.ModuleList(
            _halving(widths[level], widths[level + 1], level > 0) for level in range(UNET_DEPTH)
        )
        self.up = nn.ModuleList(
            _doubling(_joined(widths, level), widths[level], level >= UNET_DEPTH - DROPPED_LEVELS)
            for level in reversed(range(1, UNET_DEPTH))
        )
        self.last = nn.ConvTranspose2d(2 * widths[1], 3, kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Stained image for a stack.

        Parameters
        ----------
        x
            (B, channels, H, W), normalised.

        Returns
        -------
        Tensor
            (B, 3, H, W), colours in (-1, 1).

        Raises
        ------
        ValueError
            If the number of channels is another.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"expected (B, {self.channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[2:]
        features = self.first(pad_to_multiple(x, 2**UNET_DEPTH))
        skips = []
        for halving in self.down:
            features = functional.leaky_relu(halving(features), SLOPE)
            skips.append(features)
        skips.pop()
        for doubling in self.up:
            features = torch.cat((functional.relu(doubling(features)), skips.pop()), dim=1)
        return torch.tanh(self.last(features))[:, :, :height, :width]


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes its running mean for a single value per channel.

    A batch of one crop of 64 px has one value per channel at the innermost level, which has no
    deviation; such a batch is what may remain at the end of an epoch.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() > input.shape[1] or not self.training:
            return super().forward(input)
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


def _joined(widths: tuple[int, ...], level: int) -> int:
    """Channels that come up to a level: the innermost ones come without a skip."""
    return widths[level + 1] * (1 if level == UNET_DEPTH - 1 else 2)


def _halving(inputs: int, outputs: int, normalised: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)]
    if normalised:
        layers.append(_BatchNorm(outputs))
    return nn.Sequential(*layers)


def _doubling(inputs: int, outputs: int, dropped: bool) -> nn.Sequential:
    layers = [
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        _BatchNorm(outputs),
    ]
    return nn.Sequential(*layers, *([nn.Dropout(DROPOUT)] if dropped else []))
