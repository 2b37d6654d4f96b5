"""The synthetic aperture of a whole field, put together from overlapping tiles.

The middle tile goes first; what it finds about lens and LEDs is where the others begin, with half
the rounds.
The phase common to a tile shows in no image, so each tile is turned to agree with its neighbours
where they overlap; tiles fade into one another there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from plsctl.acquire.arrays import ComplexArray, FloatArray
from plsctl.process.aperture.image import SyntheticAperture
from plsctl.process.aperture.led_stack import LedStack
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct


class TileSettings(BaseModel):
    """Tiles in camera pixels: their side, and by how much neighbours overlap at least.

    Within a tile the light of an LED comes from one direction, and the lens has one pupil.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side_px: int = Field(default=256, ge=32)
    overlap_px: int = Field(default=32, ge=4)

    @model_validator(mode="after")
    def _overlap_is_less_than_half(self) -> TileSettings:
        if 2 * self.overlap_px > self.side_px:
            raise ValueError("overlap_px must be at most half of side_px")
        return self


@dataclass(frozen=True)
class ApertureField:
    """A whole field as the synthetic aperture sees it.

    Parameters
    ----------
    field
        Complex transmission, shape (y, x) of the images times the upsampling (see
        `SyntheticAperture.field`).
    pixel_um
        Spacing of its pixels.
    middle
        The reconstruction of the middle tile: lens and LEDs.
    residuals
        Relative residual of each tile, in the order of its work.
    """

    field: ComplexArray
    pixel_um: float
    middle: SyntheticAperture
    residuals: tuple[float, ...]

    @property
    def amplitude(self) -> FloatArray:
        """Modulus of the field, shape (y, x)."""
        return np.abs(self.field)

    @property
    def phase(self) -> FloatArray:
        """Phase in radians, within (-pi, pi], shape (y, x)."""
        return np.angle(self.field)

    @property
    def residual(self) -> float:
        """Mean relative residual of the tiles."""
        return float(np.mean(self.residuals))


def reconstruct_field(
    stack: LedStack,
    settings: ApertureSettings | None = None,
    tiles: TileSettings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ApertureField:
    """The synthetic aperture of images of any size.

    Parameters
    ----------
    stack
        As for `reconstruct`.
    progress
        Called with the tiles done and all tiles.

    Raises
    ------
    UserError
        As `reconstruct`.
    """
    settings, tiles = settings or ApertureSettings(), tiles or TileSettings()
    height, width = (int(n) for n in stack.amplitude.shape[1:])
    corners = _in_order_of_distance(height, width, tiles)
    side = (min(tiles.side_px, height), min(tiles.side_px, width))
    # They begin with what the middle tile has found, and need half the rounds.
    following = settings.model_copy(
        update={"recover_directions": False, "rounds": math.ceil(settings.rounds / 2)}
    )
    windows = [(slice(y, y + side[0]), slice(x, x + side[1])) for y, x in corners]
    middle = reconstruct(stack.part(windows[0]), settings)
    joined = _Joined((height, width), tiles.overlap_px)
    residuals = []
    for number, (corner, window) in enumerate(zip(corners, windows, strict=True)):
        part = stack.part(window)
        found = reconstruct(part, following, middle) if number else middle
        residuals.append(found.total_residual(part.lit_from(found.directions)))
        joined.add(found.field * np.float32(found.scale / middle.scale), corner, side)
        progress(number + 1, len(corners))
    return ApertureField(joined.field(), middle.pixel_um, middle, tuple(residuals))


def _in_order_of_distance(height: int, width: int, tiles: TileSettings) -> list[tuple[int, int]]:
    """Corners (y, x) of the tiles, from the middle of the field outwards."""
    rows, columns = _starts(height, tiles), _starts(width, tiles)
    middle = (np.mean(rows), np.mean(columns))
    corners = [(y, x) for y in rows for x in columns]
    return sorted(corners, key=lambda c: math.hypot(c[0] - middle[0], c[1] - middle[1]))


def _starts(length: int, tiles: TileSettings) -> list[int]:
    """Where tiles begin along an axis, evenly spread."""
    if length <= tiles.side_px:
        return [0]
    count = math.ceil((length - tiles.overlap_px) / (tiles.side_px - tiles.overlap_px))
    return [round(start) for start in np.linspace(0, length - tiles.side_px, count)]


class _Joined:
    """Tiles, weighted so that they fade into one another."""

    def __init__(self, size: tuple[int, int], overlap_px: int) -> None:
        self._size = size
        self._overlap_px = overlap_px
        self._sum: ComplexArray = np.zeros((0, 0), np.complex64)
        self._weight: FloatArray = np.zeros((0, 0), np.float32)

    def add(self, tile: ComplexArray, corner: tuple[int, int], side: tuple[int, int]) -> None:
        """Add a tile whose corner and side are given in camera pixels."""
        up = tile.shape[0] // side[0]
        if not self._sum.size:
            fine = (self._size[0] * up, self._size[1] * up)
            self._sum, self._weight = np.zeros(fine, np.complex64), np.zeros(fine, np.float32)
        place = tuple(
            slice(start * up, (start + n) * up) for start, n in zip(corner, side, strict=True)
        )
        down, across = (_fade(n, self._overlap_px * up) for n in tile.shape)
        weight = down[:, None] * across
        before = self._sum[place]
        agreement = complex(np.vdot(tile, before * weight))
        turn = agreement / abs(agreement) if agreement else 1.0
        before += tile * (weight * np.complex64(turn))
        self._weight[place] += weight

    def field(self) -> ComplexArray:
        """All tiles, mean phase 0."""
        whole = self._sum / self._weight
        mean = whole.mean()
        return np.asarray(whole * (np.conj(mean) / max(abs(mean), 1e-7)), np.complex64)


def _fade(length: int, rim: int) -> NDArray[np.float32]:
    """Weights along an axis: rising over the rim, never quite 0, 1 in the middle."""
    edge = np.minimum(np.arange(length), np.arange(length)[::-1])
    return np.clip((edge + 0.5) / rim, 0, 1).astype(np.float32)
