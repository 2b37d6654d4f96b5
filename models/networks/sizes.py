"""Sizes of the networks: parameters, receptive fields, alignment. Imports no torch."""

from __future__ import annotations

from typing import Literal

NetworkName = Literal["rrdb", "unet", "fast"]

DENSE_BLOCKS = 3
"""Dense blocks in a residual-in-residual block."""

DENSE_LAYERS = 4
"""Growing convolutions in a dense block; a fifth one closes it."""


UNET_DEPTH = 6
"""Halvings of the U-Net: 64 px become one."""

FAST_DEPTH = 3
"""Halvings of the fast network; its cells, the pixels of the coarsest level, are 8 px wide."""

FAST_WINDOW_CELLS = 8
"""Side of the window over which the fast network's channel attention takes its means."""


def default_batch(blocks: int) -> int:
    """Samples in a batch: 20, and 12 for the deeper generator (papers/002 section 3.6)."""
    return 20 if blocks < 8 else 12


def receptive_radius_px(blocks: int, network: NetworkName = "rrdb") -> int:
    """How far one output pixel can look at most.

    The RRDB generator: one pixel for each 3 x 3 convolution on the longest way, 63 for 4 blocks
    and 123 for 8. U-Net and fast network look very far, through their coarsest level and through
    the means of the channel attention.
    """
    if network == "unet":
        return 3 << UNET_DEPTH
    if network == "fast":
        return _fast_radius(blocks)
    return blocks * DENSE_BLOCKS * (DENSE_LAYERS + 1) + 3


def alignment_px(network: NetworkName) -> int:
    """Tiles must begin at multiples of this, or they are halved between other pixels."""
    return {"rrdb": 1, "unet": 1 << UNET_DEPTH, "fast": 1 << FAST_DEPTH}[network]


def _fast_radius(blocks: int) -> int:
    cell = 1 << FAST_DEPTH
    # Half a window of cells, the cell the pixel lies in, and one more for the interpolation.
    attention = cell * (FAST_WINDOW_CELLS // 2 + 2)
    sides = sum(2 * ((1 << level) + attention) for level in range(FAST_DEPTH))
    return 2 + sides + blocks * (cell + attention) + 2 * cell


def network_parameters(
    network: NetworkName, channels: int, blocks: int, growth: int, width: int | None = None
) -> int:
    """Weights and biases of a network, whichever it is."""
    if network == "unet":
        return _unet_parameters(channels, 64 if width is None else width)
    if network == "fast":
        return _fast_parameters(channels, blocks, 32 if width is None else width)
    return parameter_count(channels, blocks, growth, width)


def parameter_count(channels: int, blocks: int, growth: int, width: int | None = None) -> int:
    """Weights and biases of the RRDB generator.

    With width = channels and growth 32 these are the counts of papers/002 table 4.1.
    """
    inner = channels if width is None else width
    dense = sum(
        _convolution(inner + layer * growth, growth) for layer in range(DENSE_LAYERS)
    ) + _convolution(inner + DENSE_LAYERS * growth, inner)
    ends = _convolution(channels, inner) + _convolution(inner, inner) + _convolution(inner, 3)
    return ends + blocks * DENSE_BLOCKS * dense


def unet_widths(width: int) -> tuple[int, ...]:
    """Channels of the U-Net: in front of the first halving and after each (papers/002 A.2)."""
    return (width // 2, width, 2 * width, 4 * width, 8 * width, 8 * width, 8 * width)


def _unet_parameters(channels: int, width: int) -> int:
    widths = unet_widths(width)
    total = channels * widths[0] + widths[0]
    for level in range(UNET_DEPTH):
        total += 16 * widths[level] * widths[level + 1]
        total += 2 * widths[level + 1] if level else 0  # no normalisation after the first
        joined = widths[level + 1] * (1 if level == UNET_DEPTH - 1 else 2)
        # Upwards the innermost level comes alone, all others with their skip.
        total += 16 * joined * (widths[level] if level else 3)
        total += 2 * widths[level] if level else 3
    return total


def _fast_parameters(channels: int, blocks: int, width: int) -> int:
    total = _convolution(channels, width) + _convolution(width, 3)
    for level in range(FAST_DEPTH):
        inner = width << level
        total += 2 * _gated_block(inner)
        total += 8 * inner**2 + 2 * inner  # halving: 2 x 2 convolution with bias
        total += 8 * inner**2  # doubling: 1 x 1 convolution to four times the pixels
    return total + blocks * _gated_block(width << FAST_DEPTH)


def _gated_block(width: int) -> int:
    return 7 * width**2 + 33 * width


def _convolution(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs
