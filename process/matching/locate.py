"""Where one whole image lies in another, with scale and rotation (`plsctl match`).

First roughly, at all shifts and several angles; then every tile of one image is found in the other,
and one similarity goes through all tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.matching.correlation import grey_image, wide_edges
from plsctl.process.matching.highres import NOMINAL_RATIO, log_subtracted
from plsctl.process.matching.overlap import ANGLES_DEG, Overlap, find_overlap
from plsctl.process.matching.similarity import Similarity, robust_similarity
from plsctl.process.matching.stain_contrast import averaged, reduced_contrast, stain_contrast
from plsctl.process.matching.tiles import AnyImage, Prepare, TileSettings, tile_places

METHODS = ("canny", "log")

_WORKING_PX = 600  # images are first compared with their longer side shrunk to this
_LEAST_SIDE_PX = 60
_TILES_ACROSS = (6, 3.5)  # the larger where the smaller are lost in blur or noise
_LEAST_TILE_PX = 28.0
_REACH_SHARE = 0.012  # of half the diagonal: what angle and scale leave open
_CLOSE_PX = 5  # what they leave open once tiles were found
_AGREEMENT_PX = 1.5
_COLOURED = 0.02  # spread of the logarithm of green over blue in an image that is not grey


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


@dataclass(frozen=True)
class Placed:
    """A similarity from A's pixels to B's, the tiles it rests on, and what says how sure it is.

    `tiles` follow the similarity, `agreeing` is their share of all tiles that were found, and
    `weight` the sum of their squared distances from their middle: the exactness of scale and
    rotation. With no tiles the template was found as a whole.
    """

    motion: Similarity
    score: float
    second_ratio: float
    tiles: int
    agreeing: float
    weight: float

    @property
    def trusted(self) -> bool:
        """Whether it fits, no other place nearly as well, and the parts agree.

        The fewer parts agree, the more score and second-best place must tell.
        """
        return any(
            self.score >= score
            and self.second_ratio <= ratio
            and self.tiles >= tiles
            and self.agreeing >= agreeing
            for score, ratio, tiles, agreeing in _EVIDENCE
        )


_EVIDENCE = (
    # Least score, highest second ratio, least tiles and their share of all that were found.
    (0.15, 0.75, 8, 0.25),
    (0.25, 0.65, 4, 0.3),
    (0.35, 0.95, 7, 0.55),
    (0.6, 0.85, 4, 0.8),
    (0.5, 0.55, 0, 0.0),
)
"""Each of these is enough: images with nothing in common stay below all of them."""


def match(
    a: NDArray[np.uint8], b: NDArray[np.uint8], method: str = "canny", ratio: float = NOMINAL_RATIO
) -> Location:
    """Where A lies in B, two images (y, x, rgb), by one of two methods.

    Parameters
    ----------
    method
        "canny" for images of one scale (unstained, stained), "log" for A at 20x and B at 100x.
    ratio
        With "log": pixels of B to a pixel of A, about.

    Raises
    ------
    UserError
        There is no such method, or an image is too small or shows nothing.
    """
    if method not in METHODS:
        raise UserError(
            f"there is no method '{method}'.", field="--method", hint="Choose canny or log."
        )
    return locate_by_edges(a, b) if method == "canny" else locate_by_log(a, b, ratio)


def locate_by_edges(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Location:
    """Where A lies in B, by Canny edges and normalised correlation (papers/002, A.1).

    Images (y, x, rgb) or (y, x) of about the same scale; either may be the larger, and they may
    overlap in part.

    Raises
    ------
    UserError
        When an image is too small.
    """
    _check_sizes(a, b)
    greys = grey_image(a), grey_image(b)
    shrink = max(1.0, max(*a.shape[:2], *b.shape[:2]) / _WORKING_PX)
    small_a, small_b = (_shrunk(wide_edges(grey), shrink) for grey in greys)
    rough = find_overlap(small_b, small_a)
    guess = _similarity(rough, a.shape, b.shape, shrink)
    return _location(_refined(wide_edges(greys[0]), greys[1], guess, rough, wide_edges, shrink))


def locate_by_log(
    a: NDArray[np.uint8], b: NDArray[np.uint8], ratio: float = NOMINAL_RATIO
) -> Location:
    """Where the 20x image A lies in the 100x image B; either may show more of the slide.

    Images in colour are compared by the contrast of the stain, grey ones as papers/002 (section
    3.1.3) does, the Laplacian of Gaussian subtracted from B.

    Parameters
    ----------
    ratio
        Pixels of B to a pixel of A by the objectives' names.

    Raises
    ------
    UserError
        When an image is too small.
    """
    return _location(place_highres(a, b, ratio))


def place_highres(
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    ratio: float = NOMINAL_RATIO,
    angles_deg: Sequence[float] = ANGLES_DEG,
    reach_px: float | None = None,
) -> Placed:
    """As `locate_by_log`, with measures of its accuracy.

    If it is known how far B may be turned, and how far (pixels of A) its middle may lie from
    that of A, the search takes less time.
    """
    _check_sizes(a, b, ratio)
    # On the grid of A, where both are compared, a pixel is the mean of a square of B.
    if _is_coloured(a) and _is_coloured(b):
        low = stain_contrast(a)
        (high, off), compared = averaged(b, ratio), reduced_contrast
    else:
        low = grey_image(a).astype(np.float32)
        (high, off), compared = averaged(log_subtracted(grey_image(b)), ratio), _as_it_is
    longest = max(*a.shape[:2], *(side / ratio for side in b.shape[:2]))
    shrink = max(1.0, longest / _WORKING_PX)
    small = compared(_shrunk(high, ratio))
    reach = None if reach_px is None else reach_px / shrink
    rough = find_overlap(
        _shrunk(low, shrink), _shrunk(small, shrink), angles_deg=angles_deg, reach_px=reach
    )
    # Here A is the reference: the other way round than for edges.
    to_low = _similarity(rough, b.shape, a.shape, shrink, 1 / ratio)
    placed = _refined(low, high, to_low.inverse, rough, compared, shrink)
    moved = placed.motion.then(Similarity(1 + 0j, complex(-off, -off)))
    return replace(placed, motion=moved)


def _similarity(
    rough: Overlap,
    moving: tuple[int, ...],
    reference: tuple[int, ...],
    shrink: float,
    scale: float = 1.0,
) -> Similarity:
    """From pixels of the moving image to those of the reference (scale of them to one)."""
    there = (
        (reference[1] - 1) / 2 + rough.dx * shrink,
        (reference[0] - 1) / 2 + rough.dy * shrink,
    )
    middle = ((moving[1] - 1) / 2, (moving[0] - 1) / 2)
    return Similarity.about(middle, there, -rough.rotation_deg, scale)


def _refined(
    template: AnyImage,
    other: AnyImage,
    guess: Similarity,
    rough: Overlap,
    prepare: Prepare,
    shrink: float,
) -> Placed:
    """The guess made exact by tiles; smaller ones are more exact, larger ones outlast blur.

    Where too few tiles agree, the whole template is found, and scale and angle stay as guessed.
    """
    shared = [
        min(one, side / guess.scale)
        for one, side in zip(template.shape, other.shape[:2], strict=True)
    ]
    reach = math.ceil(2 * shrink + _REACH_SHARE * math.hypot(*shared) / 2 + 2)
    for across in _TILES_ACROSS:
        size = max(_LEAST_TILE_PX, min(shared) / across, 2.0 * reach)
        motion, kept, agreeing = guess, np.empty((0, 2)), 0.0
        # Again, when scale and angle are known well.
        for tiles in (TileSettings(size, reach), *[TileSettings(size, _CLOSE_PX)] * 2):
            before, after = tile_places(template, other, motion, tiles, prepare)
            fit = robust_similarity(before, motion.inverse.apply(after), _AGREEMENT_PX)
            if fit is None:
                break
            motion = fit[0].then(motion)
            kept, agreeing = before[fit[1]], float(fit[1].mean())
        else:
            weight = float(((kept - kept.mean(axis=0)) ** 2).sum())
            return Placed(motion, rough.score, rough.second_ratio, len(kept), agreeing, weight)
    before, after = tile_places(template, other, guess, TileSettings(math.inf, reach), prepare)
    shift = (after - guess.apply(before)).sum(axis=0)  # of one tile, or none
    motion = guess.then(Similarity(1 + 0j, complex(*shift)))
    return Placed(motion, rough.score, rough.second_ratio, 0, 0.0, 0.0)


def _location(placed: Placed) -> Location:
    motion = placed.motion
    return Location(
        motion.offset.real,
        motion.offset.imag,
        motion.scale,
        motion.rotation_deg,
        placed.score,
        placed.trusted,
    )


def _check_sizes(a: NDArray[np.uint8], b: NDArray[np.uint8], ratio: float = 1.0) -> None:
    sides = [*a.shape[:2], *(side / ratio for side in b.shape[:2])]
    if min(sides) < 32:
        raise UserError(
            f"An image of {a.shape[1]} x {a.shape[0]} pixels and one of {b.shape[1]} x "
            f"{b.shape[0]} are too small to be found in one another.",
            hint=f"Give images that show the same {_LEAST_SIDE_PX} pixels at least.",
        )


def _is_coloured(image: NDArray[np.uint8]) -> bool:
    return image.ndim == 3 and float(stain_contrast(image[::4, ::4]).std()) > _COLOURED


def _as_it_is(image: AnyImage) -> NDArray[np.float32]:
    return np.asarray(image, np.float32)


def _shrunk(image: AnyImage, shrink: float) -> NDArray[np.float32]:
    size = (round(image.shape[1] / shrink), round(image.shape[0] / shrink))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)).astype(np.float32)
