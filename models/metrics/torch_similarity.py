"""Structural similarity on any device, for the validation split."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from plsctl.models.metrics.similarity import K1, K2, WINDOW_RADIUS_PX, WINDOW_SIGMA_PX


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
