"""Image metrics: structural similarity and mean absolute error, one value per sample."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from plsctl.acquire.arrays import Images

Values = NDArray[np.float64]

WINDOW_SIGMA_PX = 1.5
WINDOW_RADIUS_PX = 5
K1, K2 = 0.01, 0.03
SHIFT_REACH_PX = 2
LUMINANCE = (0.2125, 0.7154, 0.0721)


def ssim(first: NDArray[np.generic], second: NDArray[np.generic], data_range: float) -> Values:
    """Structural similarity with an 11 x 11 Gaussian window of 1.5 px (Wang et al. 2004).

    Parameters
    ----------
    first, second
        Images (n, channel, y, x), at least 11 x 11; channels are averaged.
    data_range
        Difference between the largest and the smallest possible value.

    Returns
    -------
    array
        (n,), the mean over all pixels whose window lies inside the image.

    Raises
    ------
    ValueError
        If the shapes differ or the images are smaller than the window.
    """
    side = 2 * WINDOW_RADIUS_PX + 1
    if first.shape != second.shape or first.ndim != 4 or min(first.shape[2:]) < side:
        raise ValueError(
            f"expected two equal (n, channel, y, x) of at least {side} px, "
            f"got {first.shape} and {second.shape}"
        )
    a, b = first.astype(np.float32), second.astype(np.float32)
    # Differences of squares lose digits around a large mean: take the mid value off first.
    a -= data_range / 2
    b -= data_range / 2
    mean_a, mean_b = _smooth(a), _smooth(b)
    var_a = _smooth(a * a) - mean_a * mean_a
    var_b = _smooth(b * b) - mean_b * mean_b
    covariance = _smooth(a * b) - mean_a * mean_b
    mean_a += data_range / 2
    mean_b += data_range / 2
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    values: Values = (numerator / denominator).mean(axis=(1, 2, 3), dtype=np.float64)
    return values


def _smooth(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gaussian mean of every window that lies inside the image."""
    distance = np.arange(-WINDOW_RADIUS_PX, WINDOW_RADIUS_PX + 1)
    weights = np.exp(-0.5 * (distance / WINDOW_SIGMA_PX) ** 2)
    weights /= weights.sum()
    inside = slice(WINDOW_RADIUS_PX, -WINDOW_RADIUS_PX)
    rows = correlate1d(images, weights, axis=2)[:, :, inside]
    smooth: NDArray[np.float32] = correlate1d(rows, weights, axis=3)[..., inside]
    return smooth


def ssim_colour(prediction: Images, target: Images) -> Values:
    """SSIM per sample of 8-bit (n, 3, y, x), the mean of the three colours."""
    return ssim(prediction, target, 255.0)


def ssim_grey(prediction: Images, target: Images) -> Values:
    """SSIM per sample of the luminance of 8-bit (n, 3, y, x)."""
    return ssim(_grey(prediction), _grey(target), 255.0)


def mean_absolute_error(prediction: Images, target: Images) -> Values:
    """MAE per sample of 8-bit (n, 3, y, x), on the scale of colours in [-1, 1]."""
    difference = np.abs(prediction.astype(np.int16) - target)
    values: Values = difference.mean(axis=(1, 2, 3)) / 127.5
    return values


def ssim_shifted(prediction: Images, target: Images) -> Values:
    """SSIM per sample of 8-bit (n, 3, y, x) at the best whole shift within 2 px.

    A pair that lies a pixel apart says more about the matching than about the network. The shift
    is the one of the least absolute difference in luminance; the outer 2 px of the prediction are
    left out, whatever the shift, so that all samples are measured on equal areas.
    """
    reach = SHIFT_REACH_PX
    inner = slice(reach, -reach)
    wanted, found = _grey(target)[:, 0], _grey(prediction)[:, 0, inner, inner]
    shifts = list(itertools.product(range(2 * reach + 1), repeat=2))
    height, width = found.shape[1:]
    errors = [
        np.abs(found - wanted[:, dy : dy + height, dx : dx + width]).mean(axis=(1, 2))
        for dy, dx in shifts
    ]
    best = np.argmin(errors, axis=0)
    moved = np.stack(
        [
            image[:, dy : dy + height, dx : dx + width]
            for image, (dy, dx) in zip(target, (shifts[index] for index in best), strict=True)
        ]
    )
    return ssim(prediction[:, :, inner, inner], moved, 255.0)


METRICS: dict[str, Callable[[Images, Images], Values]] = {
    "ssim": ssim_colour,
    "ssim_grey": ssim_grey,
    "ssim_shifted": ssim_shifted,
    "mae": mean_absolute_error,
}


def _grey(images: Images) -> NDArray[np.float32]:
    weights = np.array(LUMINANCE, dtype=np.float32)
    return np.tensordot(weights, images.astype(np.float32), axes=(0, 1))[:, None]
