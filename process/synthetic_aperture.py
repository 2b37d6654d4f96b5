"""Synthetic aperture: one sharp complex image from many single-LED images (Fourier ptychography).

Each LED shows the objective a different part of the sample's spectrum (`plsctl.acquire.optics`);
neighbouring parts overlap, and the overlap fixes the phases that the camera loses. The parts are
put together by going through the LEDs from the middle outwards, again and again: the modelled
amplitude is replaced by the measured one, and the correction goes into the spectrum with the
weights of a Gauss-Newton step (Zheng, Horstmeyer and Yang 2013; Tian et al. 2014). The last rounds
take smaller steps, which averages over what the LEDs disagree about. After each round the pupil's
aberrations take a Gauss-Newton step of their own, as Zernike polynomials: a pupil that is free in
every bin (Ou, Zheng and Yang 2014) puts the brightness of each LED into the one bin where its
direct light passes, and misses the aberrations.

Real fields are cut out of a larger sample: the reconstruction has a guard band around the field in
which no image constrains it, so that light may enter from outside. Directions are rounded to a bin
of the guarded field's spectrum, at most wavelength / (2 period). LEDs differ in brightness, so each
image has one free factor; the bright-field LEDs keep a geometric mean of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plsctl.acquire.errors import UserError
from plsctl.acquire.imaging import FloatArray, Imaging, fast_size
from plsctl.acquire.optics import pupil as ideal_pupil
from plsctl.process.aberrations import PupilEstimate
from plsctl.process.led_stack import LedStack

ComplexArray: TypeAlias = NDArray[np.complex64]
Bins: TypeAlias = NDArray[np.int64]

_TINY = np.float32(1e-7)
_PUPIL_RIM = 1.5
"""Bins of room around the pupil in its window."""
_SURELY_BRIGHT = 0.95
"""Share of the NA within which all of an LED's direct light enters the objective."""


class ApertureSettings(BaseModel):
    """How a stack is put together.

    `upsampling` is how many reconstructed pixels lie along a camera pixel, by default as many as
    the steepest LED needs; `rounds` how often all LEDs are gone through, the share `settling` of
    them with shrinking steps; `guard_px` the guard band in camera pixels on every side;
    `aberration_degree` the highest degree of the Zernike polynomials of the pupil.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upsampling: int | None = Field(default=None, ge=1, le=16)
    rounds: int = Field(default=20, ge=1)
    settling: float = Field(default=0.4, ge=0, le=1)
    guard_px: int = Field(default=16, ge=0)
    recover_pupil: bool = True
    aberration_degree: int = Field(default=6, ge=2, le=12)
    recover_brightness: bool = True


@dataclass(frozen=True)
class _Grid:
    """The guarded field and its spectrum; sizes in pixels and bins, order (y, x)."""

    field: tuple[int, int]
    guarded: tuple[int, int]
    upsampling: int
    box: tuple[int, int]
    """Half the size of the window of the spectrum that holds the pupil."""

    @property
    def inside(self) -> tuple[slice, slice]:
        y, x = self.corner
        return slice(y, y + self.field[0]), slice(x, x + self.field[1])

    @property
    def corner(self) -> tuple[int, int]:
        return (self.guarded[0] - self.field[0]) // 2, (self.guarded[1] - self.field[1]) // 2

    @property
    def fine(self) -> tuple[int, int]:
        return self.guarded[0] * self.upsampling, self.guarded[1] * self.upsampling

    def window(self, size: tuple[int, int], bins: tuple[int, int]) -> tuple[slice, slice]:
        """The pupil's window in a centred spectrum of that size, moved by some bins."""
        (y, x), (half_y, half_x) = bins, self.box
        middle_y, middle_x = size[0] // 2 + y, size[1] // 2 + x
        return (
            slice(middle_y - half_y, middle_y + half_y + 1),
            slice(middle_x - half_x, middle_x + half_x + 1),
        )

    def bins(self, stack: LedStack) -> Bins:
        """Where each LED's window lies, (LED, 2) in order (y, x): at -s / wavelength."""
        period = np.array(self.guarded[::-1]) * stack.pixel_um
        moved = np.rint(-stack.directions / stack.wavelength_um * period).astype(np.int64)
        return np.asarray(moved[:, ::-1])


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
    history
        Relative residual (`residual`) met in each round.
    """

    field: ComplexArray
    pixel_um: float
    pupil: ComplexArray
    pupil_step: tuple[float, float]
    aberrations: dict[tuple[int, int], float]
    brightness: NDArray[np.float64]
    history: tuple[float, ...]
    _spectrum: ComplexArray
    _grid: _Grid
    _scale: float

    @property
    def amplitude(self) -> FloatArray:
        """Modulus of the field, shape (y, x)."""
        return np.abs(self.field)

    @property
    def phase(self) -> FloatArray:
        """Phase of the field in radians, within (-pi, pi], shape (y, x)."""
        return np.angle(self.field)

    def model(self, stack: LedStack) -> FloatArray:
        """Amplitudes that the reconstruction predicts for the LEDs of a stack, (LED, y, x)."""
        made = [
            np.abs(_exit_wave(self._spectrum, self.pupil, self._grid, bins)[self._grid.inside])
            for bins in _pairs(self._grid.bins(stack))
        ]
        return np.stack(made) * np.float32(self._scale)

    def compare(self, stack: LedStack) -> NDArray[np.float64]:
        """Relative residual (see `residual`) of each image, its brightness fitted, (LED,).

        The stack may hold LEDs that the reconstruction has not seen.
        """
        return np.array([residual(*pair) for pair in self._fitted(stack)])

    def total_residual(self, stack: LedStack) -> float:
        """Relative residual of all images of a stack together, each image's brightness fitted."""
        modelled, measured = zip(*self._fitted(stack), strict=True)
        return residual(np.stack(modelled), np.stack(measured))

    def _fitted(self, stack: LedStack) -> list[tuple[FloatArray, FloatArray]]:
        return [
            (model, image * np.float32(_brightness(model, image)))
            for model, image in zip(self.model(stack), stack.amplitude, strict=True)
        ]


