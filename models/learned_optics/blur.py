"""A learned blur: non-negative weights in an aperture, and the kernel that follows from them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

BlurForm = Literal["pupil", "spectrum"]

FINENESS = 32
"""Points along each side of a cell of the grid, for the share of it that the aperture covers."""


def aperture(size_px: int) -> NDArray[np.float64]:
    """Share of each cell of a frequency grid that lies inside radius 1, the Nyquist frequency.

    Parameters
    ----------
    size_px
        Odd number of cells along a side; the grid spans one cycle a pixel.

    Returns
    -------
    NDArray
        Shape (size_px, size_px), 0 to 1, zero frequency first, as `numpy.fft` orders it. In
        between are the cells on the edge: a disc of whole cells would have corners.
    """
    if size_px < 1 or size_px % 2 == 0:
        raise ValueError(f"a kernel of {size_px} pixels has no middle: the size must be odd")
    fine = (np.arange(FINENESS) + 0.5) / FINENESS - 0.5
    cells = np.arange(size_px) - size_px // 2
    place = 2 * (cells[:, None] + fine).reshape(-1) / size_px
    inside = place[:, None] ** 2 + place[None, :] ** 2 <= 1
    shape = (size_px, FINENESS, size_px, FINENESS)
    share = inside.reshape(shape).mean(axis=(1, 3))
    return np.asarray(np.fft.ifftshift(share), dtype=np.float64)


def inverse_softplus(value: float) -> float:
    """The number of which softplus is a value above 0."""
    return math.log(math.expm1(value))


class Blur(nn.Module):
    """Non-negative weights in the aperture, one set for all channels or one each.

    Two forms. "pupil": the weights are the amplitude in the pupil of a lens under incoherent light;
    the kernel is |IFFT(weights)|^2 with sum 1, never negative. "spectrum": the weights multiply the
    spectrum of the image, as papers/000 writes; the kernel is their IFFT, has negative parts, and
    what it makes is clipped at 0 (`OpticsLayer`). The weight of the zero frequency is fixed at 1
    there, so that the sum is 1 as well. Weights begin flat.

    Parameters
    ----------
    size_px
        Odd side of the kernel, and of the grid of weights.
    sets
        How many different blurs: 1, or the number of channels.
    """

    aperture: Tensor

    def __init__(self, form: BlurForm = "pupil", size_px: int = 63, sets: int = 1) -> None:
        super().__init__()
        if form not in ("pupil", "spectrum"):
            raise ValueError(f"there is no blur '{form}'. Choose pupil or spectrum")
        self.form, self.size_px = form, size_px
        shares = torch.from_numpy(aperture(size_px)).to(torch.get_default_dtype())
        self.register_buffer("aperture", shares, persistent=False)
        self.raw = nn.Parameter(torch.full((sets, size_px, size_px), inverse_softplus(1.0)))

    def weights(self) -> Tensor:
        """The weights, (sets, size, size), zero frequency first; 0 outside of the aperture."""
        weights = functional.softplus(self.raw)
        if self.form == "pupil":
            return weights * self.aperture
        # Only the part that is the same at opposite frequencies leaves an image real.
        opposite = torch.roll(weights.flip(1, 2), (1, 1), (1, 2))
        weights = (weights + opposite) / 2 * self.aperture
        zero = torch.zeros_like(self.aperture, dtype=torch.bool)
        zero[0, 0] = True
        return torch.where(zero, torch.ones_like(weights), weights)

    def kernels(self) -> Tensor:
        """The kernels, (sets, size, size), the middle in the middle; each has the sum 1."""
        weights = self.weights()
        amplitude = torch.fft.ifft2(weights)
        if self.form == "spectrum":
            kernels = amplitude.real
        else:
            kernels = amplitude.real**2 + amplitude.imag**2
            kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
        middle = self.size_px // 2
        return torch.roll(kernels, (middle, middle), (1, 2))
