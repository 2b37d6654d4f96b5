"""Synthetic aperture: one sharp complex image from many single-LED images (Fourier ptychography).

Each LED shows the objective a different part of the sample's spectrum
(`plsctl.acquire.optics.field`); neighbouring parts overlap, and the overlap fixes the phases that
the camera loses. The parts are put together by going through the LEDs from the middle outwards,
again and again: the modelled
amplitude is replaced by the measured one, and the correction goes into the spectrum with the
weights of a Gauss-Newton step (Zheng, Horstmeyer and Yang 2013; Tian et al. 2014). The last rounds
take smaller steps, which averages over what the LEDs disagree about. After each round the pupil's
aberrations take a Gauss-Newton step of their own, as Zernike polynomials: a pupil that is free in
every bin (Ou, Zheng and Yang 2014) puts the brightness of each LED into the one bin where its
direct light passes, and misses the aberrations. Each LED's direction takes such steps too.

Real fields are cut out of a larger sample: the reconstruction has a guard band around the field in
which no image constrains it, so that light may enter from outside. LEDs differ in brightness, so
each image has one free factor; the bright-field LEDs keep a geometric mean of 1.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plsctl.acquire.arrays import ComplexArray, FloatArray
from plsctl.acquire.errors import UserError
from plsctl.process.aperture.aberrations import PlacedPupil, PupilEstimate
from plsctl.process.aperture.grid import ApertureGrid, Window, make_grid
from plsctl.process.aperture.image import (
    SyntheticAperture,
    brightness_factor,
    exit_wave,
    rounded_places,
)
from plsctl.process.aperture.led_stack import LedStack

Places: TypeAlias = NDArray[np.float64]

_TINY = np.float32(1e-7)
_SURELY_BRIGHT = 0.95
"""Share of the NA within which all of an LED's direct light enters the objective."""
_FARTHEST_STEP = 0.2
"""Bins that an LED's direction may move in one round."""


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
    recover_directions: bool = True


class _Assembly:
    """Spectrum, pupil, directions and brightnesses while they are put together."""

    def __init__(
        self, stack: LedStack, settings: ApertureSettings, start: SyntheticAperture | None
    ) -> None:
        bright = np.flatnonzero(stack.steepness <= _SURELY_BRIGHT * stack.na)
        if not bright.size:
            raise UserError(
                "no LED of the stack lies inside the objective's aperture.",
                hint="Take the stack with a recipe that holds bright-field LEDs.",
            )
        self.grid = make_grid(stack, settings.guard_px, settings.upsampling)
        # Images without any light say nothing: a dark exposure that was too short, a dead LED.
        lit = np.array([bool(image.any()) for image in stack.amplitude])
        ranked = np.argsort(stack.steepness, kind="stable")
        self.order = ranked[lit[ranked]]
        bright = bright[lit[bright]]
        if not bright.size:
            raise UserError("the images under the LEDs inside the aperture are black.")
        self.scale = float(stack.amplitude[self.order[0]].mean())
        self.measured = stack.amplitude / np.float32(self.scale)
        self.settings = settings
        self._bright = bright
        self._entering = stack.steepness <= stack.na
        self.pupil = _start_pupil(stack, self.grid, settings.aberration_degree)
        self.brightness = np.ones(len(stack))
        directions = stack.directions
        if start is not None:
            self.brightness, directions = start.brightness.copy(), start.directions
            self.pupil.begin_with(start.aberrations)
        rounded = rounded_places(self.grid, directions)
        self.whole = np.array([whole for whole, _ in rounded])
        self.offset = np.array([offset for _, offset in rounded])
        self.spectrum = self._start_spectrum()

    def _start_spectrum(self) -> ComplexArray:
        """From the most central image, its known defocus undone."""
        wave = np.ones(self.grid.guarded, dtype=np.complex64)
        wave[self.grid.inside] = self.measured[self.order[0]]
        centred = np.fft.fftshift(scipy.fft.fft2(wave, norm="ortho"))
        spectrum = np.zeros(self.grid.fine, dtype=np.complex64)
        part = centred[self.grid.pupil_middle]
        spectrum[self.grid.seen(np.zeros(2, np.int64))] = part * np.conj(self.pupil.at())
        return spectrum

    def round(self, step: float, pupil: bool, brightness: bool, directions: bool) -> float:
        """Go through all LEDs once; the relative residual met on the way."""
        wrong = light = 0.0
        for led in self.order:
            window = self.grid.seen(self.whole[led])
            placed = self.pupil.place(tuple(self.offset[led]), slopes=directions)
            passed = placed.values * self.spectrum[window]
            seen = exit_wave(passed, self.grid)[self.grid.inside]
            modelled = np.abs(seen)
            if brightness:
                self._brighten(led, modelled)
            measured = self.measured[led] * np.float32(self.brightness[led])
            wrong += float(np.square(modelled - measured).sum())
            light += float(np.square(measured).sum())
            change = self._change(seen, measured / np.maximum(modelled, _TINY) - 1)
            if pupil:
                self.pupil.note(passed, change)
            if directions:
                self._turn(led, placed, window, change, step)
            self.spectrum[window] += np.float32(step) * np.conj(placed.values) * change
        if brightness:
            self.brightness /= np.exp(np.log(self.brightness[self._bright]).mean())
        if pupil:
            self.pupil.step(0.5 * step)
        return wrong / light

    def _brighten(self, led: int, modelled: FloatArray) -> None:
        """Fit an LED's brightness: at once in dark field, which only its neighbours tie down."""
        best = brightness_factor(modelled, self.measured[led])
        share = 0.5 if self._entering[led] else 1.0
        self.brightness[led] += share * (best - self.brightness[led])

    def _turn(
        self, led: int, placed: PlacedPupil, window: Window, change: ComplexArray, step: float
    ) -> None:
        """A damped Gauss-Newton step of an LED's direction; `change` tells which way."""
        down, right = (slope * self.spectrum[window] for slope in placed.slopes)
        cross = float(np.vdot(down, right).real)
        normal = np.array(
            [[float(np.vdot(down, down).real), cross], [cross, float(np.vdot(right, right).real)]]
        )
        wanted = np.array([np.vdot(down, change).real, np.vdot(right, change).real])
        damped = normal + np.eye(2) * (1e-3 * np.trace(normal) + 1e-12)
        move = np.clip(step * np.linalg.solve(damped, wanted), -_FARTHEST_STEP, _FARTHEST_STEP)
        place = self.whole[led] + self.offset[led] + move
        whole = np.rint(place).astype(np.int64)
        if self.grid.reaches(whole):
            self.whole[led], self.offset[led] = whole, place - whole

    def _change(self, seen: ComplexArray, excess: FloatArray) -> ComplexArray:
        """Spectrum, in the pupil's window, of what the measured amplitude adds to the field."""
        correction = np.zeros(self.grid.guarded, dtype=np.complex64)
        correction[self.grid.inside] = seen * excess
        change = scipy.fft.fft2(correction, norm="ortho", overwrite_x=True)
        return np.asarray(change[self.grid.pupil_middle])

    def field(self) -> ComplexArray:
        """The reconstructed field without its guard band; mean phase 0."""
        whole = scipy.fft.ifft2(np.fft.ifftshift(self.spectrum), norm="ortho")
        (y, x), up = self.grid.corner, self.grid.upsampling
        height, width = self.grid.field
        cut = whole[y * up : (y + height) * up, x * up : (x + width) * up]
        mean = cut.mean()
        turn = np.conj(mean) / max(abs(mean), _TINY)
        return np.ascontiguousarray(cut * (turn * up), np.complex64)


