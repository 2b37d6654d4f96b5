"""Fine alignment of a crop by structural similarity over all shifts at once (papers/002, 3.1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.errors import UserError
from plsctl.process.matching.correlation import subpixel_peak

REACH_PX = 5
"""Shifts are searched over plus and minus this many pixels."""

REACH_UM = 1.465
"""The same on the slide (5 px of 0.293 um): what staining moves cells by, and the field's match."""

WINDOW_PX = 7
"""Side of the window of the structural similarity."""

_PLANE_SHARES = (2 / 3, 1 / 3)  # of red and blue
_LEAST_WEIGHT = 0.02
_ROOM_PX = 4.0  # what belongs to a cell beyond its box: its rim


def reach_in_pixels(pixel_um: float, reach_um: float = REACH_UM) -> int:
    """The reach of the search in pixels of so many micrometres."""
    return max(1, round(reach_um / pixel_um))


@dataclass(frozen=True)
class FineMatch:
    """Shift of the best similarity, to a fraction of a pixel, and how far it stands out.

    `second_ratio` is the best similarity at least three pixels away divided by the best; `inside`
    tells whether the peak lies within the searched shifts rather than on their border.
    """

    dx: float
    dy: float
    score: float
    second_ratio: float
    inside: bool


def similarity_map(
    crop: NDArray[np.uint8],
    search: NDArray[np.uint8],
    window: int = WINDOW_PX,
    data_range: float = 255.0,
    weights: NDArray[np.float32] | None = None,
    step: int = 1,
) -> NDArray[np.float64]:
    """Mean structural similarity of a crop for every place in a search image.

    Means and variances of both images are computed once; only their product depends on the shift,
    and its box sums are taken over all shifts of a row stacked in one tall image.

    Parameters
    ----------
    crop
        Grey image, (y, x).
    search
        Grey image, (y, x), larger than the crop by the number of shifts less one each way.
    window
        Side of the uniform window, odd.
    data_range
        Largest possible value of the images.
    weights
        Weight of each pixel of the crop, (y, x): that of the window around it in the mean. Equal
        by default.
    step
        Every so many-th window of a row and a column enters the mean. Windows overlap, so that a
        step of 2 changes little.

    Returns
    -------
    Similarity for each place, shape (y shifts, x shifts); with equal weights and step 1 the same
    numbers as `skimage.metrics.structural_similarity` gives place by place.

    Raises
    ------
    UserError
        When the crop does not fit into the search image or is smaller than the window.

    Notes
    -----
    Wang et al. 2004, uniform window, sample covariance, K1 = 0.01, K2 = 0.03.
    """
    height, width = crop.shape
    rows, columns = search.shape[0] - height + 1, search.shape[1] - width + 1
    if rows < 1 or columns < 1 or min(height, width) < window:
        raise UserError(
            f"A crop of {width} x {height} pixels cannot be searched in "
            f"{search.shape[1]} x {search.shape[0]}."
        )
    # Centred integers: all sums below 2**24 and thus exact in single precision.
    here, there = (image.astype(np.float32) - 128 for image in (crop, search))
    one, other = _statistics(here, window, step), _statistics(there, window, 1)
    count = float(window**2)
    contrast, luminance = ((k * data_range) ** 2 for k in (0.03, 0.01))
    shape = (columns, *one.sums.shape)

    def row_by_row(values: FloatArray) -> FloatArray:
        valid = (height - window + 1, width - window + 1)
        return np.lib.stride_tricks.sliding_window_view(values, valid)[:, :, ::step, ::step]

    sums, variances = row_by_row(other.sums), row_by_row(other.variances)
    means, squares = row_by_row(other.means), row_by_row(other.means**2)
    own_variances, own_squares = one.variances + contrast, one.means**2 + luminance
    own_sums, own_means = one.sums / count, 2 * one.means
    to_covariance = np.float32(2 / (count - 1))
    shares = _shares(weights, (height, width), window, step)
    shifted = np.lib.stride_tricks.sliding_window_view(there, (height, width))
    products = np.empty((columns, height, width), np.float32)
    similarity, term = np.empty(shape, np.float32), np.empty(shape, np.float32)
    scores = np.empty((rows, columns))
    # A row of shifts at a time stays in the processor's cache.
    for row in range(rows):
        np.multiply(shifted[row], here, out=products)
        np.divide(_box_sums(products, window, step), np.float32(count), out=similarity)
        similarity -= np.multiply(sums[row], own_sums / count, out=term)
        similarity *= to_covariance * np.float32(count)
        similarity += np.float32(contrast)
        similarity /= np.add(variances[row], own_variances, out=term)
        np.multiply(means[row], own_means, out=term)
        term += np.float32(luminance)
        similarity *= term
        similarity /= np.add(squares[row], own_squares, out=term)
        scores[row] = similarity.reshape(columns, -1) @ shares
    return scores


@dataclass(frozen=True)
class _Statistics:
    """Sums, means and variances over windows, each at its window's top left pixel."""

    sums: FloatArray
    means: FloatArray
    variances: FloatArray


def _statistics(image: FloatArray, window: int, step: int) -> _Statistics:
    count = np.float32(window**2)
    sums, squares = (_box_sums(part[None], window, step)[0] for part in (image, image * image))
    return _Statistics(sums, sums / count + 128, (squares - sums**2 / count) / (count - 1))


