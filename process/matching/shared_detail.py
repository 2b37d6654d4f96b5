"""Whether the two passes of a field are in the same focus: the detail that both of them show.

Cells are mostly phase objects: out of focus they do not blur, they turn into other rings, as fine
as before. The contrast of fine detail says nothing then, but the two passes no longer show the same
detail, while what is coarse still agrees. Which of the two is out of focus is told by their
colours: in focus they show the same, and rings of other wavelengths have other widths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from plsctl.acquire.arrays import FloatArray, Image
from plsctl.process.matching.fields import turned_crop
from plsctl.process.matching.similarity import Similarity

FINE_UM, COARSE_UM = (0.18, 0.35), (2.4, 4.8)
"""Bands of detail, as the widths (sigma) of the two Gaussian filters whose difference they are.
The fine one ends where an objective of NA 0.4 does."""

LEAST_SIGMA_PX = 0.6
"""Where pixels are too coarse for the fine band, it is as fine as they allow."""

TILE_UM, REACH_UM = 19.0, 1.8
"""Tiles of a field, and how far their content may have moved since: cells move singly."""

TILES, LEAST_TILES = 24, 4
"""So many tiles with content are looked at; of fewer than the least nothing is told."""

LIVELY = 0.3
"""Contrast of a tile, as a share of the liveliest one's, below which it is empty."""

COARSE_UM_PER_PX = 1.2
"""Pixel in which coarse detail is compared."""

LEAST_TRUE = 0.3
"""Share of detail in what the fine band of a pass holds, below which noise hides it."""

SHARED = 0.56
"""Correlation of fine detail below which one pass is out of focus by about 2.5 um or more (NA 0.4):
.86 and more in focus, .65 to .68 at 2 um, .29 to .50 at 3 um, .11 to .23 at 6 um."""

SAME_PLACE = 0.3
"""Least correlation of coarse detail where both passes show the same cells: .58 and more up to 6 um
out of focus, and .1 at most at a wrong place."""

CLEARLY = 0.01
"""By so much more the colours of one pass must agree before the other is named."""

Doubt = Literal["", "stained", "unstained", "either"]


@dataclass(frozen=True)
class SharedDetail:
    """How well the passes of a field agree; not a number where the field shows too little.

    Parameters
    ----------
    fine, coarse
        Correlation of their fine and coarse detail; noise is taken out of the fine one.
    colours
        Correlation of fine detail in red and blue light within each pass, stained less unstained.
    """

    fine: float = math.nan
    coarse: float = math.nan
    colours: float = math.nan

    @property
    def out_of_focus(self) -> Doubt:
        """The pass that is not in focus, "either" where that cannot be told, else empty."""
        if not (self.fine < SHARED and self.coarse >= SAME_PLACE):
            return ""
        if abs(self.colours) < CLEARLY:
            return "either"
        return "stained" if self.colours < 0 else "unstained"


UNKNOWN = SharedDetail()
"""Of a field that shows too little."""


def shared_detail(
    before: Image, after: Image, to_unstained: Similarity, pixel_um: float
) -> SharedDetail:
    """Compare the two passes of a field.

    Parameters
    ----------
    before, after
        Bright-field images, unstained and stained, (y, x, rgb).
    to_unstained
        Carries pixels of the stained image to those of the unstained one.
    pixel_um
        Size of a pixel in the sample.
    """
    side, reach = round(TILE_UM / pixel_um), max(1, round(REACH_UM / pixel_um))
    sigmas = _sigmas(FINE_UM, pixel_um)
    rim = math.ceil(3 * sigmas[1])
    inverse = to_unstained.inverse
    peaks, colours = [], []
    for x, y in _lively_tiles(before, after, inverse, side, reach + rim):
        there = inverse.apply_to(x, y)
        # The stained tile as the camera gave it: interpolation would change its noise.
        own = [_straight(before, (x, y), side + 2 * rim), _straight(after, there, side + 2 * rim)]
        colours.append([_correlation(*(_band(np.log1p(tile[..., c]), sigmas, rim) for c in (0, 2)))
                        for tile in own])  # fmt: skip
        search = _straight(before, (x, y), side + 2 * (reach + rim))
        tile = turned_crop(after, there, side + 2 * rim, inverse.rotation_deg)
        one, other = (_band(image.mean(axis=2), sigmas, rim) for image in (search, tile))
        peaks.append(float(cv2.matchTemplate(one, other, cv2.TM_CCOEFF_NORMED).max()))
    if len(peaks) < LEAST_TILES:
        return UNKNOWN
    unstained, stained = (float(value) for value in np.median(colours, axis=0))
    # Noise differs from colour to colour: of the mean of three so much is detail (Spearman, Brown).
    true = [3 * max(value, 0.0) / (1 + 2 * max(value, 0.0)) for value in (unstained, stained)]
    if not min(true) > LEAST_TRUE:
        return UNKNOWN
    return SharedDetail(
        min(1.0, float(np.median(peaks)) / math.sqrt(true[0] * true[1])),
        _coarse(before, after, inverse, pixel_um),
        stained - unstained,
    )


