"""Frames of any size for networks that halve them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of `multiple`.

    (B, C, H, W); the first pixel stays the first, so that tiles which begin at multiples keep
    their place in the network's grid.
    """
    height, width = images.shape[2:]
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return images
    return functional.pad(images, (0, right, 0, below), mode="replicate")
