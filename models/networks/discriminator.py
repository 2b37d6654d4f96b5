"""The discriminator that tells stained from predicted crops (papers/002 figure 3.8)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

WIDTHS = (16, 32, 64)
HIDDEN = 100
SLOPE = 0.2
SHRINKING = 1 << len(WIDTHS)
"""How many times smaller the last maps are; a crop's side must be a multiple of it."""


class Discriminator(nn.Module):
    """Critic of crops: three blocks of two convolutions, then two fully connected layers.

    A crop of 64 px leaves 64 maps of 8 x 8, flattened 4096, and 519,513 parameters. The width of
    the hidden layer, which the paper does not give, is ESRGAN's. Every convolution has a spectral
    norm of 1; its power iteration runs in training mode only.

    Parameters
    ----------
    crop_px
        Side of the crops.

    Raises
    ------
    ValueError
        If the side is not a multiple of 8.
    """

    def __init__(self, crop_px: int = 64) -> None:
        super().__init__()
        if crop_px < SHRINKING or crop_px % SHRINKING:
            raise ValueError(f"crops of {crop_px} px: the side must be a multiple of {SHRINKING}")
        self.crop_px = crop_px
        layers: list[nn.Module] = []
        inputs = 3
        for width in WIDTHS:
            layers += [spectral_norm(nn.Conv2d(inputs, width, 3, padding=1)), nn.LeakyReLU(SLOPE)]
            halving = nn.Conv2d(width, width, 4, stride=2, padding=1)
            layers += [spectral_norm(halving), nn.LeakyReLU(SLOPE)]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.critic = nn.Sequential(
            nn.Flatten(),
            nn.Linear(WIDTHS[-1] * (crop_px // SHRINKING) ** 2, HIDDEN),
            nn.LeakyReLU(SLOPE),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Critic values (B,) of colours in [-1, 1], (B, 3, crop_px, crop_px).

        Raises
        ------
        ValueError
            If the shape is another.
        """
        if image.shape[1:] != (3, self.crop_px, self.crop_px):
            raise ValueError(
                f"expected (B, 3, {self.crop_px}, {self.crop_px}), got {tuple(image.shape)}"
            )
        values: Tensor = self.critic(self.features(image))
        return values[:, 0]
