"""Fine alignment of a crop by structural similarity over all shifts at once (papers/002, 3.1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.matching import subpixel_peak

REACH_PX = 5
"""Shifts are searched over plus and minus this many pixels."""

WINDOW_PX = 7
"""Side of the window of the structural similarity."""

_PLANE_SHARES = (2 / 3, 1 / 3)  # of red and blue
_ROOM_PX = 4.0  # what belongs to a cell beyond its box: its rim


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


def _box_sums(image: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Sums over windows, each at its window's top left pixel; those that end outside are void."""
    return np.asarray(
        cv2.boxFilter(image, cv2.CV_32F, (window, window), anchor=(0, 0), normalize=False),
        dtype=np.float32,
    )


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
    and its box sums are taken over all shifts stacked in one tall image.

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
    here = crop.astype(np.float32) - 128
    there = search.astype(np.float32) - 128
    valid = (height - window + 1, width - window + 1)
    statistics = [
        part[: image.shape[0] - window + 1, : image.shape[1] - window + 1]
        for image in (here, there)
        for part in (_box_sums(image, window), _box_sums(image * image, window))
    ]
    sum_here, square_here, sum_there, square_there = statistics
    shifted = np.lib.stride_tricks.sliding_window_view(there, (height, width))
    products = (shifted * here).reshape(rows * columns * height, width)
    cross = _box_sums(products, window).reshape(rows, columns, height, width)
    cross = cross[:, :, : valid[0] : step, : valid[1] : step]
    count = float(window**2)
    to_variance = 1 / (count * (count - 1))
    contrast = np.float32((0.03 * data_range) ** 2)
    luminance = np.float32((0.01 * data_range) ** 2)

    def place_by_place(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.lib.stride_tricks.sliding_window_view(values, valid)[:, :, ::step, ::step]

    sum_here, square_here = sum_here[::step, ::step], square_here[::step, ::step]
    variance_here = (count * square_here - sum_here**2) * to_variance
    variance_there = (count * square_there - sum_there**2) * to_variance
    mean_here, mean_there = sum_here / count + 128, sum_there / count + 128
    similarity = np.multiply(cross, np.float32(2 * count * to_variance))
    similarity -= place_by_place(sum_there) * (sum_here * np.float32(2 * to_variance))
    similarity += contrast
    similarity /= place_by_place(variance_there) + (variance_here + contrast)
    brightness = place_by_place(mean_there) * (2 * mean_here)
    brightness += luminance
    brightness /= place_by_place(mean_there**2) + (mean_here**2 + luminance)
    similarity *= brightness
    if weights is None:
        return np.asarray(similarity.mean(axis=(2, 3), dtype=np.float64))
    middle = window // 2
    used = weights[middle : middle + valid[0] : step, middle : middle + valid[1] : step]
    total = similarity.reshape(rows * columns, -1).astype(np.float64) @ used.ravel()
    return np.asarray(total.reshape(rows, columns) / float(used.sum()))


def alignment_planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The two grey images that unstained and stained crops are compared in, (plane, y, x).

    Red and blue light: Romanowsky stains take most of the green, haemoglobin some of the blue
    before and after staining, and eosinophil granules so much blue that it misleads alone.
    """
    return np.ascontiguousarray(np.moveaxis(image[..., [0, 2]], -1, 0))


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
