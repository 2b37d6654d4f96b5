"""A loss for pairs that lie a pixel or two apart.

The best matching leaves some crops shifted by a pixel or more, and the paper's worst samples are
such pairs (papers/002 section 4.2.4). Here the target of each sample may lie at any whole shift
within a reach; shifts are unknowns with a Gaussian prior around none.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURE = 0.005
"""How much better a shift must fit before it is taken: of colours in [-1, 1]."""

Shift = tuple[int, int]
"""(dy, dx): the target's pixel (y + dy, x + dx) belongs to the prediction's (y, x)."""


@dataclass(frozen=True)
class ShiftMatch:
    """The tolerant error, (B,), and the likeliest shift of each sample, (B, 2), order (dy, dx)."""

    error: Tensor
    shift: Tensor


def shifts_within(reach_px: int) -> tuple[Shift, ...]:
    """All whole shifts of at most `reach_px` in each axis, none first."""
    steps = range(-reach_px, reach_px + 1)
    return tuple(sorted(itertools.product(steps, steps), key=lambda s: (s[0] ** 2 + s[1] ** 2, s)))


def match_shifts(prediction: Tensor, target: Tensor, reach_px: int) -> ShiftMatch:
    """Smooth minimum over shifts of the mean absolute error, sample by sample.

    With d_s the error over the overlap at shift s and p_s a Gaussian prior of deviation
    `reach_px / 2`, the error is -T log(sum p_s exp(-d_s / T)): a weighted minimum for a small
    temperature T, never below the least d_s, with a gradient everywhere. The prior keeps what is
    aligned where it is. A perfect, aligned prediction has an error of at most -T log(p_0): 0.009
    for a reach of 2 px.

    Parameters
    ----------
    prediction, target
        (B, 3, H, W), colours in [-1, 1], larger than the reach.

    Raises
    ------
    ValueError
        If the reach is negative or leaves no overlap.
    """
    height, width = prediction.shape[2:]
    if not 0 <= reach_px < min(height, width):
        raise ValueError(f"a reach of {reach_px} px does not fit images of {width} x {height}")
    shifts = shifts_within(reach_px)
    errors = torch.stack([_overlap_error(prediction, target, shift) for shift in shifts], dim=1)
    deviation = max(reach_px / 2, 0.5)
    log_prior = torch.tensor(
        [-(dy**2 + dx**2) / (2 * deviation**2) for dy, dx in shifts], device=errors.device
    )
    log_prior = log_prior - torch.logsumexp(log_prior, dim=0)
    posterior = log_prior - errors / TEMPERATURE
    likeliest = posterior.detach().argmax(dim=1)
    table = torch.tensor(shifts, device=errors.device)
    return ShiftMatch(-TEMPERATURE * torch.logsumexp(posterior, dim=1), table[likeliest])


def move_targets(target: Tensor, shift: Tensor) -> Tensor:
    """Targets brought onto their predictions; what comes in from outside repeats the border.

    Parameters
    ----------
    target
        (B, 3, H, W).
    shift
        (B, 2) from `match_shifts`.
    """
    height, width = target.shape[2:]
    rows = torch.arange(height, device=target.device) + shift[:, :1]  # (B, H)
    columns = torch.arange(width, device=target.device) + shift[:, 1:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    batch = torch.arange(len(target), device=target.device)[:, None, None]
    moved = target.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _overlap_error(prediction: Tensor, target: Tensor, shift: Shift) -> Tensor:
    dy, dx = shift
    height, width = prediction.shape[2:]
    here = prediction[:, :, max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
    there = target[:, :, max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
    return (here - there).abs().mean(dim=(1, 2, 3))
