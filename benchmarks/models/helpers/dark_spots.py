"""Nuclei of a stained smear as its darkest spots in red light, counted beside a list of them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

NEAR_UM = 4.0
"""A nucleus is found where a dark spot lies so near to its listed place: half a red cell."""
SPOT_UM = 1.4
"""Width of the Gaussian that is laid over an image before its dark spots are looked for."""

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


def dark_spots(image: Image, pixel_um: float) -> tuple[Floats, Floats]:
    """Places (x, y) of an image's darkest spots in red light, and their optical densities.

    Chromatin absorbs red light, red cells hardly do.
    """
    red = image[..., 0].astype(np.float64)
    smooth = cv2.GaussianBlur(red, (0, 0), SPOT_UM / pixel_um)
    density = -np.log10(np.maximum(smooth, 1) / np.percentile(red, 95))
    side = 2 * round(NEAR_UM / pixel_um * 0.7) + 1
    rows, columns = np.nonzero(density == cv2.dilate(density, np.ones((side, side))))
    return np.column_stack([columns, rows]).astype(np.float64), density[rows, columns]


@dataclass(frozen=True)
class Found:
    """Nuclei found, found wrongly, and listed."""

    right: int
    wrong: int
    listed: int

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        return 2 * self.right / (self.right + self.wrong + self.listed)


def count(spots: tuple[Floats, Floats], limit: float, nuclei: Floats, pixel_um: float) -> Found:
    """Spots at least so dense, each beside at most one listed nucleus."""
    places = spots[0][spots[1] >= limit]
    distances = np.linalg.norm(places[:, None] - nuclei[None], axis=2) * pixel_um
    pairs = linear_sum_assignment(np.where(distances <= NEAR_UM, distances, 1e3))
    right = int((distances[pairs] <= NEAR_UM).sum())
    return Found(right, len(places) - right, len(nuclei))


def best_limit(spots: tuple[Floats, Floats], nuclei: Floats, pixel_um: float) -> float:
    """The limit of density by which nuclei are found best."""
    levels = np.sort(spots[1])
    limits = (levels[1:] + levels[:-1]) / 2
    return float(max(limits, key=lambda limit: count(spots, limit, nuclei, pixel_um).f1))
