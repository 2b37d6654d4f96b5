"""An objective and a camera over a sample, and the grid on which the sample is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.errors import UserError

GUARD_UM = 40.0
"""Least width of the guard band; its outer half fades to an empty slide."""

_GRID_RATIOS = tuple(
    Fraction(r) for r in ("4", "3", "2", "3/2", "1", "1/2", "1/3", "1/4", "1/5", "1/6", "1/8")
)
_HEADROOM = 1.25
"""The object grid resolves this much more than what can reach the pupil: room for soft edges."""


@dataclass(frozen=True)
class Imaging:
    """An objective and a camera, as seen from the sample.

    Parameters
    ----------
    na
        Numerical aperture of the objective.
    refractive_index
        Of the medium between slide and objective (1.0 air, 1.515 oil).
    pixel_um
        Size of a camera pixel in the sample.
    shape
        Camera pixels (height, width).
    wavelengths_um
        Vacuum wavelengths of the three colours R, G, B.
    """

    na: float
    refractive_index: float
    pixel_um: float
    shape: tuple[int, int]
    wavelengths_um: tuple[float, float, float] = (0.630, 0.530, 0.460)

    def __post_init__(self) -> None:
        if not 0 < self.na < self.refractive_index:
            raise UserError(
                f"an NA of {self.na} is not possible in a medium of index {self.refractive_index}",
                field="na",
                hint="Give an NA below the immersion medium's index.",
            )
        if self.pixel_um <= 0 or min(self.shape) < 1 or min(self.wavelengths_um) <= 0:
            raise UserError("pixel size, image shape and wavelengths must be positive")


@dataclass(frozen=True)
class ObjectGrid:
    """Where the sample's transmission is asked for; made by `object_grid`.

    Parameters
    ----------
    grid_um
        Spacing of the object points.
    shape
        Object points (y, x), guard band included.
    camera_shape
        Camera pixels (y, x) that fill the same period.
    corner_px
        Camera pixel (column, row) at which object point [0, 0] lies: minus the guard's width.
    pixel_um
        Camera pixel in the sample.
    max_illumination_na
        Steepest direction |s| whose images can be asked for.
    """

    grid_um: float
    shape: tuple[int, int]
    camera_shape: tuple[int, int]
    corner_px: tuple[int, int]
    pixel_um: float
    max_illumination_na: float

    @property
    def period_um(self) -> tuple[float, float]:
        """Height and width after which grid and spectrum repeat."""
        return self.shape[0] * self.grid_um, self.shape[1] * self.grid_um

    def coordinates_um(self, field_shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Positions y, x (two vectors) of the object points relative to the image's centre."""
        y, x = (
            np.arange(n) * self.grid_um + (corner - (pixels - 1) / 2) * self.pixel_um
            for n, corner, pixels in zip(self.shape, self.corner_px[::-1], field_shape, strict=True)
        )
        return y.astype(np.float32), x.astype(np.float32)

    def fade(self, field_shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Weights along y and x: 1 over the field and the inner half of the guard, 0 at the edge.

        A raised cosine; the sample's departure from an empty slide is multiplied by both.
        """
        y, x = (
            _fade(n, camera, -corner, pixels)
            for n, camera, corner, pixels in zip(
                self.shape, self.camera_shape, self.corner_px[::-1], field_shape, strict=True
            )
        )
        return y, x


def _fade(points: int, camera: int, guard: int, pixels: int) -> FloatArray:
    position = np.arange(points) * (camera / points)
    inside = np.minimum(position, camera - position)  # distance to the periodic edge
    far_guard = camera - guard - pixels
    width = max(min(guard, far_guard) / 2, 1.0)
    weight: FloatArray = (0.5 - 0.5 * np.cos(np.pi * np.clip(inside / width, 0, 1))).astype(
        np.float32
    )
    return weight


def fast_size(n: int) -> int:
    """Smallest multiple of 4 >= n made of the primes 2, 3, 5 and 7: a fast FFT length."""
    size = -(-max(n, 4) // 4) * 4
    while not _is_smooth(size):
        size += 4
    return size


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1


def object_grid(
    imaging: Imaging, max_illumination_na: float, guard_um: float = GUARD_UM
) -> ObjectGrid:
    """The coarsest object grid that carries every image up to a given direction.

    Its Nyquist frequency exceeds (NA + max_illumination_na) / wavelength by a quarter. It is at
    most half the camera's pixel, except where the camera oversamples the image (100x): there the
    grid may be coarser than the pixel. Periods of grid and camera agree exactly and both sizes are
    fast FFT lengths.

    Parameters
    ----------
    max_illumination_na
        Largest |s| of the LEDs that will be lit.
    guard_um
        Least width of the guard band on each side of the field, >= 40.

    Raises
    ------
    UserError
        For a guard below 40 um, directions of 1 or more, or a pixel too coarse for the pupil.
    """
    if guard_um < GUARD_UM:
        raise UserError(f"a guard band of {guard_um} µm is too narrow; give at least {GUARD_UM}")
    if not 0 <= max_illumination_na < 1:
        raise UserError(f"the direction cosine {max_illumination_na} is not between 0 and 1")
    ratio = _grid_ratio(imaging, max_illumination_na)
    guard = math.ceil(guard_um / imaging.pixel_um)
    steps = [
        fast_size(math.ceil((pixels + 2 * guard) / ratio.numerator)) for pixels in imaging.shape
    ]
    camera = (steps[0] * ratio.numerator, steps[1] * ratio.numerator)
    corner = [-((size - pixels) // 2) for size, pixels in zip(camera, imaging.shape, strict=True)]
    return ObjectGrid(
        grid_um=imaging.pixel_um * float(ratio),
        shape=(steps[0] * ratio.denominator, steps[1] * ratio.denominator),
        camera_shape=camera,
        corner_px=(corner[1], corner[0]),
        pixel_um=imaging.pixel_um,
        max_illumination_na=max_illumination_na,
    )


def _grid_ratio(imaging: Imaging, max_illumination_na: float) -> Fraction:
    shortest = min(imaging.wavelengths_um)
    camera_nyquist = 0.5 / imaging.pixel_um
    if imaging.na / shortest >= camera_nyquist:
        raise UserError(
            f"a pixel of {imaging.pixel_um} µm cannot sample a pupil of NA {imaging.na}",
            hint="Raise the magnification or lower the NA.",
        )
    oversampled = camera_nyquist >= 2 * imaging.na / shortest
    needed = _HEADROOM * (imaging.na + max_illumination_na) / shortest
    for ratio in _GRID_RATIOS:
        if (oversampled or ratio <= Fraction(1, 2)) and camera_nyquist / ratio >= needed:
            return ratio
    raise UserError(
        f"a pixel of {imaging.pixel_um} µm is too coarse for directions of {max_illumination_na}"
    )
