"""The validation split after each epoch: loss terms and structural similarity."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from plsctl.models.compute.processes import Processes
from plsctl.models.data.batches import SampleSource, to_colour, to_counts
from plsctl.models.metrics.similarity import K1, K2, WINDOW_RADIUS_PX, WINDOW_SIGMA_PX
from plsctl.models.staining.losses import WeightedLoss


@torch.no_grad()
def validate(
    source: SampleSource,
    predict: Callable[[Tensor], Tensor],
    losses: WeightedLoss,
    batch: int,
    processes: Processes,
) -> dict[str, float]:
    """Means over the split, each process taking its share.

    Parameters
    ----------
    predict
        Colours (B, 3, h, w) for stacks of counts.
    """
    total: dict[str, Tensor] = {}
    order = np.arange(len(source))
    for taken in source.batches(order, batch, processes):
        prediction = predict(taken.stacks)
        terms = losses(prediction, to_colour(taken.targets), taken.maps)
        terms["ssim"] = similarity(to_counts(prediction), taken.targets)
        for name, value in terms.items():
            share = value.double() * (taken.weight * taken.size / len(order))
            total[name] = total[name] + share if name in total else share
    means = processes.mean(torch.stack(list(total.values())))
    return dict(zip(total, means.tolist(), strict=True))


def similarity(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean structural similarity of 8-bit (B, 3, H, W): `metrics.ssim_colour` on any device."""
    # In double: differences of squares lose digits, on GPUs more than float32 has to lose.
    a, b = (images.double() - 127.5 for images in (prediction, target))
    mean_a, mean_b = _smooth(a), _smooth(b)
    var_a = _smooth(a * a) - mean_a.square()
    var_b = _smooth(b * b) - mean_b.square()
    covariance = _smooth(a * b) - mean_a * mean_b
    mean_a, mean_b = mean_a + 127.5, mean_b + 127.5
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2)
    return (numerator / denominator).mean()


def _smooth(images: Tensor) -> Tensor:
    """Gaussian mean of every window that lies inside the image."""
    window = _window(images.device)
    flat = images.flatten(0, 1)[:, None]
    return functional.conv2d(functional.conv2d(flat, window), window.transpose(2, 3))


@cache
def _window(device: torch.device) -> Tensor:
    distance = torch.arange(-WINDOW_RADIUS_PX, WINDOW_RADIUS_PX + 1, device=device).double()
    weights = torch.exp(-0.5 * (distance / WINDOW_SIGMA_PX).square())
    return (weights / weights.sum()).view(1, 1, 1, -1)
