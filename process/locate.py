"""Where one whole image lies in another, with scale and rotation: the work of `plsctl match`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.highres import NOMINAL_RATIO, log_subtracted
from plsctl.process.matching import (
    Match,
    best_place,
    edge_image,
    grey_image,
    search_margin_px,
    soft_edges,
)

_TILES = (3, 4)
_TILE_REACH_PX = 14
_WORKING_RATIO = 2.0  # a 100x image is compared at twice the 20x image's pixels
_AGREEMENT_PX = 2.5


@dataclass(frozen=True)
class Location:
    """Where A's top left corner lies in B (pixels of B), and how A is scaled and turned in it.

    A point p of A lies at (dx, dy) + scale R(rotation) p in B. `trusted` is False when another
    place fits nearly as well, or when the parts of the image disagree.
    """

    dx: float
    dy: float
    scale: float
    rotation_deg: float
    score: float
    trusted: bool


def locate_by_edges(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Location:
    """Where A lies in B, by Canny edges and normalised correlation (papers/002, A.1).

    A without a margin, so that it may reach beyond B, is slid over B. Images (y, x, rgb) or
    (y, x) of about the same scale.

    Raises
    ------
    UserError
        When A is too much larger than B to be slid over it.
    """
    edges_a, edges_b = (soft_edges(edge_image(grey_image(image))) for image in (a, b))
    margin = [
        0 if small + 16 <= large else max(search_margin_px(a.shape), (small - large) // 2 + 8)
        for small, large in zip(a.shape[:2], b.shape[:2], strict=True)
    ]
    height, width = a.shape[0] - 2 * margin[0], a.shape[1] - 2 * margin[1]
    if min(height, width) < 32:
        raise UserError(
            f"An image of {a.shape[1]} x {a.shape[0]} pixels is too small to be found in "
            f"{b.shape[1]} x {b.shape[0]}.",
            hint="Give images of at least 60 pixels and of about one scale.",
        )
    inner = edges_a[margin[0] : margin[0] + height, margin[1] : margin[1] + width]
    scores = cv2.matchTemplate(edges_b, inner, cv2.TM_CCORR_NORMED)
    found = best_place(np.asarray(scores, dtype=np.float32))
    fit = _fit_tiles(inner, edges_b, found)
    return _placed(fit, found, found.trusted(), (margin[1], margin[0]))


def locate_by_log(
    a: NDArray[np.uint8], b: NDArray[np.uint8], ratio: float = NOMINAL_RATIO
) -> Location:
    """Where the 20x image A lies in the 100x image B, by LoG subtraction (papers/002, 3.1.3).

    Either may be the larger field.

    Parameters
    ----------
    ratio
        Pixels of B to a pixel of A by the objectives' names.
    """
    up = _WORKING_RATIO
    low = cv2.resize(grey_image(a), None, fx=up, fy=up, interpolation=cv2.INTER_LINEAR)
    shrink = up / ratio
    reduced = cv2.resize(
        log_subtracted(grey_image(b)), None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA
    )
    one, other = low.astype(np.float32), reduced.astype(np.float32)
    a_is_smaller = one.shape[0] <= other.shape[0] and one.shape[1] <= other.shape[1]
    template, search = (one, other) if a_is_smaller else (other, one)
    if template.shape[0] > search.shape[0] or template.shape[1] > search.shape[1]:
        raise UserError(
            "Neither image holds the other: their fields cross.",
            hint="Crop one of them to the part that both show.",
        )
    scores = cv2.matchTemplate(search, template, cv2.TM_CCOEFF_NORMED)
    found = best_place(np.asarray(scores, dtype=np.float32))
    trusted = found.trusted(0.3, 0.8)
    fit = _fit_tiles(template, search, found, cv2.TM_CCOEFF_NORMED)
    place = _placed(fit, found, trusted, (0, 0))
    return _from_working(place if a_is_smaller else _inverse(place), up, ratio)


def _from_working(place: Location, up: float, ratio: float) -> Location:
    """From the working grids (A times `up`, B shrunk to it) back to the pixels of A and B."""
    grow = ratio / up
    scale = place.scale * ratio
    # Pixel centres: pixel p of a resized image lies at (p + 0.5) / factor - 0.5 of the original.
    angle = math.radians(place.rotation_deg)
    half_a, half_b = (up - 1) / 2, (grow - 1) / 2
    cosine, sine = place.scale * math.cos(angle), place.scale * math.sin(angle)
    dx = (place.dx + half_a * (cosine - sine)) * grow + half_b
    dy = (place.dy + half_a * (sine + cosine)) * grow + half_b
    return Location(dx, dy, scale, place.rotation_deg, place.score, place.trusted)


def _inverse(place: Location) -> Location:
    angle = math.radians(-place.rotation_deg)
    cosine, sine = math.cos(angle) / place.scale, math.sin(angle) / place.scale
    return Location(
        -(cosine * place.dx - sine * place.dy),
        -(sine * place.dx + cosine * place.dy),
        1 / place.scale,
        -place.rotation_deg,
        place.score,
        place.trusted,
    )


def _placed(
    fit: tuple[float, float, float, float] | None,
    found: Match,
    trusted: bool,
    margin: tuple[int, int],
) -> Location:
    """The place of the whole image from that of its inner part."""
    if fit is None:
        return Location(found.dx - margin[0], found.dy - margin[1], 1.0, 0.0, found.score, trusted)
    dx, dy, scale, rotation = fit
    cosine, sine = (
        scale * math.cos(math.radians(rotation)),
        scale * math.sin(math.radians(rotation)),
    )
    dx -= cosine * margin[0] - sine * margin[1]
    dy -= sine * margin[0] + cosine * margin[1]
    return Location(dx, dy, scale, rotation, found.score, trusted)


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    rows = np.linspace(0, shape[0], _TILES[0] + 1).astype(int)
    columns = np.linspace(0, shape[1], _TILES[1] + 1).astype(int)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield int(top), int(bottom), int(left), int(right)


def _fit_tiles(
    template: NDArray[np.uint8] | NDArray[np.float32],
    search: NDArray[np.uint8] | NDArray[np.float32],
    found: Match,
    metric: int = cv2.TM_CCORR_NORMED,
) -> tuple[float, float, float, float] | None:
    """Similarity through the tiles' own places: (dx, dy, scale, rotation); None with too few."""
    before, after = [], []
    column, row = round(found.dx), round(found.dy)
    reach = _TILE_REACH_PX
    for top, bottom, left, right in _tiles(template.shape):
        if min(bottom - top, right - left) < 3 * reach:
            return None
        y0, x0 = max(0, top + row - reach), max(0, left + column - reach)
        part = search[y0 : bottom + row + reach, x0 : right + column + reach]
        tile = template[top:bottom, left:right]
        if part.shape[0] < tile.shape[0] or part.shape[1] < tile.shape[1]:
            continue
        scores = np.asarray(cv2.matchTemplate(part, tile, metric), dtype=np.float32)
        match = best_place(scores, radius_px=6)
        if match.second_ratio > 0.9:
            continue
        middle = ((left + right - 1) / 2, (top + bottom - 1) / 2)
        before.append(middle)
        after.append((middle[0] - left + x0 + match.dx, middle[1] - top + y0 + match.dy))
    return _similarity(np.array(before), np.array(after))


def _similarity(
    before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[float, float, float, float] | None:
    """Least-squares similarity with outliers left out, as complex numbers: after = m before + t."""
    if len(before) < 4:
        return None
    p, q = before[:, 0] + 1j * before[:, 1], after[:, 0] + 1j * after[:, 1]
    kept = np.abs((q - p) - np.median((q - p).real) - 1j * np.median((q - p).imag)) < 12
    for _ in range(8):
        if kept.sum() < 4:
            return None
        centre_p, centre_q = p[kept].mean(), q[kept].mean()
        spread = p[kept] - centre_p
        factor = (np.conj(spread) @ (q[kept] - centre_q)) / (np.abs(spread) ** 2).sum()
        offset = centre_q - factor * centre_p
        now = np.abs(q - factor * p - offset) < _AGREEMENT_PX
        if (now == kept).all():
            break
        kept = now
    rotation = math.degrees(math.atan2(factor.imag, factor.real))
    return float(offset.real), float(offset.imag), float(abs(factor)), rotation
