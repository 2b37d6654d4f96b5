"""A running mean of a network's weights, which is often better than its last weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the mean towards the network's weights after a training step.

    Parameters
    ----------
    decay
        Share of the mean that is kept, once it is old enough.
    step
        Steps done so far.
    """
    # A young average forgets faster, or it would remember the random start.
    kept_share = min(decay, (1 + step) / (10 + step))
    for kept, current in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(current, 1 - kept_share)
    for held, now in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(now)  # means over batches are averages already
