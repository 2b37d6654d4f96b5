"""The simulated sensor: light to electrons to grey values, with the noise of a real camera."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import Settings
from plsctl.sim.world.noise import FloatArray, add_noise

Image = NDArray[np.uint8 | np.uint16]
Bayer = Literal["RGGB", "BGGR", "GRBG", "GBRG"]

_SLAB_ROWS = 128
"""Rows that share one random stream: fixed, so that the noise does not depend on the threads."""

_CHUNK = 1 << 18
"""Samples worked on at a time; much smaller ones have the threads wait for the interpreter."""


class SensorSettings(Settings):
    """Settings of the simulated sensor; the defaults are those of the Sony IMX174 class."""

    seed: int = Field(default=1, ge=0)
    """Seed of what is fixed to the sensor: dust and dead pixels."""
    full_well_electrons: float = Field(default=32_500.0, gt=0)
    """Electrons at full scale."""
    electrons_per_ms: float = Field(default=8_125.0, gt=0)
    """Per pixel at intensity 1, an empty field under one LED at brightness 1: 75 % in 3 ms."""
    read_noise_electrons: float = Field(default=7.0, ge=0)
    """Noise of reading out, in electrons."""
    vignette: float = Field(default=0.06, ge=0, lt=1)
    """Share of the light lost in the corners; falls off with the square of the radius."""
    dust_specks: int = Field(default=6, ge=0)
    """Specks of dust on the sensor."""
    dust_shade: float = Field(default=0.08, ge=0, lt=1)
    """Largest share of the light that a speck takes."""
    dead_pixels: int = Field(default=5, ge=0)
    """Pixels without signal."""


class Sensor:
    """A sensor with its fixed flaws.

    Parameters
    ----------
    size_px
        Width and height.
    bit_depth
        Of the grey values: 8 gives uint8, 9 to 16 give uint16; both linear.
    bayer
        Mosaic of the colour filters, named from the top left; None for three full colours.
    black_level
        Grey value without light.
    threads
        Parts of a frame worked on at a time.
    """

    def __init__(
        self,
        settings: SensorSettings,
        size_px: tuple[int, int],
        *,
        bit_depth: int = 8,
        bayer: Bayer | None = None,
        black_level: float = 0.0,
        threads: int = 2,
    ) -> None:
        self.settings = settings
        self.full_scale = 2**bit_depth - 1
        if not 8 <= bit_depth <= 16 or not 0 <= black_level < self.full_scale:
            raise UserError(f"no sensor has {bit_depth} bits and a black level of {black_level}")
        self.bayer = bayer
        self.black_level = black_level
        self.dtype = np.dtype(np.uint8 if bit_depth == 8 else np.uint16)
        self._shape = (size_px[1], size_px[0])
        self._threads = threads
        rng = np.random.default_rng((settings.seed, 0x5E45))
        self.flat = _flat_field(settings, self._shape, rng)
        dead = rng.integers(0, (size_px[1], size_px[0]), (settings.dead_pixels, 2))
        self._dead = (dead[:, 0], dead[:, 1])

    def expose(
        self,
        rates: FloatArray,
        exposure_ms: float,
        gain: float,
        key: Sequence[int | str],
    ) -> Image:
        """One frame.

        Parameters
        ----------
        rates
            Light, shape (y, x, rgb), as a multiple of an empty field under one LED at full
            brightness: the sum over the lit LEDs of brightness x image.
        gain
            Factor on the signal; at 1 the full well is the full scale.
        key
            Seed of the noise, such as (seed, pass, position, frame, repeat): the same key gives the
            same frame, keys that differ give independent noise.

        Returns
        -------
        Grey values, shape (y, x, rgb), or (y, x) for a mosaic; uint8 or uint16.

        Raises
        ------
        UserError
            For rates of another shape, or an exposure or gain that is not positive.
        """
        if rates.shape != (*self._shape, 3):
            raise UserError(f"light of shape {rates.shape} does not fit a sensor {self._shape}")
        if exposure_ms <= 0 or gain <= 0:
            raise UserError(f"exposure {exposure_ms} ms and gain {gain} must be positive")
        seed = [_as_int(part) for part in key]
        channels = () if self.bayer else (3,)
        image = np.empty((*self._shape, *channels), dtype=self.dtype)

        planes = [image] if self.bayer else [image[..., colour] for colour in range(3)]

        def fill(start: int) -> None:
            rng = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(start,)))
            stop = min(start + _SLAB_ROWS, self._shape[0])
            step = max(2, _CHUNK // self._shape[1] // 2 * 2)
            for row in range(start, stop, step):
                rows = slice(row, min(row + step, stop))
                for colour, plane in enumerate(planes):
                    light = self._light(rates, rows, colour)
                    light *= np.float32(exposure_ms * self.settings.electrons_per_ms)
                    signal = add_noise(light, self.settings.read_noise_electrons, rng)
                    self._digitise(signal, gain, plane[rows])

        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(fill, range(0, self._shape[0], _SLAB_ROWS)))
        image[self._dead] = round(self.black_level)
        return image

    def _light(self, rates: FloatArray, rows: slice, colour: int) -> FloatArray:
        """Light behind dust and vignette in one colour, or on a mosaic; shape (rows, x)."""
        flat = self.flat[rows]
        if self.bayer is None:
            return np.multiply(rates[rows, :, colour], flat)
        light = np.empty(flat.shape, dtype=np.float32)
        for site, letter in enumerate(self.bayer):
            at = (slice(site // 2, None, 2), slice(site % 2, None, 2))
            np.multiply(rates[rows, :, "RGB".index(letter)][at], flat[at], out=light[at])
        return light

    def _digitise(self, signal: FloatArray, gain: float, out: Image) -> None:
        well = self.settings.full_well_electrons
        np.minimum(signal, np.float32(well), out=signal)
        signal *= np.float32(gain * (self.full_scale - self.black_level) / well)
        signal += np.float32(self.black_level)
        np.rint(signal, out=signal)
        np.clip(signal, 0, self.full_scale, out=signal)
        np.copyto(out, signal, casting="unsafe")


def _as_int(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "big")
    return part


def _flat_field(
    settings: SensorSettings, shape: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Share of the light that reaches each pixel: vignette times dust."""
    height, width = shape
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    radius_2 = (y**2 + x**2) / max((height**2 + width**2) / 4, 1)
    flat = 1 - settings.vignette * radius_2
    for _ in range(settings.dust_specks):
        centre_y, centre_x = rng.uniform(-0.5, 0.5, 2) * (height, width)
        radius = rng.uniform(0.004, 0.015) * width
        shade = rng.uniform(0.3, 1.0) * settings.dust_shade
        distance = np.sqrt((y - centre_y) ** 2 + (x - centre_x) ** 2)
        # Dust lies on the cover glass, out of focus: a disc with a soft edge.
        flat = flat * (1 - shade * (0.5 - 0.5 * np.tanh((distance - radius) / (0.3 * radius))))
    return np.asarray(flat, dtype=np.float32)
