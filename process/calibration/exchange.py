"""Which LED an image really shows: dead LEDs, and LEDs that are wired in each other's place.

The sample is put together from the axis outwards, ring by ring. For the places of the next ring it
predicts images; each place is given to the image that fits it, wherever that stands in the table.
So wrong images never help to make the prediction that they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.process.aperture.image import brightness_factor, residual
from plsctl.process.calibration.refinement import Tile, join, tile_stack
from plsctl.process.calibration.views import ArrayOptics, LedViews

BRIGHT = 0.2
"""In bright field the middle value of an image is above this share of its brightest ones."""

LEAST_LIGHT = 0.03
"""Share of the full scale above which the mean of an image is light."""

BLOCK_PX = 8
STRUCTURE = 2.0
"""Means of blocks scatter by so many times more than their noise where there is structure."""

NEAR_RIM = 0.08
"""Share of the aperture by which an LED may lie on the other side of its rim."""

CLEARER = 0.7
"""Another image fits a place where its residual is below this share of the own one's."""

RING = 0.2
"""Width of a ring in direction cosines, as a share of the aperture."""

ODD = 3.0
"""An image fits no place where its residual is so many times that of LEDs as steep."""

OWN_ODD = 8.0
"""The same for the image that should be there, where no other fits better; and where it is asked
whether images are exchanged at all."""

NEIGHBOURS = 7
"""LEDs of nearly one steepness whose median is what is usual."""


def is_bright(views: Sequence[LedViews], led: int) -> bool:
    """Whether an image has the unscattered light of its LED."""
    shares = []
    for view in views:
        counts = view.images[led].astype(np.float32) - np.float32(view.black_level)
        grey = counts.mean(axis=-1)
        middle, brightest = np.percentile(grey[::2, ::2], (50, 99.5))
        shares.append(middle / max(brightest, 1e-3))
    return float(np.median(shares)) > BRIGHT


def is_lit(views: Sequence[LedViews], led: int) -> bool:
    """Whether an image shows light: a bright image, or structure above its noise."""
    for view in views:
        counts = view.images[led].astype(np.float32) - np.float32(view.black_level)
        grey = counts.mean(axis=-1)
        if float(grey.mean()) > LEAST_LIGHT * (view.full_scale - view.black_level):
            return True
        noise = float(np.abs(np.diff(grey, axis=1)).mean()) / 1.128
        height, width = (n // BLOCK_PX * BLOCK_PX for n in grey.shape)
        shape = (height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
        blocks = grey[:height, :width].reshape(shape).mean(axis=(1, 3))
        low, high = np.percentile(blocks, (16, 84))
        if high - low > 2 * STRUCTURE * noise / BLOCK_PX:
            return True
    return False


def usual(values: NDArray[np.float64], steepness: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each LED the median over those most nearly as steep, (LED,)."""
    away = np.abs(steepness[:, None] - steepness)
    nearest = np.argsort(away, axis=1, kind="stable")[:, :NEIGHBOURS]
    return np.asarray(np.median(values[nearest], axis=1))


def misplaced(
    bright: NDArray[np.bool_], directions: NDArray[np.float64], na: float
) -> NDArray[np.bool_]:
    """LEDs whose image is bright where it should be dark, or dark where it should be bright."""
    steepness = np.hypot(*directions.T)
    inside, outside = steepness < (1 - NEAR_RIM) * na, steepness > (1 + NEAR_RIM) * na
    return np.asarray((inside & ~bright) | (outside & bright))


def assign(
    views: Sequence[LedViews],
    tiles: Sequence[Tile],
    colour: int,
    optics: ArrayOptics,
    lit: NDArray[np.int64],
    sure: NDArray[np.int64],
    directions: NDArray[np.float64],
) -> NDArray[np.int64]:
    """For each LED of the table the one whose place its image comes from, shape (LED,).

    -1 for LEDs without light, and for images that fit no place.

    Parameters
    ----------
    lit
        LEDs that give light.
    sure
        LEDs inside the aperture that are known to be in their own place, at least three.
    directions
        Of all places, shape (LED, 2), in image axes.
    """
    from_place = np.full(len(optics), -1)
    from_place[sure] = sure
    steepness = np.hypot(*directions.T)
    places = np.setdiff1d(np.arange(len(optics)), sure)
    dark = np.setdiff1d(places, lit)
    # Places of LEDs without light come last, for images that fit no other place: one from near by
    # fits them nearly as well as its own, which may be farther out and not looked at yet.
    rings = [*_rings(np.intersect1d(places, lit), steepness, RING * optics.na), dark]
    enough = 0.0
    for ring in rings:
        free = np.setdiff1d(lit, np.flatnonzero(from_place >= 0))
        if ring.size and free.size:
            wrong = _compare(views, tiles, colour, optics, from_place, directions, ring, free)
            if ring is not dark:
                enough = ODD * float(np.median(wrong.min(axis=1)))
            _give(from_place, ring, free, wrong, enough)
    return from_place


def _rings(
    places: NDArray[np.int64], steepness: NDArray[np.float64], width: float
) -> list[NDArray[np.int64]]:
    """Places from the axis outwards, those of nearly one steepness together."""
    left = places[np.argsort(steepness[places], kind="stable")]
    found = []
    while left.size:
        found.append(left[steepness[left] <= steepness[left[0]] + width])
        left = left[len(found[-1]) :]
    return found


def _compare(
    views: Sequence[LedViews],
    tiles: Sequence[Tile],
    colour: int,
    optics: ArrayOptics,
    from_place: NDArray[np.int64],
    directions: NDArray[np.float64],
    ring: NDArray[np.int64],
    free: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Residual of each free image at each place of a ring, median over tiles, (place, image)."""
    known = np.flatnonzero(from_place >= 0)
    found = np.empty((len(tiles), len(ring), len(free)))
    for wrong, tile in zip(found, tiles, strict=True):
        everyone = tile_stack(views, tile, colour, optics, np.arange(len(optics)), directions)
        seen = everyone.take(known).lit_from(directions[from_place[known]])
        models = join(seen, everyone).model(directions[ring])
        for row, model in enumerate(models):
            for column, image in enumerate(everyone.amplitude[free]):
                scaled = image * np.float32(brightness_factor(model, image))
                wrong[row, column] = residual(model, scaled)
    return np.asarray(np.median(found, axis=0))


def _give(
    from_place: NDArray[np.int64],
    ring: NDArray[np.int64],
    free: NDArray[np.int64],
    wrong: NDArray[np.float64],
    enough: float,
) -> None:
    """Give the places of a ring to the images that fit them; `from_place` is changed.

    An image fits whose residual is at most `enough`.
    """
    own = np.full(len(ring), np.inf)
    for row, place in enumerate(ring):
        if place in free:
            own[row] = wrong[row, np.searchsorted(free, place)]
    pairs = [
        (wrong[row, column], int(ring[row]), int(image))
        for row in range(len(ring))
        for column, image in enumerate(free)
        if image == ring[row] or wrong[row, column] < CLEARER * own[row]
    ]
    taken: set[int] = set()
    for value, place, image in sorted(pairs):
        # An LED at the rim of the aperture fits worse than its neighbours, and nothing fits better.
        limit = enough if image != place else OWN_ODD / ODD * enough
        if value <= limit and place not in taken and from_place[image] < 0:
            from_place[image] = place
            taken.add(place)
