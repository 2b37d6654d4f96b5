"""Structuring elements of the segmentation's morphology."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def odd_disc(diameter_px: float, least_radius_px: int = 0) -> NDArray[np.uint8]:
    """Disc of about this diameter, an odd number of pixels across: 1 inside, shape (y, x)."""
    size = 2 * max(least_radius_px, round(diameter_px / 2)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(disc, dtype=np.uint8)
