"""Where one image lies in another: edges and normalised correlation (papers/002, A.1.2).

All offsets are (dx, dy) in pixels, x to the right and y down. A match carries its score and the
ratio of the second-best peak to the best: a ratio near one means that the place is a guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError

MARGIN_PX = 264
"""Margin of the search template on the full sensor (papers/002 section 3.1.3)."""

MARGIN_SHARE = 0.22
"""The same margin as a share of the image's shorter side: 264 of 1200 pixels."""

LEAST_VARIANCE = 0.1
"""Share of an image's variance per pixel below which a part of it counts as flat.

A flat part says nothing: its correlation is divided by this much, not by the noise that is in it.
"""

_NOISE_GRADIENT = 8.0  # sums of gradients stay below this many standard deviations of noise
_LEAST_GRADIENT, _SURE_GRADIENT = 4.0, 16.0  # rounding raises less, no usual noise more
_PEAK_RADIUS_PX = 12  # a second peak nearer than this is a shoulder of the first


@dataclass(frozen=True)
class Match:
    """Where the template's top left corner lies in the searched image, in pixels.

    `score` is the correlation at the best place, `second_ratio` the score of the best other place
    divided by it, both above their median over all places.
    """

    dx: float
    dy: float
    score: float
    second_ratio: float

    def trusted(self, least_score: float = 0.1, most_second_ratio: float = 0.8) -> bool:
        """Whether the match stands out enough to be used."""
        return self.score >= least_score and self.second_ratio <= most_second_ratio


def grey_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey values of an (y, x, rgb) or (y, x) image; shape (y, x)."""
    if image.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def edge_image(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Edges by Canny's filter, 0 or 255; shape (y, x).

    The thresholds follow the gradients of the image: the strongest tenth of all pixels may start
    an edge and the strongest fifth may carry it on, so that exposure and stain do not matter. What
    noise alone may raise is no edge.
    """
    smooth = cv2.GaussianBlur(grey, (5, 5), 0)
    across = cv2.Sobel(smooth, cv2.CV_16S, 1, 0, ksize=3)
    down = cv2.Sobel(smooth, cv2.CV_16S, 0, 1, ksize=3)
    # A sample of the gradients is enough for their distribution.
    strength = np.abs(across[::4, ::4]) + np.abs(down[::4, ::4])
    low, high = np.percentile(strength, (80, 90))
    least = min(max(_NOISE_GRADIENT * _noise(grey), _LEAST_GRADIENT), _SURE_GRADIENT)
    edges = cv2.Canny(across, down, max(float(low), least / 2), max(float(high), least))
    return np.asarray(edges, dtype=np.uint8)


