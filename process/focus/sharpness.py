"""How sharp an image is: measures for the focus search, and for an image on its own."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

REACH_PX = 2
"""Distance of the differenced pixels: fine enough for edges, too far for pixel noise alone."""

FINE_PX, COARSE_PX = (0.6, 1.2), (1.8, 3.6)
"""Bands of detail, as the widths (sigma) of the two Gaussian filters whose difference they are.
The fine band ends where an objective of NA 0.4 does with pixels of 0.29 um."""

EDGE_PX = 4


class GradientFocusMeasure:
    """Brenner's gradient of the green channel, relative to the image's mean.

    Right for images in which detail is brightest in focus: dark field, and bright field of
    absorbing cells under immersion. Measured on the simulated smear it has one peak within 60 um
    of focus under the dark-field ring, where bright field has its least value in focus.
    """

    def sharpness(self, image: NDArray[np.uint8]) -> float:
        """Larger is sharper; image (y, x, rgb), uint8."""
        green = cv2.GaussianBlur(image[..., 1].astype(np.float32), (3, 3), 0)
        mean = max(float(green.mean()), 1.0)
        across = green[:, REACH_PX:] - green[:, :-REACH_PX]
        down = green[REACH_PX:] - green[:-REACH_PX]
        return float(np.mean(across**2) + np.mean(down**2)) / mean**2


def detail_ratio(image: NDArray[np.uint8] | NDArray[np.float32]) -> float:
    """Logarithm of the contrast of fine detail over that of coarse detail.

    Light and stain do not change it, blur lowers it: by 0.3 for a Gaussian of 1 pixel. What a cell
    looks like changes it as much; two images of one cell are therefore compared with each other.

    Parameters
    ----------
    image
        Shape (y, x), or (y, x, rgb), whose colours are averaged.
    """
    grey = image if image.ndim == 2 else image.mean(axis=2)
    grey = np.asarray(grey, dtype=np.float32)
    fine, coarse = (_band_energy(grey, *band) for band in (FINE_PX, COARSE_PX))
    return 0.5 * math.log(max(fine, 1e-3) / max(coarse, 1e-3))


def _band_energy(grey: NDArray[np.float32], narrow: float, wide: float) -> float:
    band = cv2.GaussianBlur(grey, (0, 0), narrow) - cv2.GaussianBlur(grey, (0, 0), wide)
    inner = band[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]
    return float(np.mean(np.square(inner)))
