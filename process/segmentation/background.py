"""The empty background of a smear image: vignetting and colour cast divided out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError

BACKGROUND_LEVEL = 235
"""Value of empty background after `flatten_background`, in every channel."""

_SKETCH_PX = 128  # the background is smooth: a sketch this long on its longer side is enough
_ROUNDS = 10


def _quadratic_terms(height: int, width: int) -> NDArray[np.float64]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def fit_background(
    image: NDArray[np.uint8], without: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Second-order surface through the empty background of a bright-field image.

    The brightest pixels start the fit; each round keeps what lies within the scatter of the surface
    found so far, so that cells (darker) and glare (brighter) drop out.

    Parameters
    ----------
    image
        Shape (y, x, rgb).
    without
        True where there is nothing to see, shape (y, x).

    Returns
    -------
    Background, shape (rows, columns, rgb) of a small sketch; resize it linearly to the image.

    Raises
    ------
    UserError
        When the image is not (y, x, rgb) or is black.
    """
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 8:
        raise UserError(
            f"an image of shape {image.shape} has no background to fit.",
            hint="Give a colour image, (y, x, rgb), of at least 8 x 8 pixels.",
        )
    shrink = max(1.0, max(image.shape[:2]) / _SKETCH_PX)
    size = (max(8, round(image.shape[1] / shrink)), max(8, round(image.shape[0] / shrink)))
    sketch = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64)
    terms = _quadratic_terms(size[1], size[0])
    pixels, flat_terms = sketch.reshape(-1, 3), terms.reshape(-1, 6)
    if without is not None:
        hidden = cv2.resize(without.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        pixels, flat_terms = pixels[~hidden.ravel()], flat_terms[~hidden.ravel()]
    green = pixels[:, 1]
    if green.max(initial=0) < 1:
        raise UserError("the image is black.", hint="Check the exposure and the light.")
    kept = green >= np.percentile(green, 60)
    coefficients = np.zeros((6, 3))
    for _ in range(_ROUNDS):
        chosen = flat_terms[kept]
        coefficients = np.linalg.pinv(chosen.T @ chosen) @ (chosen.T @ pixels[kept])
        surface = np.maximum(flat_terms @ coefficients, 1.0)
        departure = green / surface[:, 1] - 1
        scatter = 1.4826 * float(np.median(np.abs(departure[kept])))
        kept = (departure > -max(2 * scatter, 0.015)) & (departure < max(3 * scatter, 0.05))
        if np.count_nonzero(kept) < 24:
            break
    return np.asarray(np.maximum(terms @ coefficients, 1.0))


def flatten_background(
    image: NDArray[np.uint8],
    background: NDArray[np.float64],
    window: tuple[slice, slice] | None = None,
) -> NDArray[np.uint8]:
    """The image, or a window of it, with its background at `BACKGROUND_LEVEL` in every channel.

    Shape (y, x, rgb), uint8; what would be brighter than white saturates.
    """
    gain = (BACKGROUND_LEVEL / background).astype(np.float32)
    height, width = image.shape[:2]
    if window is None:
        full = cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        full = _gain_in(window, gain, gain.shape[0] / height, gain.shape[1] / width)
        image = image[window]
    flat = cv2.multiply(image, full, dtype=cv2.CV_8U)
    return np.asarray(flat, dtype=np.uint8)


def _gain_in(
    window: tuple[slice, slice], gain: NDArray[np.float32], rows: float, columns: float
) -> NDArray[np.float32]:
    """The gain in a window of the image; rows and columns of the sketch for one of the image."""
    top, left = window[0].start, window[1].start
    place = np.array(
        [[columns, 0, (left + 0.5) * columns - 0.5], [0, rows, (top + 0.5) * rows - 0.5]]
    )
    size = (window[1].stop - left, window[0].stop - top)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(gain, place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(part, dtype=np.float32)


def odd_disc(diameter_px: float, least_radius_px: int = 0) -> NDArray[np.uint8]:
    """Disc of about this diameter, an odd number of pixels across: 1 inside, shape (y, x)."""
    size = 2 * max(least_radius_px, round(diameter_px / 2)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(disc, dtype=np.uint8)
