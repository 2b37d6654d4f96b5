"""The learning rate over a run, and the running mean of a network's weights."""

from __future__ import annotations

import math

import torch

from plsctl.models.networks.generators import Generator
from plsctl.models.runs.config import TrainingConfig

WARM_UP = 0.03
FINAL_RATE = 0.02


def learning_rate(config: TrainingConfig, share: float) -> float:
    """Learning rate when `share` of the run is done: constant, or a short rise and a cosine."""
    if config.schedule == "constant":
        return config.learning_rate
    if share < WARM_UP:
        return config.learning_rate * max(share / WARM_UP, 0.05)
    fall = 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
    return config.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * fall)


@torch.no_grad()
def update_average(average: Generator, network: Generator, decay: float, step: int) -> None:
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
