"""Whether two images of one place show it at the same place: a slide that slides does not."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image

ALIKE = 0.5
"""Least correlation of two images of one place, brought to cover each other."""

LEAST_SPREAD = 1.0
"""Standard deviation in counts below which an image shows nothing."""


def moved_px(before: Image, after: Image) -> float:
    """How far the content of an image, (y, x, rgb), has moved, in pixels.

    Infinite where the two do not show the same; 0 where one of them shows nothing at all.
    """
    one, other = (
        np.asarray(image.astype(np.float32).mean(axis=-1), np.float32) for image in (before, after)
    )
    if min(one.std(), other.std()) < LEAST_SPREAD:
        return 0.0
    window = cv2.createHanningWindow(one.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(one - one.mean(), other - other.mean(), window)
    if _correlation(one, other, round(x), round(y)) < ALIKE:
        return math.inf
    return math.hypot(x, y)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32], dx: int, dy: int) -> float:
    """Of what both show, where the content of `other` lies by (dx, dy) farther on."""
    height, width = one.shape
    if abs(dx) >= width or abs(dy) >= height:
        return 0.0
    here = one[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    there = other[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    here, there = here - here.mean(), there - there.mean()
    power = float(np.sqrt((here**2).sum() * (there**2).sum()))
    return float((here * there).sum()) / max(power, 1e-6)
