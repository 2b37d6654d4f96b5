"""Lobes of a nucleus: parts that necks divide.

A segmented nucleus has two to five lobes on thin strands, a band or a bean one. Two parts are
lobes of their own where the neck between them is clearly narrower than either.
"""

from __future__ import annotations

import cv2
import numpy as np
from skimage.morphology import local_maxima, reconstruction

from plsctl.acquire.arrays import Mask

NECK = 0.85
"""A neck is at most this share of the width of the lobes that it divides."""

SMALLEST_UM = 0.8
"""Parts of a smaller radius are no lobes: granules of chromatin, bumps of the outline."""

SMOOTHING_UM = 0.3


def count_lobes(nucleus: Mask, pixel_um: float) -> int:
    """Number of lobes of what is set in a mask (y, x), whether they hang together or not."""
    if not nucleus.any():
        return 0
    padded = np.pad(nucleus.astype(np.uint8), 2)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = cv2.GaussianBlur(depth, (0, 0), SMOOTHING_UM / pixel_um)
    smallest = SMALLEST_UM / pixel_um
    # Differences of logarithms are ratios of widths; what is too narrow for a lobe lies even.
    height = np.log(np.maximum(depth, smallest / 2).astype(np.float64))
    # Flooded to below every drop of less than a neck's, heights have one summit for each lobe.
    flooded = reconstruction(height + np.log(NECK), height)  # type: ignore[no-untyped-call]
    highest = local_maxima(np.round(flooded, 6))  # type: ignore[no-untyped-call]
    summits = highest & (depth >= smallest)
    count, _ = cv2.connectedComponents(summits.astype(np.uint8), connectivity=8)
    return int(count) - 1
