"""A similarity between two images made exact: each tile of one is found in the other.

The second image is brought onto the first one's grid by what is known so far, so that tiles differ
by small shifts alone, whatever rotation and scale lie between the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.matching.correlation import (
    LEAST_VARIANCE,
    best_place,
    correlate,
    mean_and_spread,
)
from plsctl.process.matching.similarity import Points, Similarity

AnyImage = NDArray[np.uint8] | NDArray[np.float32]
Prepare = Callable[[Any], AnyImage]


@dataclass(frozen=True)
class TileSettings:
    """How an image is divided and how far its tiles are sought.

    `size_px` is about the side of a tile, `reach_px` how far it may be displaced from where it is
    expected; a flat tile, or one with another place nearly as good (`most_second_ratio`), is not
    used.
    """

    size_px: float
    reach_px: int
    most_second_ratio: float = 0.9


def tile_places(
    template: AnyImage, other: AnyImage, guess: Similarity, settings: TileSettings, prepare: Prepare
) -> tuple[Points, Points]:
    """Middles of the tiles of one image, and where they lie in the other; both (n, 2), pixels.

    Parameters
    ----------
    template
        What is compared of the first image, (y, x): its edges, for instance.
    other
        The second image, (y, x) or (y, x, channel).
    guess
        Carries pixels of the first to pixels of the second.
    prepare
        Makes of the second image, once it is on the grid of the first, what is compared.
    """
    reach = settings.reach_px
    boxes = _boxes(_common(template.shape, other.shape, guess), settings)
    if not boxes:
        return np.empty((0, 2)), np.empty((0, 2))
    warped = cv2.warpAffine(
        other,
        guess.matrix,
        template.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    search = prepare(_like(warped, other))
    here: list[tuple[float, float]] = []
    there: list[tuple[float, float]] = []
    least = LEAST_VARIANCE**0.5 * mean_and_spread(template)[1]
    for top, bottom, left, right in boxes:
        tile = template[top:bottom, left:right]
        if mean_and_spread(tile)[1] <= least:
            continue
        part = search[top - reach : bottom + reach, left - reach : right + reach]
        match = best_place(correlate(part, tile, centred=True), radius_px=max(3, reach // 2))
        on_border = not (0.5 < match.dx < 2 * reach - 0.5 and 0.5 < match.dy < 2 * reach - 0.5)
        if on_border or match.second_ratio > settings.most_second_ratio:
            continue
        middle = ((left + right - 1) / 2, (top + bottom - 1) / 2)
        here.append(middle)
        there.append((middle[0] + match.dx - reach, middle[1] + match.dy - reach))
    before = np.array(here, dtype=np.float64).reshape(-1, 2)
    return before, guess.apply(np.array(there, dtype=np.float64).reshape(-1, 2))


def _like(image: NDArray[np.generic], other: AnyImage) -> AnyImage:
    if other.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    return np.asarray(image, np.float32)


def _common(
    one: tuple[int, ...], other: tuple[int, ...], guess: Similarity
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of an upright part of the first image that both show."""
    height, width = other[0] - 1, other[1] - 1
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64)
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = guess.inverse.apply(corners)
    return (
        max(0, math.ceil(max(y0, y1))),
        min(one[0], math.floor(min(y2, y3)) + 1),
        max(0, math.ceil(max(x0, x2))),
        min(one[1], math.floor(min(x1, x3)) + 1),
    )


def _boxes(
    common: tuple[int, int, int, int], settings: TileSettings
) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of tiles of that part, with room for the search around them."""
    reach = settings.reach_px
    edges = []
    for low, high in (common[:2], common[2:]):
        room = max(0, high - low - 2 * reach)
        count = max(1, round(room / settings.size_px))
        edges.append([round(v) for v in np.linspace(low + reach, low + reach + room, count + 1)])
    return [
        (top, bottom, left, right)
        for top, bottom in pairwise(edges[0])
        for left, right in pairwise(edges[1])
        if min(bottom - top, right - left) >= 2 * reach
    ]