def _box_sums(stack: FloatArray, window: int, step: int) -> FloatArray:
    """Sums over every `step`-th window of images (n, y, x), from the top left one on."""
    count, height, width = stack.shape
    if step == 1:
        tall = stack.reshape(count * height, width)
        sums = cv2.boxFilter(tall, cv2.CV_32F, (window, window), anchor=(0, 0), normalize=False)
        sums = sums.reshape(count, height, width)
        return np.asarray(sums[:, : height - window + 1, : width - window + 1], np.float32)
    # Few windows: a product with the matrix of their pixels is quicker than all windows.
    across = stack.reshape(count * height, width) @ _windows(width, window, step)
    down = _windows(height, window, step).T
    return np.asarray(down @ across.reshape(count, height, -1), np.float32)


def _windows(side: int, window: int, step: int) -> FloatArray:
    """One where a pixel (first axis) belongs to a window (second axis)."""
    starts = np.arange(0, side - window + 1, step)
    offset = np.arange(side)[:, None] - starts
    return ((offset >= 0) & (offset < window)).astype(np.float32)


def _shares(
    weights: FloatArray | None, shape: tuple[int, int], window: int, step: int
) -> FloatArray:
    """Share of each window in the mean, flat."""
    used = np.ones(shape, np.float32) if weights is None else weights
    middle = window // 2
    valid = [slice(middle, side - window + 1 + middle, step) for side in shape]
    shares = used[valid[0], valid[1]].ravel()
    return np.asarray(shares / shares.sum(dtype=np.float64), dtype=np.float32)


def alignment_planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The two grey images that unstained and stained crops are compared in, (plane, y, x).

    Red and blue light: Romanowsky stains take most of the green, haemoglobin some of the blue
    before and after staining, and eosinophil granules so much blue that it misleads alone.
    """
    return np.stack([cv2.extractChannel(image, 0), cv2.extractChannel(image, 2)])


def cell_weights(side_px: int, width_px: float, height_px: float) -> NDArray[np.float32]:
    """Weight of a crop's pixels: one on the cell in its middle, none on its neighbours.

    Staining moves each cell by itself: what lies beside the cell says where the neighbours went.
    An ellipse as wide and high as the cell's box and a few pixels more, with a soft rim.
    """
    offset = np.arange(side_px) - (side_px - 1) / 2
    across = offset / (width_px / 2 + _ROOM_PX)
    down = offset / (height_px / 2 + _ROOM_PX)
    radius = np.hypot(across[None, :], down[:, None])
    usual = (width_px + height_px) / 4 + _ROOM_PX
    return np.asarray(1 / (1 + np.exp((radius - 1) * usual)), dtype=np.float32)


def align_crop(
    crop: NDArray[np.uint8],
    search: NDArray[np.uint8],
    reach_px: int = REACH_PX,
    weights: NDArray[np.float32] | None = None,
    step: int = 1,
) -> FineMatch:
    """Shift of a crop against its expected place, by structural similarity.

    Parameters
    ----------
    crop
        Crop of the stained image, grey (y, x) or `alignment_planes` (plane, y, x).
    search
        The same of the unstained image, `reach_px` larger than the crop on each side, centred on
        the expected place.
    weights, step
        As for `similarity_map`.

    Returns
    -------
    Shift from the expected place.
    """
    expected = (*crop.shape[:-2], *(side + 2 * reach_px for side in crop.shape[-2:]))
    if search.shape != expected:
        raise UserError(
            f"The search image of {search.shape} should have the shape {expected} (y, x)."
        )
    if weights is not None:
        crop, search, weights = _where_it_counts(crop, search, weights)
    if crop.ndim == 2:
        scores = similarity_map(crop, search, weights=weights, step=step)
    else:
        planes = [
            share * similarity_map(one, other, weights=weights, step=step)
            for share, one, other in zip(_PLANE_SHARES, crop, search, strict=True)
        ]
        scores = np.sum(planes, axis=0)
    row, column = (int(i) for i in np.unravel_index(int(scores.argmax()), scores.shape))
    dx, dy = subpixel_peak(scores, row, column)
    away = scores.copy()
    away[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = -1.0
    score = float(scores[row, column])
    inside = 0 < row < scores.shape[0] - 1 and 0 < column < scores.shape[1] - 1
    second = float(away.max()) / max(score, 1e-9)
    return FineMatch(
        float(column + dx - reach_px), float(row + dy - reach_px), score, second, inside
    )


def _where_it_counts(
    crop: NDArray[np.uint8], search: NDArray[np.uint8], weights: FloatArray
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], FloatArray]:
    """The parts of crop, search image and weights that decide the score."""
    reach = search.shape[-1] - crop.shape[-1]
    sides = []
    for axis, side in ((1, weights.shape[0]), (0, weights.shape[1])):
        counting = np.flatnonzero(weights.max(axis=axis) > _LEAST_WEIGHT)
        low = max(0, int(counting[0]) - WINDOW_PX // 2) if counting.size else 0
        high = min(side, int(counting[-1]) + 1 + WINDOW_PX // 2) if counting.size else side
        sides.append((low, high))
    (top, bottom), (left, right) = sides
    return (
        crop[..., top:bottom, left:right],
        search[..., top : bottom + reach, left : right + reach],
        weights[top:bottom, left:right],
    )