def _sigmas(band_um: tuple[float, float], pixel_um: float) -> tuple[float, float]:
    narrow = max(LEAST_SIGMA_PX, band_um[0] / pixel_um)
    return narrow, narrow * band_um[1] / band_um[0]


def _band(plane: FloatArray | Image, sigmas: tuple[float, float], rim: int) -> FloatArray:
    """One band of a plane (y, x), without a rim that the filters reach beyond."""
    grey = plane.astype(np.float32)
    found = cv2.GaussianBlur(grey, (0, 0), sigmas[0]) - cv2.GaussianBlur(grey, (0, 0), sigmas[1])
    return np.ascontiguousarray(found[rim:-rim, rim:-rim] if rim else found)


def _straight(image: Image, middle: tuple[float, float], side: int) -> Image:
    """A square of an image about a point (x, y), in whole pixels."""
    left, top = (round(value - (side - 1) / 2) for value in middle)
    return image[top : top + side, left : left + side]


def _lively_tiles(
    before: Image, after: Image, to_stained: Similarity, side: int, room: int
) -> list[tuple[float, float]]:
    """Middles (x, y) of unstained tiles with content that both images show."""
    found = []
    half = side / 2 + room + 1
    height, width = before.shape[:2]
    for y in np.arange(half, height - half, side):
        for x in np.arange(half, width - half, side):
            u, v = to_stained.apply_to(float(x), float(y))
            if half <= u < after.shape[1] - half and half <= v < after.shape[0] - half:
                green = _straight(before, (x, y), side)[::2, ::2, 1]
                found.append((float(green.std()), (float(x), float(y))))
    found.sort(reverse=True)
    lively = [middle for contrast, middle in found if contrast > LIVELY * found[0][0]]
    # Of all of them evenly, not the liveliest: those hold the white cells, which stain changed.
    return lively[:: max(1, len(lively) // TILES)][:TILES]


def _coarse(before: Image, after: Image, to_stained: Similarity, pixel_um: float) -> float:
    """Correlation of the coarse detail of the whole field, as it lies."""
    height, width = before.shape[:2]
    shrink = max(1.0, COARSE_UM_PER_PX / pixel_um)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    there, seen = (
        cv2.warpAffine(image, to_stained.matrix, (width, height),
                       flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for image in (after[..., 1:].copy(), np.full(after.shape[:2], 255, np.uint8))
    )  # fmt: skip
    sigmas = _sigmas(COARSE_UM, pixel_um * shrink)
    planes = [
        _band(cv2.resize(image, size, interpolation=cv2.INTER_AREA).mean(axis=2), sigmas, 0)
        for image in (before[..., 1:].copy(), there)
    ]
    inside = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    reach = 2 * math.ceil(2 * sigmas[1]) + 1
    inside = cv2.erode(inside, np.ones((reach, reach), np.uint8), borderValue=0) == 255
    return _correlation(*(plane[inside] for plane in planes))


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Correlation of two arrays; not a number where one is flat."""
    if one.size < 2 or not (one.std() and other.std()):
        return math.nan
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