def _noise(grey: NDArray[np.uint8]) -> float:
    """Standard deviation of an image's noise, grey values, from a sample of its rows."""
    rows = grey[:: max(1, grey.shape[0] // 48)].astype(np.int16)
    bends = np.abs(rows[:, 2:] - 2 * rows[:, 1:-1] + rows[:, :-2])
    return float(np.median(bends)) / (0.6745 * math.sqrt(6)) if bends.size else 0.0


def search_margin_px(shape: tuple[int, ...]) -> int:
    """Margin of the search template at each side of an image of that shape (y, x)."""
    return min(MARGIN_PX, round(MARGIN_SHARE * min(shape[:2])))


def correlate(
    search: NDArray[np.uint8] | NDArray[np.float32],
    template: NDArray[np.uint8] | NDArray[np.float32],
    *,
    centred: bool = False,
) -> NDArray[np.float32]:
    """Normalised correlation of equation A.1 for every place of the template in the search image.

    Shape (y, x) of the places: search - template + 1; values from -1 to 1. `centred` takes the
    means out of both. A flat template, and a place that is flat against the rest of the search
    image, are no evidence: see `LEAST_VARIANCE`.

    Raises
    ------
    UserError
        When the template is larger than the search image.
    """
    if any(t > s for t, s in zip(template.shape, search.shape, strict=True)):
        raise UserError(
            f"A template of {template.shape[1]} x {template.shape[0]} pixels does not fit into "
            f"{search.shape[1]} x {search.shape[0]}.",
            hint="Cut the template smaller, or swap the images.",
        )
    if not centred:
        scores = cv2.matchTemplate(search, template, cv2.TM_CCORR_NORMED)
        return np.clip(np.asarray(scores, np.float32), -1, 1)
    mean, spread = mean_and_spread(search)
    own_mean, own_spread = mean_and_spread(template)
    shape = [s - t + 1 for s, t in zip(search.shape, template.shape, strict=True)]
    if spread == 0 or own_spread == 0:
        return np.zeros(shape, np.float32)
    # Single precision holds the squares of what is centred, whatever it is measured in.
    middle = search.astype(np.float32) - np.float32(mean)
    pattern = (template.astype(np.float32) - np.float32(own_mean)) / np.float32(own_spread)
    scores = cv2.matchTemplate(middle, pattern, cv2.TM_CCOEFF_NORMED)
    np.clip(scores, -1, 1, out=scores)
    told = _variances(middle, template.shape) / np.float32(LEAST_VARIANCE * spread**2)
    return np.asarray(scores * np.sqrt(np.clip(told, 0, 1, out=told)), np.float32)


def mean_and_spread(image: NDArray[np.uint8] | NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation of an image (y, x)."""
    mean, spread = cv2.meanStdDev(image)
    return float(mean[0, 0]), float(spread[0, 0])


def _variances(image: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Variance of each window of that shape (y, x), at its top left pixel."""
    size = (shape[1], shape[0])
    rows, columns = (i - w + 1 for i, w in zip(image.shape, shape, strict=True))
    means = cv2.boxFilter(image, cv2.CV_32F, size, anchor=(0, 0))[:rows, :columns]
    squares = cv2.sqrBoxFilter(image, cv2.CV_32F, size, anchor=(0, 0))[:rows, :columns]
    return np.asarray(squares - means**2, np.float32)


def best_place(scores: NDArray[np.float32], radius_px: int = _PEAK_RADIUS_PX) -> Match:
    """The highest peak of a score map (y, x), to a fraction of a pixel, and how it stands out."""
    finite = np.where(np.isfinite(scores), scores, -1.0)
    row, column = np.unravel_index(int(finite.argmax()), finite.shape)
    score = float(finite[row, column])
    base = float(np.median(finite))
    others = finite.copy()
    others[
        max(0, row - radius_px) : row + radius_px + 1,
        max(0, column - radius_px) : column + radius_px + 1,
    ] = base
    # Where all places are alike, none stands out.
    second = (float(others.max()) - base) / (score - base) if score > base else 1.0
    dx, dy = subpixel_peak(finite, int(row), int(column))
    return Match(float(column + dx), float(row + dy), score, second)


def subpixel_peak(
    scores: NDArray[np.float32] | NDArray[np.float64], row: int, column: int
) -> tuple[float, float]:
    """Offset (dx, dy), at most 0.5, of a peak from its pixel by parabolas through neighbours."""

    def vertex(before: float, middle: float, after: float) -> float:
        bend = before - 2 * middle + after
        return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0

    height, width = scores.shape
    dx = dy = 0.0
    if 0 < column < width - 1:
        dx = vertex(*(float(value) for value in scores[row, column - 1 : column + 2]))
    if 0 < row < height - 1:
        dy = vertex(*(float(value) for value in scores[row - 1 : row + 2, column]))
    return dx, dy


def soft_edges(edges: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Edges widened to three pixels, so that lines that lie a pixel apart still meet."""
    wide = cv2.dilate(edges, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.GaussianBlur(wide, (3, 3), 0), dtype=np.uint8)


def wide_edges(grey: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """The edges of a grey image (y, x), three pixels wide: what fields and tiles are found by."""
    return soft_edges(edge_image(np.asarray(grey, np.uint8)))


def match_fields(
    moving: NDArray[np.uint8], reference: NDArray[np.uint8], margin_px: int | None = None
) -> Match:
    """Where the moving image's top left corner lies in the reference image of the same field.

    The moving (stained) image without its margin is the search template; it is slid over the
    reference (unstained) image. Both are edge images.

    Parameters
    ----------
    moving, reference
        Bright-field images of one size, (y, x, rgb) or (y, x).
    margin_px
        Largest offset that can be found; papers/002's margin by default.

    Returns
    -------
    Offset of the whole moving image: a point (x, y) of it lies at (x + dx, y + dy) in `reference`.

    Raises
    ------
    UserError
        When the images differ in size, or the margin leaves no template.
    """
    if moving.shape[:2] != reference.shape[:2]:
        raise UserError(
            f"The images differ in size: {moving.shape[:2]} and {reference.shape[:2]} (y, x)."
        )
    margin = search_margin_px(moving.shape) if margin_px is None else margin_px
    if 2 * margin + 32 > min(moving.shape[:2]):
        raise UserError(
            f"A margin of {margin} pixels leaves no template of an image of {moving.shape[:2]}."
        )
    fixed = wide_edges(grey_image(reference))
    moved = wide_edges(grey_image(moving))
    inner = moved[margin : moved.shape[0] - margin, margin : moved.shape[1] - margin]
    found = best_place(_coarse_to_fine(fixed, inner))
    return Match(found.dx - margin, found.dy - margin, found.score, found.second_ratio)


def _coarse_to_fine(
    search: NDArray[np.uint8], template: NDArray[np.uint8], shrink: int = 2, reach_px: int = 5
) -> NDArray[np.float32]:
    """Score map, exact around the best place and interpolated from a half-size map elsewhere.

    The map of every second pixel finds the peak; around it the full images are correlated.
    """
    if min(template.shape) < 64 * shrink:
        return correlate(search, template)
    height = template.shape[0] // shrink * shrink
    width = template.shape[1] // shrink * shrink
    template = template[:height, :width]
    small_search = _bin(search, shrink)
    coarse = correlate(small_search, _bin(template, shrink))
    rows = search.shape[0] - height + 1
    columns = search.shape[1] - width + 1
    full = np.asarray(
        cv2.resize(coarse, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_LINEAR), np.float32
    )[:rows, :columns]
    row, column = np.unravel_index(int(full.argmax()), full.shape)
    top, left = max(0, int(row) - reach_px), max(0, int(column) - reach_px)
    bottom, right = min(rows, int(row) + reach_px + 1), min(columns, int(column) + reach_px + 1)
    fine = correlate(search[top : bottom - 1 + height, left : right - 1 + width], template)
    # Outside the exact patch the half-size map only serves the second-best peak.
    scale = float(fine.max()) / max(float(full.max()), 1e-9)
    full *= scale
    full[top:bottom, left:right] = fine
    return full


def _bin(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    height, width = (side // factor for side in image.shape)
    cut = image[: height * factor, : width * factor]
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
