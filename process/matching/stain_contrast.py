"""The contrast of a stain by itself: what two images share whose focus and optics differ."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_LOW_BLUR_PX = 0.9  # standard deviation of what a 20x, NA 0.4 objective adds, in its pixels


def stain_contrast(image: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithm of green over blue light of an image (y, x, rgb); shape (y, x).

    Chromatin and eosin take more of the green; refraction, focus and vignetting leave the ratio
    as it is.
    """
    values = image[..., 1:].astype(np.float32) + 1
    return np.asarray(np.log(values[..., 0] / values[..., 1]), dtype=np.float32)


def averaged(
    image: NDArray[np.uint8] | NDArray[np.float32], ratio: float
) -> tuple[NDArray[np.float32], float]:
    """Means of a 100x image over squares of a 20x pixel, as large as the image itself.

    Also by how many pixels they lie off their places along x and y: half a one for even squares.
    """
    window = max(1, round(ratio))
    mean = cv2.boxFilter(image, cv2.CV_32F, (window, window), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mean, np.float32), 0.0 if window % 2 else 0.5


def reduced_contrast(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stain contrast of a 100x image on the grid of a 20x one, (y, x, rgb), as sharp as that is.

    The blur comes before the logarithm, as in the microscope: the other way round, dark nuclei
    would seem larger at 100x.
    """
    blurred = cv2.GaussianBlur(image, (0, 0), _LOW_BLUR_PX)
    return stain_contrast(np.asarray(blurred, np.float32))
