"""Training losses (papers/002 equations 3.2-3.4): functions of prediction and target.

Both are (B, 3, H, W) with colours in [-1, 1]; every loss is a scalar tensor.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from plsctl.models.runs.registry import LossWeights
from plsctl.models.staining.shift_tolerance import match_shifts, move_targets

Maps = tuple[Tensor, ...]
"""Feature maps of a batch, each (B, C, h, w)."""


class FeatureNetwork(Protocol):
    """A frozen network whose feature maps are compared by the perceptual loss."""

    def __call__(self, image: Tensor) -> Maps:
        """Feature maps of (B, 3, H, W) colours in [-1, 1]."""


class WeightedLoss(Protocol):
    """The weighted terms of a training loss by name, and their sum as "loss"."""

    def __call__(
        self, prediction: Tensor, target: Tensor, wanted: Maps | None = None
    ) -> dict[str, Tensor]:
        """Of (B, 3, H, W) colours in [-1, 1]; `wanted` are the target's maps where known."""


def mean_absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of |prediction - target| (papers/002 equation 2.7)."""
    _same_shape(prediction, target)
    return (prediction - target).abs().mean()


def perceptual(
    prediction: Tensor,
    target: Tensor,
    features: FeatureNetwork,
    wanted: Maps | None = None,
) -> Tensor:
    """Mean absolute difference of feature maps, averaged over the maps (equation 2.9).

    `wanted` are the target's maps where they are known; they are computed where they are not.
    """
    _same_shape(prediction, target)
    if wanted is None:
        with torch.no_grad():
            wanted = features(target)
    found = features(prediction)
    terms = [(f.float() - w.float()).abs().mean() for f, w in zip(found, wanted, strict=True)]
    return torch.stack(terms).mean()


def fourier_amplitude(prediction: Tensor, target: Tensor, eps: float = 1e-8) -> Tensor:
    """Mean absolute difference of the spectra's amplitudes, over (H, W) of each colour.

    The transform is not normalised: with colours in [-1, 1] this is the scale on which the
    weight 0.0125 of papers/002 table 3.2 stands. `eps` keeps the gradient finite where an
    amplitude is zero.
    """
    _same_shape(prediction, target)
    found = torch.fft.fft2(prediction.float())
    wanted = torch.fft.fft2(target.float())
    return (_amplitude(found, eps) - _amplitude(wanted, eps)).abs().mean()


def _amplitude(spectrum: Tensor, eps: float) -> Tensor:
    return (spectrum.real.square() + spectrum.imag.square() + eps).sqrt()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The generator's side of the relativistic paired loss (papers/002 equation 2.31).

    Mean of -log sigmoid(C(fake) - C(real)) over pairs, of critic values (B,).
    """
    return functional.softplus(real - fake).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's side: each stained crop should beat the prediction made of its stack.

    Mean of -log sigmoid(C(real) - C(fake)) over pairs (papers/002 equation 2.30).
    """
    return functional.softplus(fake - real).mean()


def weighted_loss(
    weights: LossWeights, features: FeatureNetwork | None, tolerate_shift_px: int = 0
) -> WeightedLoss:
    """A function that gives the weighted terms by name, and their sum as "loss".

    With `tolerate_shift_px` each target may lie shifted by so much: the absolute error is that of
    `match_shifts`, and the perceptual loss compares with the target at its likeliest shift. The
    Fourier amplitudes do not see a shift.

    Raises
    ------
    ValueError
        If the perceptual term has a weight and no network is given.
    """
    if weights.perceptual and features is None:
        raise ValueError("a perceptual loss needs a feature network")

    def terms(prediction: Tensor, target: Tensor, wanted: Maps | None = None) -> dict[str, Tensor]:
        aligned = target
        if tolerate_shift_px:
            _same_shape(prediction, target)
            match = match_shifts(prediction, target, tolerate_shift_px)
            aligned = move_targets(target, match.shift)
            found = {"mae": weights.mae * match.error.mean()}
        else:
            found = {"mae": weights.mae * mean_absolute_error(prediction, target)}
        if weights.perceptual and features is not None:
            found["perceptual"] = weights.perceptual * perceptual(
                prediction, aligned, features, wanted
            )
        if weights.fourier:
            found["fourier"] = weights.fourier * fourier_amplitude(prediction, target)
        return {"loss": torch.stack(list(found.values())).sum(), **found}

    return terms


def _same_shape(prediction: Tensor, target: Tensor) -> None:
    # Broadcasting would hide a wrong batch or colour axis.
    if prediction.shape != target.shape or prediction.ndim != 4:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must be the "
            "same (B, 3, H, W)"
        )
