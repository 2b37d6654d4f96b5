"""Patterns of an LED array that are learned: images under single LEDs in, k exposures out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.learned_optics.shown_patterns import ArrayLimits, ShownPattern, quantise


class LedPatterns(nn.Module):
    """k exposures, each the sum of what single LEDs show, with weights of 0 or above.

    y_k = sum_l w_kl I_l: light of several LEDs is incoherent, so their images add. No LED is
    brighter than its full drive, and no exposure takes more light than the array allows. Weights
    begin at random, so that exposures differ.

    Parameters
    ----------
    leds
        Of the array, as many as the stack has images.
    exposures
        How many patterns are learned.
    limits
        What the array can show; None for any array of 255 levels.
    as_shown
        Train with the patterns as the array will show them: forwards the nearest one that it can
        show, backwards the gradient of the weights themselves. Else weights stay free until
        `shown`.
    """

    def __init__(
        self,
        leds: int,
        exposures: int,
        limits: ArrayLimits | None = None,
        *,
        as_shown: bool = True,
    ) -> None:
        super().__init__()
        if leds < 1 or exposures < 1:
            raise ValueError("patterns need at least one LED and one exposure")
        self.limits = limits or ArrayLimits()
        self.as_shown = as_shown
        self.raw = nn.Parameter(torch.randn(exposures, leds))

    def weights(self) -> Tensor:
        """Light of each LED in each exposure, (exposure, LED), as shares of the full drive."""
        strength = functional.softplus(self.raw)
        brightest = strength.amax(dim=1, keepdim=True)
        light = strength.sum(dim=1, keepdim=True) / self.limits.max_light
        return strength / torch.maximum(brightest, light).clamp(min=1)

    def shown(self) -> tuple[ShownPattern, ...]:
        """The patterns nearest to the weights that the array can show."""
        weights = self.weights().detach().double().cpu().numpy()
        return tuple(quantise(row, self.limits) for row in weights)

    def forward(self, images: Tensor) -> Tensor:
        """Exposures (B, exposure, C, H, W) of single-LED images (B, LED, C, H, W).

        Images are linear and for the same light (`SingleLeds.read`), exposures then are what the
        camera would show with that light.
        """
        weights = self.weights()
        if self.as_shown:
            shown = np.stack([pattern.weights for pattern in self.shown()])
            exact = torch.from_numpy(shown).to(weights)
            weights = weights + (exact - weights).detach()
        return torch.einsum("kl,blcyx->bkcyx", weights, images)
