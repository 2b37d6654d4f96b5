"""The optics layer of papers/000: light of each channel, a blur, one grey channel, pooling."""

from __future__ import annotations

from typing import Literal

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.learned_optics.blur import Blur, BlurForm, inverse_softplus
from plsctl.models.learned_optics.fixed_filter import FixedFilter

Order = Literal["blur_then_add", "add_then_blur"]
Edge = Literal["reflect", "wrap"]

LARGEST_POOLING = 6


class OpticsLayer(nn.Module):
    """What a microscope with learned light and a learned pupil shows of an image.

    y = pool(sum_c b_c (k_c * (a_c x_c))): a is the light of each channel (0 or above, sum 1), k the
    blur, b the weights of the sum (0 or above). Without noise in between only the products a_c b_c
    matter (`channel_weights`).

    Parameters
    ----------
    channels
        Of the image; it should be linear in intensity.
    pooling
        Side of the squares of pixels that are averaged, 1 to 6; what is left over at the right and
        lower edge is dropped.
    form, size_px
        As for `Blur`.
    blur_each
        Whether every channel has a blur of its own.
    order
        "blur_then_add" is that of light on its way to a sensor; "add_then_blur" that of the code
        behind papers/000.
    edge
        What lies beyond the image: its mirror image, or its other side, as papers/000 has it.

    Raises
    ------
    ValueError
        The channels are added before the blur and each should have its own; the pooling is not
        from 1 to 6; a form, an order or an edge is unknown.
    """

    def __init__(
        self,
        channels: int = 3,
        pooling: int = 1,
        form: BlurForm = "pupil",
        size_px: int = 63,
        *,
        blur_each: bool = False,
        order: Order = "blur_then_add",
        edge: Edge = "reflect",
    ) -> None:
        super().__init__()
        if order == "add_then_blur" and blur_each:
            raise ValueError("channels that are added before the blur have one blur in common")
        if not 1 <= pooling <= LARGEST_POOLING:
            raise ValueError(f"pooling {pooling} is not from 1 to {LARGEST_POOLING}")
        if order not in ("blur_then_add", "add_then_blur"):
            raise ValueError(f"there is no order '{order}'. Choose blur_then_add or add_then_blur")
        if edge not in ("reflect", "wrap"):
            raise ValueError(f"there is no edge '{edge}'. Choose reflect or wrap")
        self.pooling, self.order, self.edge = pooling, order, edge
        self.blur = Blur(form, size_px, channels if blur_each else 1)
        self.raw_light = nn.Parameter(torch.zeros(channels))
        self.raw_sum = nn.Parameter(torch.full((channels,), inverse_softplus(1.0)))

    @property
    def clips(self) -> bool:
        """Whether what the blur makes is clipped at 0."""
        return self.blur.form == "spectrum"

    def light(self) -> Tensor:
        """Share of each channel in the light, (channels,), sum 1."""
        strength = functional.softplus(self.raw_light)
        return strength / strength.sum()

    def channel_weights(self) -> Tensor:
        """Light times weight in the sum, (channels,): all that an image tells of the two."""
        return self.light() * functional.softplus(self.raw_sum)

    def freeze(self) -> None:
        """Learn nothing here, as the reference of papers/000 does at pooling 1."""
        self.requires_grad_(False)

    def unpooled(self, images: Tensor) -> Tensor:
        """The grey image before pixels are averaged: (B, C, H, W) to (B, 1, H, W)."""
        weights = self.channel_weights().view(-1, 1, 1)
        kernels = self.blur.kernels()
        # A blur that all channels share and that does not clip comes to the same after the sum,
        # for a third of the work.
        late = not self.clips and len(kernels) == 1
        if late or self.order == "add_then_blur":
            summed = (images * weights).sum(dim=1, keepdim=True)
            return self._clipped(blurred(summed, kernels, self.edge))
        each = self._clipped(blurred(images * weights, kernels, self.edge))
        return each.sum(dim=1, keepdim=True)

    def forward(self, images: Tensor) -> Tensor:
        """What the sensor shows: (B, C, H, W) to (B, 1, H // pooling, W // pooling).

        Raises
        ------
        ValueError
            The images are smaller than the kernel ("wrap"), or than half of it ("reflect").
        """
        return functional.avg_pool2d(self.unpooled(images), self.pooling)

    def _clipped(self, images: Tensor) -> Tensor:
        return images.clamp(min=0) if self.clips else images

    def folded(self) -> FixedFilter:
        """The same as a filter that learns no more and needs no torch."""
        with torch.no_grad():
            return FixedFilter(
                kernels=self.blur.kernels().double().cpu().numpy(),
                weights=self.channel_weights().double().cpu().numpy(),
                pooling=self.pooling,
                clips=self.clips,
                order=self.order,
                edge=self.edge,
            )


def blurred(images: Tensor, kernels: Tensor, edge: Edge) -> Tensor:
    """Images (B, C, H, W), each channel convolved with its kernel, or all with the same.

    Raises
    ------
    ValueError
        The images are too small for the kernel.
    """
    height, width = images.shape[-2:]
    size = kernels.shape[-1]
    reach = size // 2
    least = size if edge == "wrap" else reach + 1
    if min(height, width) < least:
        raise ValueError(
            f"images of {width} x {height} px are smaller than the {least} px that a blur of "
            f"{size} px needs with the edge '{edge}'"
        )
    if edge == "reflect":
        images = functional.pad(images, (reach, reach, reach, reach), mode="reflect")
        # What wraps around touches the frame only, so that any larger size will do: a fast one.
        shape = [next_fast_len(side, real=True) for side in images.shape[-2:]]
    else:
        shape = [height, width]
    padded = functional.pad(kernels, (0, shape[1] - size, 0, shape[0] - size))
    padded = torch.roll(padded, (-reach, -reach), (-2, -1))
    product = torch.fft.rfft2(images, s=shape) * torch.fft.rfft2(padded)
    result: Tensor = torch.fft.irfft2(product, s=shape)
    if edge == "reflect":
        result = result[..., reach : reach + height, reach : reach + width]
    return result
