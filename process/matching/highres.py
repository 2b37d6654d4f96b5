"""The 100x image of a cell found under the 20x image, and brought to its grid (papers/002, 3.1.3).

Dark rims around red cells at 20x are missing at 100x, where oil matches the cells' index. The paper
subtracts the Laplacian of Gaussian of the 100x image from it, which puts rims back, and slides the
up-sampled 20x crop over it ("log"; "plain" leaves the subtraction out). Rims depend on focus,
though, and hardly on colour: the ratio of green to blue light shows the stain without them, and is
what is compared by default ("colour").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.matching.correlation import best_place, correlate, grey_image
from plsctl.process.matching.similarity import Similarity
from plsctl.process.matching.stain_contrast import averaged, reduced_contrast, stain_contrast

Method = Literal["colour", "log", "plain"]

NOMINAL_RATIO = 5.0
"""100x pixels to a 20x pixel by the objectives' names."""

LAPLACIAN_WEIGHT = 40.0
"""How much of the Laplacian of Gaussian is subtracted (second derivative per pixel squared)."""

_CELL_RADIUS_PX = 15  # of a white cell at 20x: a second peak nearer than this is the same cell
_KERNEL_GAIN = 1 / 1024  # a 7 x 7 Laplacian of OpenCV holds 1024 times the second derivative


@dataclass(frozen=True)
class HighresPlace:
    """Where the centre of a 20x crop lies in a 100x image (pixels), and how well it fits there."""

    x: float
    y: float
    score: float
    second_ratio: float


def log_subtracted(
    grey: NDArray[np.uint8] | NDArray[np.float32], weight: float = LAPLACIAN_WEIGHT
) -> NDArray[np.float32]:
    """Grey image less its Laplacian of Gaussian (9 x 9, then 7 x 7); shape (y, x)."""
    values = grey.astype(np.float32)
    smooth = cv2.GaussianBlur(values, (9, 9), 0)
    laplacian = cv2.Laplacian(smooth, cv2.CV_32F, ksize=7, scale=_KERNEL_GAIN)
    return np.asarray(values - np.float32(weight) * laplacian, dtype=np.float32)


def match_by_colour(
    low: NDArray[np.uint8],
    centre: tuple[float, float],
    image: NDArray[np.uint8],
    expected: tuple[float, float],
    size_px: int,
    reach_px: int,
    ratio: float = NOMINAL_RATIO,
    rotation_deg: float = 0.0,
) -> HighresPlace:
    """Where a square of a 20x image lies in a 100x image, by the contrast of the stain.

    The 100x image is averaged over squares of 20x pixels and compared on their grid.

    Parameters
    ----------
    low
        Stained 20x image, (y, x, rgb), and the middle of the square in it, (x, y).
    image
        100x image, (y, x, rgb).
    expected
        Expected place of the middle in `image`.
    size_px
        Side of the square, 20x pixels.
    reach_px
        How far around the expected place is searched, 20x pixels.
    ratio, rotation_deg
        100x pixels to a 20x pixel, and how far the 100x image is turned.

    Raises
    ------
    UserError
        When the square does not fit into the 100x image where it is expected.
    """
    middle = (size_px - 1) / 2
    grid = Similarity.about((middle, middle), centre)
    template = stain_contrast(_sampled(low, grid, size_px))
    side = size_px + 2 * reach_px
    half = ratio * size_px / 2 * (1 + abs(math.sin(math.radians(rotation_deg))))
    x, y = expected
    if min(x, y) < half - 1 or x > image.shape[1] - half or y > image.shape[0] - half:
        raise UserError(
            f"A crop of {size_px} x {size_px} pixels does not fit into the 100x image where it is "
            "expected.",
            hint="Take the 100x image nearer to the cell, or make the crop smaller.",
        )
    mean, shift = averaged(image, ratio)
    middle = (side - 1) / 2
    grid = Similarity.about((middle, middle), (x + shift, y + shift), rotation_deg, ratio)
    search = reduced_contrast(np.asarray(_sampled(mean, grid, side), np.float32))
    found = best_place(correlate(search, template, centred=True), radius_px=_CELL_RADIUS_PX)
    place = grid.apply_to(found.dx + (size_px - 1) / 2, found.dy + (size_px - 1) / 2)
    return HighresPlace(place[0] - shift, place[1] - shift, found.score, found.second_ratio)


