"""The learning rate over a run, and the running mean of a network's weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from plsctl.models.runs.training_settings import TrainingSettings

WARM_UP = 0.03
FINAL_RATE = 0.02

# One cycle, as in torch.optim.lr_scheduler.OneCycleLR.
RISE = 0.3
FIRST_DIVISOR, LAST_DIVISOR = 25.0, 1e4
MOMENTA = (0.85, 0.95)


def learning_rate(config: TrainingSettings, share: float) -> float:
    """Learning rate when `share` of the run is done: constant, or a short rise and a cosine."""
    if config.schedule == "constant":
        return config.learning_rate
    if share < WARM_UP:
        return config.learning_rate * max(share / WARM_UP, 0.05)
    fall = 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
    return config.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * fall)


def one_cycle(rate: float, step: int, steps: int) -> tuple[float, float]:
    """Learning rate and momentum (Adam's first beta) of a step, counted from 0.

    The rate rises and falls once over all steps, and the momentum against it (Smith and Topin,
    "Super-convergence", 2019).
    """
    first = rate / FIRST_DIVISOR
    top = RISE * steps - 1
    low, high = MOMENTA
    if step <= top:
        share = step / top
        return _eased(first, rate, share), _eased(high, low, share)
    share = (step - top) / (steps - 1 - top)
    return _eased(rate, first / LAST_DIVISOR, share), _eased(low, high, share)


def _eased(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def group_settings(
    config: TrainingSettings, share: float, step: int, steps: int
) -> dict[str, float | tuple[float, float]]:
    """What the optimiser's parameter groups take for a step.

    Parameters
    ----------
    share
        How much of the run is done.
    step, steps
        The step, counted from 0, and how many the run has.
    """
    if config.schedule == "one_cycle":
        rate, momentum = one_cycle(config.learning_rate, step, steps)
        return {"lr": rate, "betas": (momentum, config.betas[1])}
    return {"lr": learning_rate(config, share)}


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