def _start_pupil(stack: LedStack, grid: ApertureGrid, degree: int) -> PupilEstimate:
    """The pupil with the known defocus (as in `optics.field.pupil`), in its window."""
    y, x = (
        np.arange(-half, half + 1) / radius
        for half, radius in zip(grid.box, grid.pupil_bins, strict=True)
    )
    squared = (np.square(y)[:, None] + np.square(x)) * (stack.na / stack.wavelength_um) ** 2
    wave_number = 1 / stack.wavelength_um
    axial = np.sqrt(np.maximum(wave_number**2 - squared, 0)) - wave_number
    return PupilEstimate(2 * np.pi * stack.defocus_um * axial, y[:, None], x, degree)


def reconstruct(
    stack: LedStack,
    settings: ApertureSettings | None = None,
    start: SyntheticAperture | None = None,
) -> SyntheticAperture:
    """Put the images of a stack together to one image of the synthetic aperture.

    Parameters
    ----------
    stack
        At least one LED inside the aperture; neighbouring LEDs closer than the pupil's radius.
    settings
        Defaults suit fields of up to some hundred pixels.
    start
        Of another part of the same frames: its aberrations, directions and brightnesses are
        where this one begins.

    Raises
    ------
    UserError
        No bright-field LED, a black central image, or an upsampling that is too small.
    """
    settings = settings or ApertureSettings()
    assembly = _Assembly(stack, settings, start)
    calm = settings.rounds * (1 - settings.settling)
    history = []
    for number in range(settings.rounds):
        left = (settings.rounds - number) / max(settings.rounds - calm, 1)
        history.append(
            assembly.round(
                step=min(1.0, max(left, 0.05)),
                # The first rounds place the sample; what blurs the images follows.
                pupil=settings.recover_pupil and number >= 1,
                brightness=settings.recover_brightness and number >= 2,
                directions=settings.recover_directions and number >= 3,
            )
        )
    estimate = assembly.pupil
    period_y, period_x = assembly.grid.period_um
    return SyntheticAperture(
        field=assembly.field(),
        pixel_um=stack.pixel_um / assembly.grid.upsampling,
        pupil=estimate.at(),
        pupil_step=(float(1 / period_y), float(1 / period_x)),
        aberrations=dict(zip(estimate.terms, estimate.coefficients.tolist(), strict=True)),
        brightness=assembly.brightness,
        directions=assembly.grid.directions(assembly.whole + assembly.offset),
        history=tuple(history),
        scale=assembly.scale,
        _spectrum=assembly.spectrum,
        _grid=assembly.grid,
        _pupil=estimate,
    )