def residual(modelled: FloatArray, measured: FloatArray) -> float:
    """Relative residual of amplitude: sum of (modelled - measured)^2 over sum of measured^2."""
    return float(np.square(modelled - measured).sum() / np.square(measured).sum())


def _brightness(modelled: FloatArray, measured: FloatArray) -> float:
    """Factor that brings the measured amplitude to the modelled one (least squares)."""
    return float((modelled * measured).sum() / np.square(measured).sum())


def _pairs(bins: Bins) -> list[tuple[int, int]]:
    return [(int(y), int(x)) for y, x in bins]


def _exit_wave(
    spectrum: ComplexArray, pupil: ComplexArray, grid: _Grid, bins: tuple[int, int]
) -> ComplexArray:
    """Light on the guarded camera field, but for a checkerboard of signs that no image shows.

    Leaving out the shifts of the centred spectrum costs that checkerboard and saves two copies.
    """
    passed = np.zeros(grid.guarded, dtype=np.complex64)
    passed[grid.window(grid.guarded, (0, 0))] = pupil * spectrum[grid.window(grid.fine, bins)]
    wave: ComplexArray = scipy.fft.ifft2(passed, norm="ortho", overwrite_x=True)
    return wave


def _make_grid(stack: LedStack, settings: ApertureSettings) -> _Grid:
    height, width = (int(n) for n in stack.amplitude.shape[1:])
    guarded = (fast_size(height + 2 * settings.guard_px), fast_size(width + 2 * settings.guard_px))
    radius = stack.na / stack.wavelength_um * stack.pixel_um
    box = [min(math.ceil(radius * n + _PUPIL_RIM), n // 2 - 1) for n in guarded]
    reach = 2 * (np.abs(stack.directions).max() / stack.wavelength_um * stack.pixel_um + radius)
    margin = 2 * (_PUPIL_RIM + 2) / min(guarded)
    needed = math.ceil(reach + margin)
    if settings.upsampling is not None and settings.upsampling < needed:
        raise UserError(
            f"an upsampling of {settings.upsampling} cannot hold the light of the steepest LED",
            field="upsampling",
            hint=f"Give at least {needed}, or leave it out.",
        )
    return _Grid((height, width), guarded, settings.upsampling or needed, (box[0], box[1]))


class _Assembly:
    """Spectrum, pupil and brightnesses while they are put together."""

    def __init__(self, stack: LedStack, settings: ApertureSettings) -> None:
        bright = np.flatnonzero(stack.steepness <= _SURELY_BRIGHT * stack.na)
        if not bright.size:
            raise UserError(
                "no LED of the stack lies inside the objective's aperture",
                hint="Take the stack with a recipe that holds bright-field LEDs.",
            )
        self.grid = grid = _make_grid(stack, settings)
        self.bins = _pairs(grid.bins(stack))
        self.order = np.argsort(stack.steepness, kind="stable")
        self.scale = float(stack.amplitude[self.order[0]].mean())
        if not self.scale > 0:
            raise UserError("the image under the most central LED is black")
        self.measured = stack.amplitude / np.float32(self.scale)
        self.brightness = np.ones(len(stack))
        self.settings = settings
        self._bright = bright
        self.pupil = _start_pupil(stack, grid, settings.aberration_degree)
        self.spectrum = self._start_spectrum()

    def _start_spectrum(self) -> ComplexArray:
        """From the most central image, its known defocus undone."""
        wave = np.ones(self.grid.guarded, dtype=np.complex64)
        wave[self.grid.inside] = self.measured[self.order[0]]
        centred = np.fft.fftshift(scipy.fft.fft2(wave, norm="ortho"))
        spectrum = np.zeros(self.grid.fine, dtype=np.complex64)
        part = centred[self.grid.window(self.grid.guarded, (0, 0))]
        spectrum[self.grid.window(self.grid.fine, (0, 0))] = part * np.conj(self.pupil.values)
        return spectrum

    def round(self, step: float, pupil: bool, brightness: bool) -> float:
        """Go through all LEDs once; the relative residual met on the way."""
        wrong = light = 0.0
        for led in self.order:
            window = self.grid.window(self.grid.fine, self.bins[led])
            wave = _exit_wave(self.spectrum, self.pupil.values, self.grid, self.bins[led])
            seen = wave[self.grid.inside]
            modelled = np.abs(seen)
            if brightness:
                best = _brightness(modelled, self.measured[led])
                self.brightness[led] += 0.5 * (best - self.brightness[led])
            measured = self.measured[led] * np.float32(self.brightness[led])
            wrong += float(np.square(modelled - measured).sum())
            light += float(np.square(measured).sum())
            change = self._change(seen, measured / np.maximum(modelled, _TINY) - 1)
            if pupil:
                self.pupil.note(self.pupil.values * self.spectrum[window], change)
            self.spectrum[window] += np.float32(step) * np.conj(self.pupil.values) * change
        if brightness:
            self.brightness /= np.exp(np.log(self.brightness[self._bright]).mean())
        if pupil:
            self.pupil.step(0.5 * step)
        return wrong / light

    def _change(self, seen: ComplexArray, excess: FloatArray) -> ComplexArray:
        """Spectrum, in the pupil's window, of what the measured amplitude adds to the field."""
        correction = np.zeros(self.grid.guarded, dtype=np.complex64)
        correction[self.grid.inside] = seen * excess
        change = scipy.fft.fft2(correction, norm="ortho", overwrite_x=True)
        return np.asarray(change[self.grid.window(self.grid.guarded, (0, 0))])

    def field(self) -> ComplexArray:
        """The reconstructed field without its guard band; mean phase 0."""
        whole = scipy.fft.ifft2(np.fft.ifftshift(self.spectrum), norm="ortho")
        (y, x), up = self.grid.corner, self.grid.upsampling
        height, width = self.grid.field
        cut = whole[y * up : (y + height) * up, x * up : (x + width) * up]
        mean = cut.mean()
        turn = np.conj(mean) / max(abs(mean), _TINY)
        return np.ascontiguousarray(cut * (turn * up), np.complex64)


def _start_pupil(stack: LedStack, grid: _Grid, degree: int) -> PupilEstimate:
    """The ideal pupil with the known defocus, in its window of the spectrum."""
    imaging = Imaging(
        stack.na, 1.0, stack.pixel_um, stack.amplitude.shape[1:], (stack.wavelength_um,) * 3
    )
    steps = [1 / (n * stack.pixel_um) for n in grid.guarded]
    fy, fx = (np.arange(-half, half + 1) * step for half, step in zip(grid.box, steps, strict=True))
    start = ideal_pupil(fx, fy[:, None], imaging, stack.wavelength_um, stack.defocus_um)
    radius = stack.na / stack.wavelength_um
    return PupilEstimate(start, fy[:, None] / radius, fx / radius, degree)


def reconstruct(stack: LedStack, settings: ApertureSettings | None = None) -> SyntheticAperture:
    """Put the images of a stack together to one image of the synthetic aperture.

    Parameters
    ----------
    stack
        At least one LED inside the aperture; neighbouring LEDs closer than the pupil's radius.
    settings
        Defaults suit fields of up to some hundred pixels.

    Raises
    ------
    UserError
        No bright-field LED, a black central image, or an upsampling that is too small.
    """
    settings = settings or ApertureSettings()
    assembly = _Assembly(stack, settings)
    calm = settings.rounds * (1 - settings.settling)
    history = []
    for number in range(settings.rounds):
        left = (settings.rounds - number) / max(settings.rounds - calm, 1)
        history.append(
            assembly.round(
                step=min(1.0, max(left, 0.05)),
                # The first rounds place the sample; pupil and brightness follow.
                pupil=settings.recover_pupil and number >= 1,
                brightness=settings.recover_brightness and number >= 2,
            )
        )
    return SyntheticAperture(
        field=assembly.field(),
        pixel_um=stack.pixel_um / assembly.grid.upsampling,
        pupil=assembly.pupil.values,
        pupil_step=(
            1 / (assembly.grid.guarded[0] * stack.pixel_um),
            1 / (assembly.grid.guarded[1] * stack.pixel_um),
        ),
        aberrations=dict(
            zip(assembly.pupil.terms, assembly.pupil.coefficients.tolist(), strict=True)
        ),
        brightness=assembly.brightness,
        history=tuple(history),
        _spectrum=assembly.spectrum,
        _grid=assembly.grid,
        _scale=assembly.scale,
    )
