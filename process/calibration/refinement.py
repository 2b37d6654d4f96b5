"""Directions of all LEDs from how their images join to one synthetic aperture.

Neighbouring LEDs show overlapping parts of the sample's spectrum, and only one arrangement of them
agrees where they overlap. Several small parts of the fields are put together, each for itself;
the median over them is the direction, their spread its error. What all directions share is told
from a slope of the sample by what is left unscattered, which the circles of bright-field LEDs show
better (`circles`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.process.aperture.grid import make_grid
from plsctl.process.aperture.image import SyntheticAperture
from plsctl.process.aperture.led_stack import LedStack
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct
from plsctl.process.calibration.views import ArrayOptics, LedViews

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """A part of one of the fields."""

    view: int
    window: Window


@dataclass(frozen=True)
class Refined:
    """What several tiles say of some LEDs.

    Parameters
    ----------
    leds
        Places in the table, shape (n,).
    directions
        In image axes, shape (tile, n, 2).
    residuals
        Relative residual of each image, shape (tile, n).
    """

    leds: NDArray[np.int64]
    directions: NDArray[np.float64]
    residuals: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Median over the tiles, (n, 2)."""
        return np.asarray(np.median(self.directions, axis=0))

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard deviation of one direction cosine between tiles, (n,)."""
        if len(self.directions) < 2:
            return np.full(len(self.leds), np.nan)
        middle = np.abs(self.directions - self.mean)
        return np.asarray(1.48 * np.median(middle, axis=0).mean(axis=1))

    @property
    def residual(self) -> NDArray[np.float64]:
        """Median residual over the tiles, (n,)."""
        return np.asarray(np.median(self.residuals, axis=0))


def choose_tiles(
    views: Sequence[LedViews], led: int, colour: int, side_px: int, count: int
) -> list[Tile]:
    """The parts of the fields that vary most under an LED, most first.

    They overlap where the fields are too small for so many.
    """
    found: list[tuple[float, Tile]] = []
    stride = side_px
    while not found or (len(found) < count and stride > side_px // 4):
        found = _tiles(views, led, colour, side_px, max(stride, 1))
        stride //= 2
    found.sort(key=lambda one: -one[0])
    return [tile for _, tile in found[:count]]


def _tiles(
    views: Sequence[LedViews], led: int, colour: int, side_px: int, stride: int
) -> list[tuple[float, Tile]]:
    """Parts on a square grid, and how much they vary."""
    found = []
    for number, view in enumerate(views):
        image = view.intensity(led, colour)
        height, width = image.shape
        side_y, side_x = min(side_px, height), min(side_px, width)
        for top in range(0, height - side_y + 1, stride):
            for left in range(0, width - side_x + 1, stride):
                window = slice(top, top + side_y), slice(left, left + side_x)
                part = image[window]
                found.append((float(part.std() / max(part.mean(), 1e-3)), Tile(number, window)))
    return found


def tile_stack(
    views: Sequence[LedViews],
    tile: Tile,
    colour: int,
    optics: ArrayOptics,
    leds: NDArray[np.int64],
    directions: NDArray[np.float64],
) -> LedStack:
    """A tile's images of some LEDs with their directions, (n, 2) in image axes."""
    return LedStack(
        amplitude=views[tile.view].amplitude(tile.window, colour)[leds],
        directions=directions,
        wavelength_um=optics.wavelengths_um[colour],
        pixel_um=optics.pixel_um,
        na=optics.na,
        defocus_um=optics.defocus_um,
    )


def refine(
    views: Sequence[LedViews],
    tiles: Sequence[Tile],
    colour: int,
    optics: ArrayOptics,
    leds: NDArray[np.int64],
    directions: NDArray[np.float64],
    progress: Callable[[], None] = lambda: None,
) -> Refined:
    """Improve directions of some LEDs, (n, 2) in image axes, in every tile."""
    found, residuals = [], []
    for tile in tiles:
        stack = tile_stack(views, tile, colour, optics, leds, directions)
        result = reconstruct(stack, ApertureSettings())
        found.append(result.directions)
        residuals.append(result.compare(stack.lit_from(result.directions)))
        progress()
    return Refined(leds, np.stack(found), np.stack(residuals))


def join(stack: LedStack, reach: LedStack) -> SyntheticAperture:
    """Put a stack together at its own directions, on a grid that reaches all of another's LEDs."""
    settings = ApertureSettings(recover_directions=False)
    upsampling = make_grid(reach, settings.guard_px, None).upsampling
    return reconstruct(stack, settings.model_copy(update={"upsampling": upsampling}))
