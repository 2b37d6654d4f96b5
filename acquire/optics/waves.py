"""Light meets a thin sample and an objective: transmission and pupil (see `optics.field`)."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import ComplexArray, FloatArray
from plsctl.acquire.optics.imaging import Imaging

Direction: TypeAlias = tuple[float, float]

REFERENCE_INDEX = 1.55
"""Index of dried protein; layers give the excess of their optical path over this index."""


def is_bright_field(direction: Direction, na: float) -> bool:
    """Whether an LED's direct light enters an objective: |s| <= NA (direction cosines in air)."""
    return math.hypot(*direction) <= na


def pupil(
    fx: NDArray[np.floating],
    fy: NDArray[np.floating],
    imaging: Imaging,
    wavelength_um: float,
    z_um: float = 0.0,
) -> ComplexArray:
    """The objective's pupil with defocus exp(+i 2 pi z sqrt(n^2 / wavelength^2 - |f|^2)).

    The phase on the axis is left out: it is the same everywhere and shows in no image.

    Parameters
    ----------
    fx, fy
        Frequencies in cycles per micrometre; any shapes that broadcast.
    z_um
        Defocus in the medium of the objective.
    """
    squared = np.square(fx) + np.square(fy)
    inside = squared <= (imaging.na / wavelength_um) ** 2
    if z_um == 0:
        return np.asarray(inside, dtype=np.complex64)
    wave_number = imaging.refractive_index / wavelength_um
    axial = np.sqrt(np.maximum(wave_number**2 - squared, 0)) - wave_number
    phase = 2 * np.pi * z_um * axial
    return np.asarray(np.where(inside, np.exp(1j * phase), 0), dtype=np.complex64)


def optical_path_um(
    thickness_um: FloatArray, index_excess_um: FloatArray, medium_index: float
) -> FloatArray:
    """Optical path difference of a stack of layers to the medium they lie in.

    Parameters
    ----------
    thickness_um
        Sum of the layers' thicknesses h.
    index_excess_um
        Sum of (n - 1.55) h.
    medium_index
        Of what surrounds the sample: 1.0 for a dry smear, the oil's under oil.
    """
    contrast = np.float32(REFERENCE_INDEX - medium_index)
    path: FloatArray = index_excess_um + contrast * thickness_um
    return path


def transmission(path_um: FloatArray, absorbance: FloatArray, wavelength_um: float) -> ComplexArray:
    """Complex transmission exp(i 2 pi path / wavelength - absorbance / 2).

    Parameters
    ----------
    path_um
        Optical path difference to the medium.
    absorbance
        Natural logarithm of the intensity lost, same shape.
    """
    phase = path_um * np.float32(2 * np.pi / wavelength_um)
    amplitude = np.exp(absorbance * np.float32(-0.5))
    result = np.empty(phase.shape, dtype=np.complex64)
    np.multiply(amplitude, np.cos(phase), out=result.real)
    np.multiply(amplitude, np.sin(phase), out=result.imag)
    return result


class Layers(Protocol):
    """What the model needs of a rendered sample, on an object grid of shape (y, x)."""

    @property
    def thickness_um(self) -> FloatArray:
        """Thickness of everything on the slide, shape (y, x)."""

    @property
    def index_excess_um(self) -> FloatArray:
        """Sum over layers of (n - 1.55) h, shape (y, x)."""

    @property
    def absorbance(self) -> FloatArray:
        """Natural logarithm of the intensity lost, shape (3, y, x)."""
