"""Stained chromatin: what makes a pixel purple, and where the limit lies on this slide."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.segmentation.background import BACKGROUND_LEVEL

CHROMATIN_HUE = (103, 163)
_COLOURLESS = 0.02  # strength below which a pixel has no hue to speak of


def chromatin_strength(
    flat: NDArray[np.uint8], hue: tuple[int, int] = CHROMATIN_HUE
) -> NDArray[np.float32]:
    """How strongly each pixel looks like stained chromatin, from about 0 to 1.5.

    The geometric mean of saturation (0-1) and optical density in green, where the hue is that of
    chromatin, and zero elsewhere. Chromatin is both purer in colour and denser than anything else
    in a smear, so the product parts it from red cells by a factor of two or more where saturation
    alone, on pale or magenta stains, does not.

    Parameters
    ----------
    flat
        Image with a flat background, (y, x, rgb).
    hue
        Limits of the hue (0-180).

    Returns
    -------
    Strength, shape (y, x).
    """
    hsv = cv2.cvtColor(flat, cv2.COLOR_RGB2HSV)
    levels = np.arange(256, dtype=np.float32)
    purity = np.sqrt(levels / 255)
    density = np.sqrt(np.log(BACKGROUND_LEVEL / np.clip(levels, 1, BACKGROUND_LEVEL)))
    strength = cv2.LUT(hsv[..., 1], purity) * cv2.LUT(flat[..., 1], density)
    outside = (hsv[..., 0] < hue[0]) | (hsv[..., 0] > hue[1])
    strength[outside] = 0
    return np.asarray(strength, dtype=np.float32)


def estimate_strength(
    strength: NDArray[np.float32], foreground: NDArray[np.bool_], least: float = 0.15
) -> float:
    """Lower limit of the strength that parts chromatin from everything else in the foreground.

    Otsu's threshold where it finds two populations; where the foreground is one population (no
    white cells, or too few pixels of them to count) the limit lies above its bulk.

    Parameters
    ----------
    strength
        From `chromatin_strength`, shape (y, x), or pixels of several images of one slide.
    foreground
        True on cells, same shape.
    least
        Never below this, so that an empty image yields nothing.
    """
    everything = strength[foreground]
    values = everything[everything > _COLOURLESS]
    if values.size < 50:
        return least
    scaled = np.clip(values * 200, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    upper = scaled > level
    if not upper.any() or upper.all():
        return least
    weak, strong = float(scaled[~upper].mean()), float(scaled[upper].mean())
    share = float(upper.mean())
    separability = share * (1 - share) * (strong - weak) ** 2 / float(scaled.var())
    if level < 200 * least:
        return least
    # 0.75 is the separability of a uniform distribution, 0.64 that of a normal one.
    two = (
        strong > 2.5 * weak
        or (separability > 0.58 and strong > 1.85 * weak)
        or (separability > 0.75 and strong > 1.6 * weak)
    )
    # Where red cells are too yellow to count, chromatin alone is left: no bulk to stay above.
    if two or values.size < 0.5 * everything.size:
        return level / 200
    return max(1.4 * float(np.percentile(scaled, 90)) / 200, least)
