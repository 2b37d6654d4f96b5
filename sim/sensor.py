"""The simulated sensor: light to electrons to grey values, with the noise of a real camera.

Shot noise without a Poisson generator's cost. Normal deviates come from a pool of four million,
from a random place for every few thousand pixels. Where read noise is at least 3 electrons it
hides that photons come one by one: a deviate g becomes mean + s g + mean / (6 s^2) (g^2 - 1),
with s^2 such that mean, variance and third moment are those of both noises together (Cornish-
Fisher expansion). With less read noise, counts below 16 electrons are drawn from tabulated
Poisson distributions: the table holds means that are equally spaced in their square root, and a
pixel takes one of the two neighbouring tables at random (its mean is off by less than 0.0003
electrons, its variance by less than 0.1 %).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from plsctl.acquire.config import Settings
from plsctl.acquire.errors import UserError

FloatArray = NDArray[np.float32]
Image = NDArray[np.uint8 | np.uint16]
Bayer = Literal["RGGB", "BGGR", "GRBG", "GBRG"]

POISSON_LIMIT = 16
"""Electrons up to which counts come from the table."""

HIDING_READ_NOISE = 3.0
"""Read noise, electrons, from which single photons need not be counted."""

_POOL = 1 << 22
"""Standard normal deviates kept ready."""

_STEPS_PER_ROOT = 32
"""Tabulated means per unit of their square root."""

_SLAB_ROWS = 128
"""Rows that share one random stream: fixed, so that the noise does not depend on the threads."""

_CHUNK = 1 << 18
"""Samples worked on at a time; much smaller ones have the threads wait for the interpreter."""


class SensorSettings(Settings):
    """What the simulated sensor is like; the defaults are those of the Sony IMX174 class."""

    seed: int = Field(default=1, ge=0)
    """Of what is fixed to the sensor: dust and dead pixels."""
    full_well_electrons: float = Field(default=32_500.0, gt=0)
    electrons_per_ms: float = Field(default=8_125.0, gt=0)
    """Per pixel at intensity 1, an empty field under one LED at brightness 1: 75 % in 3 ms."""
    read_noise_electrons: float = Field(default=7.0, ge=0)
    vignette: float = Field(default=0.06, ge=0, lt=1)
    """Share of the light lost in the corners; falls off with the square of the radius."""
    dust_specks: int = Field(default=6, ge=0)
    dust_shade: float = Field(default=0.08, ge=0, lt=1)
    """Largest share of the light that a speck takes."""
    dead_pixels: int = Field(default=5, ge=0)


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


@lru_cache(maxsize=1)
def _normal_pool() -> FloatArray:
    """Standard normal deviates with a mean of exactly 0 and a variance of exactly 1."""
    pool = np.random.default_rng(0x5EED).standard_normal(_POOL)
    return np.asarray((pool - pool.mean()) / pool.std(), dtype=np.float32)


@lru_cache(maxsize=1)
def _poisson_table() -> NDArray[np.uint8]:
    """Counts at 65536 equal steps of probability for each tabulated mean, one after the other."""
    from scipy.stats import poisson

    levels = math.isqrt(POISSON_LIMIT) * _STEPS_PER_ROOT + 2
    means = (np.arange(levels) / _STEPS_PER_ROOT) ** 2
    counts = np.arange(64)
    edges = np.rint(poisson.cdf(counts, means[:, None]) * 65536).astype(np.int64)
    edges[:, -1] = 65536
    repeats = np.diff(edges, axis=1, prepend=0)
    table = np.repeat(np.tile(counts.astype(np.uint8), levels), repeats.ravel())
    return table


def add_noise(
    electrons: FloatArray, read_noise_electrons: float, bits: np.random.SFC64
) -> FloatArray:
    """Shot noise and read noise on mean electron counts.

    Parameters
    ----------
    electrons
        Mean counts, any shape, >= 0.
    bits
        Source of randomness; advanced.

    Returns
    -------
    Noisy signal in electrons, float32, same shape; may be negative through read noise.
    """
    mean = electrons.ravel()
    normal = _normals(mean.size, bits)
    if read_noise_electrons >= HIDING_READ_NOISE:
        return _both_noises(mean, normal, read_noise_electrons).reshape(electrons.shape)
    low = mean < POISSON_LIMIT
    lows = int(np.count_nonzero(low))
    if lows == mean.size:
        noisy = _counts(mean, bits)
        noisy += normal * np.float32(read_noise_electrons)
        return noisy.reshape(electrons.shape)
    noisy = _shot_and_read(mean, normal, read_noise_electrons)
    if lows:
        at = np.flatnonzero(low)
        noisy[at] = _counts(mean[at], bits) + normal[at] * np.float32(read_noise_electrons)
    return noisy.reshape(electrons.shape)


def _uniform_16(size: int, bits: np.random.SFC64) -> NDArray[np.uint16]:
    raw: NDArray[np.uint64] = bits.random_raw((size + 3) // 4)
    return raw.view(np.uint16)[:size]


def _normals(size: int, bits: np.random.SFC64) -> FloatArray:
    """A random stretch of the pool (not to be written to)."""
    if size > _POOL // 2:
        return np.random.Generator(bits).standard_normal(size, dtype=np.float32)
    start = int(bits.random_raw()) % (_POOL - size)
    return _normal_pool()[start : start + size]


def _both_noises(mean: FloatArray, normal: FloatArray, read_noise: float) -> FloatArray:
    """Shot and read noise with their joint mean, variance and third moment."""
    variance = mean + np.float32(read_noise**2)
    share = mean / variance
    share *= np.float32(1 / 6)
    noisy = share * share
    noisy *= np.float32(-2)
    noisy += variance
    np.sqrt(noisy, out=noisy)
    noisy *= normal
    noisy += mean
    # What the squared deviate adds to the variance was taken off above.
    squared = np.multiply(normal, normal, out=variance)
    squared -= np.float32(1)
    squared *= share
    noisy += squared
    return noisy


def _counts(mean: FloatArray, bits: np.random.SFC64) -> FloatArray:
    """Poisson counts for means below the limit."""
    level = np.sqrt(mean)
    level *= np.float32(_STEPS_PER_ROOT)
    # Adding up to one before cutting off takes the upper neighbour with the right probability.
    level += _uniform_16(mean.size, bits) * np.float32(2.0**-16)
    index = level.astype(np.int64)
    index <<= 16
    index += _uniform_16(mean.size, bits)
    return np.take(_poisson_table(), index).astype(np.float32)


def _shot_and_read(mean: FloatArray, normal: FloatArray, read_noise: float) -> FloatArray:
    """Both noises in one normal deviate; (g^2 - 1) / 6 brings skewness and variance 1 / 18."""
    noisy = mean + np.float32(read_noise**2 - 1 / 18)
    # Means below the limit are replaced by counts afterwards.
    np.maximum(noisy, 0, out=noisy)
    np.sqrt(noisy, out=noisy)
    noisy *= normal
    noisy += mean
    np.square(normal * np.float32(1 / math.sqrt(6)), out=(skew := np.empty_like(normal)))
    skew -= np.float32(1 / 6)
    noisy += skew
    return noisy
