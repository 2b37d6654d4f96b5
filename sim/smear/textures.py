"""Periodic random textures from which cells and film take their grain.

Each texture is made once per slide by shaping the spectrum of white noise, so nothing in it is
finer than its band allows and it repeats without a seam.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MAP_PIXEL_UM = 0.1
"""Pixel of the maps in which a single cell is drawn; frequencies up to 5 per micrometre."""

CELL_TILE_PX = 1024
FILM_TILE_PX = 2048
FILM_PIXEL_UM = 0.05

FINE_BAND_PER_UM = (1.5, 2.5)
"""Periods of 0.4 to 0.67 um: beyond the 20x bright-field image, within reach of steep LEDs."""


@dataclass(frozen=True)
class Textures:
    """Textures with mean 0 and standard deviation 1, square and periodic, float32.

    `coarse` (clumps of about 1 um) and `fine` (`FINE_BAND_PER_UM`) have pixels of `MAP_PIXEL_UM`;
    `film` has pixels of `FILM_PIXEL_UM` and lies still on the slide; `patches` varies over tens of
    micrometres (pixels of 2 um) and says where cells crowd.
    """

    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]
    film: NDArray[np.float32]
    patches: NDArray[np.float32]

    def crop(self, name: str, rng: np.random.Generator, size: int) -> NDArray[np.float32]:
        """A random square piece of a texture with `size` pixels a side, turned at random."""
        tile: NDArray[np.float32] = getattr(self, name)
        row, column = rng.integers(0, tile.shape[0], 2)
        rows = np.arange(row, row + size) % tile.shape[0]
        columns = np.arange(column, column + size) % tile.shape[1]
        piece = tile[np.ix_(rows, columns)]
        return np.ascontiguousarray(np.rot90(piece, int(rng.integers(0, 4))))


@lru_cache(maxsize=2)
def make_textures(seed: int) -> Textures:
    """The textures of the slide with that seed."""
    rng = np.random.default_rng((seed, 0x7E87))
    low, high = FINE_BAND_PER_UM
    return Textures(
        coarse=_noise(rng, CELL_TILE_PX, MAP_PIXEL_UM, lambda f: f * np.exp(-((f / 0.75) ** 2))),
        fine=_noise(
            rng,
            CELL_TILE_PX,
            MAP_PIXEL_UM,
            lambda f: np.exp(-(((f - (low + high) / 2) / ((high - low) / 2)) ** 4)),
        ),
        film=_noise(
            rng,
            FILM_TILE_PX,
            FILM_PIXEL_UM,
            lambda f: np.exp(-((f / 0.9) ** 2)) + 0.03 * np.exp(-((f / 2.6) ** 8)),
        ),
        patches=_noise(rng, 512, 2.0, lambda f: np.exp(-((f * 45.0) ** 2))),
    )


def _noise(
    rng: np.random.Generator,
    size: int,
    pixel_um: float,
    amplitude: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float32]:
    frequency = np.hypot(
        np.fft.fftfreq(size, pixel_um)[:, None], np.fft.rfftfreq(size, pixel_um)[None, :]
    )
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    spectrum *= amplitude(frequency)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(size, size))
    scaled: NDArray[np.float32] = (noise / noise.std()).astype(np.float32)
    return scaled