def _sampled(
    image: NDArray[np.uint8] | NDArray[np.float32], grid: Similarity, side: int
) -> NDArray[np.float32]:
    crop = cv2.warpAffine(
        image,
        grid.matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(crop, np.float32)


def match_highres(
    crop: NDArray[np.uint8],
    image: NDArray[np.uint8],
    expected: tuple[float, float] | None = None,
    reach_px: int = 160,
    method: Method = "colour",
    ratio: float = NOMINAL_RATIO,
) -> HighresPlace:
    """Where a 20x crop lies in a 100x image that is not turned against it.

    Parameters
    ----------
    crop
        Stained 20x crop, (y, x, rgb), square; for "log" and "plain" any shape, or grey (y, x).
    image
        Stained 100x image, likewise.
    expected
        Expected centre (x, y) of the crop in `image`; the search goes `reach_px` around it.
        None searches everywhere.
    method
        "colour" compares the contrast of the stain; "log" subtracts the Laplacian of Gaussian
        from the 100x image (papers/002); "plain" compares grey values.
    ratio
        100x pixels to a 20x pixel.

    Raises
    ------
    UserError
        When the crop does not fit into the image where it is expected.
    """
    if method == "colour":
        height, width = image.shape[:2]
        middle = ((width - 1) / 2, (height - 1) / 2)
        reach = reach_px if expected is not None else max(middle)
        centre = ((crop.shape[1] - 1) / 2, (crop.shape[0] - 1) / 2)
        return match_by_colour(
            crop, centre, image, expected or middle, crop.shape[0], math.ceil(reach / ratio), ratio
        )
    size = (round(crop.shape[1] * ratio), round(crop.shape[0] * ratio))
    template = cv2.resize(grey_image(crop), size, interpolation=cv2.INTER_LINEAR)
    return slide_template(np.asarray(template, np.uint8), image, expected, reach_px, method)


def find_highres(
    low: NDArray[np.uint8],
    centre: tuple[float, float],
    image: NDArray[np.uint8],
    expected: tuple[float, float],
    *,
    size_px: int,
    reach_px: int,
    method: Method = "colour",
    ratio: float = NOMINAL_RATIO,
    rotation_deg: float = 0.0,
) -> HighresPlace:
    """Where a square of a whole 20x image lies in a 100x image, by any method.

    Parameters as for `match_by_colour`, but `reach_px` in 100x pixels.
    """
    if method == "colour":
        reach = math.ceil(reach_px / ratio)
        return match_by_colour(low, centre, image, expected, size_px, reach, ratio, rotation_deg)
    template = upsample_at(low, centre, size_px, ratio, rotation_deg)
    return slide_template(template, image, expected, reach_px, method)


def slide_template(
    template: NDArray[np.uint8],
    image: NDArray[np.uint8],
    expected: tuple[float, float] | None = None,
    reach_px: int = 160,
    method: Literal["log", "plain"] = "log",
) -> HighresPlace:
    """Where an up-sampled 20x crop, grey (y, x), lies in a 100x image; see `match_highres`."""
    size = (template.shape[1], template.shape[0])
    left, top, right, bottom = _search_box(image.shape, size, expected, reach_px)
    if right - left < size[0] or bottom - top < size[1]:
        raise UserError(
            f"A crop of {size[0]} x {size[1]} pixels does not fit into the 100x image where it is "
            "expected.",
            hint="Take the 100x image nearer to the cell, or make the crop smaller.",
        )
    part = grey_image(np.ascontiguousarray(image[top:bottom, left:right]))
    searched = log_subtracted(part) if method == "log" else part.astype(np.float32)
    found = best_place(correlate(searched, template, centred=True), radius_px=30)
    return HighresPlace(
        left + found.dx + (size[0] - 1) / 2,
        top + found.dy + (size[1] - 1) / 2,
        found.score,
        found.second_ratio,
    )


def upsample_at(
    image: NDArray[np.uint8],
    centre: tuple[float, float],
    size_px: int,
    ratio: float = NOMINAL_RATIO,
    rotation_deg: float = 0.0,
) -> NDArray[np.uint8]:
    """Grey crop of a 20x image as the 100x image shows it: linearly up-sampled and turned.

    Shape (size_px * ratio, size_px * ratio), around `centre` (x, y) of the (y, x, rgb) image.
    """
    side = round(size_px * ratio)
    cosine = math.cos(math.radians(rotation_deg)) / ratio
    sine = math.sin(math.radians(rotation_deg)) / ratio
    middle = (side - 1) / 2
    grid = np.array(
        [
            [cosine, sine, centre[0] - (cosine + sine) * middle],
            [-sine, cosine, centre[1] - (cosine - sine) * middle],
        ]
    )
    crop = cv2.warpAffine(
        grey_image(image),
        grid,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(crop, dtype=np.uint8)


def _search_box(
    shape: tuple[int, ...],
    size: tuple[int, int],
    expected: tuple[float, float] | None,
    reach_px: int,
) -> tuple[int, int, int, int]:
    if expected is None:
        return 0, 0, shape[1], shape[0]
    left = math.floor(expected[0] - (size[0] - 1) / 2) - reach_px
    top = math.floor(expected[1] - (size[1] - 1) / 2) - reach_px
    right = left + size[0] + 2 * reach_px + 1
    bottom = top + size[1] + 2 * reach_px + 1
    return max(0, left), max(0, top), min(shape[1], right), min(shape[0], bottom)


def reduce_highres(
    image: NDArray[np.uint8],
    centre: tuple[float, float],
    size_px: int,
    ratio: float = NOMINAL_RATIO,
    rotation_deg: float = 0.0,
) -> NDArray[np.uint8]:
    """A 100x image on the grid of a 20x crop.

    Averages over squares of `ratio` pixels (anti-aliasing) and samples them linearly, so that
    place, scale and rotation cost one interpolation.

    Parameters
    ----------
    image
        100x image, (y, x, rgb).
    centre
        Where the middle of the crop lies in it, pixels (x, y).
    size_px
        Side of the crop in 20x pixels.
    rotation_deg
        How far the 100x image is turned against the 20x one.

    Returns
    -------
    Crop, shape (size_px, size_px, 3).

    Raises
    ------
    UserError
        When the crop reaches beyond the image.
    """
    half = size_px * ratio / 2
    room = half * (1 + abs(math.sin(math.radians(rotation_deg)))) + 1
    height, width = image.shape[:2]
    x, y = centre
    if min(x - room, y - room) < -1 or x + room > width or y + room > height:
        raise UserError(f"The crop around ({x:.0f}, {y:.0f}) reaches beyond the 100x image.")
    left, top = max(0, math.floor(x - room) - 4), max(0, math.floor(y - room) - 4)
    part = np.ascontiguousarray(
        image[top : math.ceil(y + room) + 5, left : math.ceil(x + room) + 5]
    )
    window = max(1, round(ratio))
    mean = cv2.boxFilter(part, cv2.CV_32F, (window, window), borderType=cv2.BORDER_REPLICATE)
    cosine, sine = (
        ratio * math.cos(math.radians(rotation_deg)),
        ratio * math.sin(math.radians(rotation_deg)),
    )
    middle = (size_px - 1) / 2
    grid = np.array(
        [
            [cosine, -sine, x - left - cosine * middle + sine * middle],
            [sine, cosine, y - top - sine * middle - cosine * middle],
        ]
    )
    if window % 2 == 0:
        grid[:, 2] += 0.5  # an even window's mean lies half a pixel before its anchor
    crop = cv2.warpAffine(
        mean,
        grid,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.clip(np.rint(crop), 0, 255).astype(np.uint8)
