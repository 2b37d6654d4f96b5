"""Result of a synthetic aperture: the sample's field, and its prediction under any LED."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from plsctl.acquire.arrays import ComplexArray, FloatArray
from plsctl.process.aperture.aberrations import PupilEstimate
from plsctl.process.aperture.grid import ApertureGrid
from plsctl.process.aperture.led_stack import LedStack

_DIMMEST = 1e-4
"""Least factor of brightness."""


@dataclass(frozen=True)
class SyntheticAperture:
    """The sample as the synthetic aperture sees it.

    Parameters
    ----------
    field
        Complex transmission, shape (y, x) of the field times the upsampling: its modulus is 1 on
        average under the most central LED, its mean phase 0. Pixel [0, 0] lies on the camera's.
    pixel_um
        Spacing of its pixels.
    pupil
        Recovered pupil with the known defocus, shape (fy, fx), frequency zero in the middle.
    pupil_step
        Frequency steps (y, x) of the pupil in cycles per micrometre.
    aberrations
        Zernike terms (n, m) of the pupil's phase beyond the known defocus, radians RMS.
    brightness
        Factor on each image's amplitude, one per LED.
    directions
        Direction cosines (LED, 2) with which the images were explained, order (x, y).
    history
        Relative residual (`residual`) met in each round.
    scale
        Mean amplitude of the image under the most central LED, which stands for a modulus of 1.
    """

    field: ComplexArray
    pixel_um: float
    pupil: ComplexArray
    pupil_step: tuple[float, float]
    aberrations: dict[tuple[int, int], float]
    brightness: NDArray[np.float64]
    directions: NDArray[np.float64]
    history: tuple[float, ...]
    scale: float
    _spectrum: ComplexArray
    _grid: ApertureGrid
    _pupil: PupilEstimate

    @property
    def upsampling(self) -> int:
        """Pixels of the field along a camera pixel."""
        return self._grid.upsampling

    @property
    def amplitude(self) -> FloatArray:
        """Modulus of the field, shape (y, x)."""
        return np.abs(self.field)

    @property
    def phase(self) -> FloatArray:
        """Phase of the field in radians, within (-pi, pi], shape (y, x)."""
        return np.angle(self.field)

    def model(self, directions: NDArray[np.float64]) -> FloatArray:
        """Amplitudes that the reconstruction predicts under other or the same LEDs, (LED, y, x).

        Raises
        ------
        UserError
            An LED is steeper than the spectrum reaches.
        """
        made = np.empty((len(directions), *self._grid.field), np.float32)
        for image, (whole, offset) in zip(
            made, rounded_places(self._grid, directions), strict=True
        ):
            window = self._grid.seen(whole)
            passed = self._pupil.at(offset) * self._spectrum[window]
            image[...] = np.abs(exit_wave(passed, self._grid)[self._grid.inside])
        return made * np.float32(self.scale)

    def compare_with(
        self, image: FloatArray, directions: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Relative residual of one image (amplitudes, (y, x)) for each of several directions.

        A direction that the spectrum does not reach has the residual infinity.
        """
        found = np.full(len(directions), np.inf)
        reached = np.array(
            [self._grid.reaches(whole) for whole, _ in rounded_places(self._grid, directions)]
        )
        for place, direction in zip(np.flatnonzero(reached), directions[reached], strict=True):
            (model,) = self.model(direction[None])
            found[place] = residual(model, image * np.float32(brightness_factor(model, image)))
        return found

    def compare(self, stack: LedStack) -> NDArray[np.float64]:
        """Relative residual (see `residual`) of each image, its brightness fitted, (LED,).

        The stack may hold LEDs that the reconstruction has not seen; its directions are taken as
        they are (`LedStack.lit_from` gives it the recovered ones).
        """
        return np.array([residual(*pair) for pair in self._fitted(stack)])

    def total_residual(self, stack: LedStack) -> float:
        """Relative residual of all images of a stack together, each image's brightness fitted."""
        modelled, measured = zip(*self._fitted(stack), strict=True)
        return residual(np.stack(modelled), np.stack(measured))

    def _fitted(self, stack: LedStack) -> list[tuple[FloatArray, FloatArray]]:
        return [
            (model, image * np.float32(brightness_factor(model, image)))
            for model, image in zip(self.model(stack.directions), stack.amplitude, strict=True)
        ]


def residual(modelled: FloatArray, measured: FloatArray) -> float:
    """Relative residual of amplitude: sum of (modelled - measured)^2 over sum of measured^2.

    Infinite for an image without any light.
    """
    light = float(np.square(measured).sum())
    return float(np.square(modelled - measured).sum()) / light if light else np.inf


def brightness_factor(modelled: FloatArray, measured: FloatArray) -> float:
    """Factor that brings the measured amplitude to the modelled one (least squares)."""
    light = float(np.square(measured).sum())
    return max(float((modelled * measured).sum()) / light, _DIMMEST) if light else 1.0


def rounded_places(
    grid: ApertureGrid, directions: NDArray[np.float64]
) -> list[tuple[NDArray[np.int64], tuple[float, float]]]:
    """Each LED's window in whole bins and what is left of its place, (y, x)."""
    found = []
    for place in grid.places(directions):
        whole = np.rint(place).astype(np.int64)
        found.append((whole, (float(place[0] - whole[0]), float(place[1] - whole[1]))))
    return found


def exit_wave(passed: ComplexArray, grid: ApertureGrid) -> ComplexArray:
    """Light on the guarded camera field, except for a checkerboard of signs that no image shows.

    Leaving out the shifts of the centred spectrum costs that checkerboard and saves two copies.
    """
    spectrum = np.zeros(grid.guarded, dtype=np.complex64)
    spectrum[grid.pupil_middle] = passed
    wave: ComplexArray = scipy.fft.ifft2(spectrum, norm="ortho", overwrite_x=True)
    return wave
