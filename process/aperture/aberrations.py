"""Aberrations of a pupil as Zernike polynomials, and their estimation from images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import ComplexArray
from plsctl.acquire.errors import UserError


def zernike_terms(degree: int) -> tuple[tuple[int, int], ...]:
    """Radial degree n and azimuthal frequency m of all terms from n = 2 (no piston, no tilt)."""
    if degree < 2:
        raise UserError(f"aberrations begin at degree 2, not {degree}.")
    return tuple((n, m) for n in range(2, degree + 1) for m in range(-n, n + 1, 2))


def zernike(
    n: int, m: int, y: NDArray[np.floating], x: NDArray[np.floating]
) -> NDArray[np.float64]:
    """One Zernike polynomial with a root mean square of 1 over the unit disc (Noll's norm).

    Parameters
    ----------
    n, m
        Radial degree and azimuthal frequency, n - |m| even; m < 0 for the sines.
    y, x
        Coordinates in units of the disc's radius; any shapes that broadcast. The polynomial is
        continued beyond the disc.
    """
    if abs(m) > n or (n - abs(m)) % 2:
        raise UserError(f"there is no Zernike polynomial n = {n}, m = {m}.")
    radius = np.hypot(y, x)
    radial = np.zeros_like(radius)
    for k in range((n - abs(m)) // 2 + 1):
        share = math.factorial(n - k) / (
            math.factorial(k)
            * math.factorial((n + abs(m)) // 2 - k)
            * math.factorial((n - abs(m)) // 2 - k)
        )
        radial += (-1) ** k * share * radius ** (n - 2 * k)
    if m == 0:
        return np.asarray(math.sqrt(n + 1) * radial)
    angle = abs(m) * np.arctan2(y, x)
    turning = np.cos(angle) if m > 0 else np.sin(angle)
    return np.asarray(math.sqrt(2 * (n + 1)) * radial * turning)


@dataclass(frozen=True)
class PlacedPupil:
    """The pupil as one LED's window shows it, shape (fy, fx).

    `values` is complex; `slopes` how they change with the LED's offset (y, x), per bin.
    """

    values: ComplexArray
    slopes: tuple[ComplexArray, ComplexArray]


class PupilEstimate:
    """A pupil whose phase is improved while a sample is reconstructed.

    Its edge falls over one bin, so that an LED's direction may lie between bins: the pupil then
    moves by a fraction of a bin against its window.

    Parameters
    ----------
    phase
        To start from (a known defocus), radians, shape (fy, fx).
    y, x
        Coordinates of its points in units of the aperture's radius, shapes (fy, 1) and (fx,).
    degree
        Highest degree of the Zernike polynomials.
    """

    def __init__(
        self,
        phase: NDArray[np.floating],
        y: NDArray[np.floating],
        x: NDArray[np.floating],
        degree: int,
    ) -> None:
        self._start = phase.astype(np.float32)
        self._y, self._x = y.astype(np.float32), x.astype(np.float32)
        self._step = (float(self._y[1, 0] - self._y[0, 0]), float(self._x[1] - self._x[0]))
        self._softness = (self._step[0] + self._step[1]) / 2
        rows, columns = np.broadcast_arrays(y, x)
        # Differences of the phase are taken up to the soft edge of a moved pupil.
        self._near = np.hypot(rows, columns) <= 1 + 3 * self._softness
        self.terms = zernike_terms(degree)
        self._basis = np.stack(
            [zernike(n, m, rows[self._near], columns[self._near]) for n, m in self.terms]
        ).astype(np.float32)
        self.coefficients = np.zeros(len(self.terms))
        """Aberration in radians, root mean square over the aperture, one per term."""
        self._forget()
        self._shape()

    def begin_with(self, aberrations: Mapping[tuple[int, int], float]) -> None:
        """Take aberrations that were found before; terms not named are 0."""
        self.coefficients = np.array([aberrations.get(term, 0.0) for term in self.terms])
        self._shape()

    def _forget(self) -> None:
        self._slope = np.zeros(len(self.terms))
        self._curvature = np.zeros((len(self.terms), len(self.terms)))

    def _shape(self) -> None:
        self._phase = self._start.copy()
        self._phase[self._near] += self.coefficients.astype(np.float32) @ self._basis
        self._tilt = np.gradient(self._phase)

    def at(self, offset: tuple[float, float] = (0.0, 0.0)) -> ComplexArray:
        """The pupil moved by an offset (y, x) in bins, at most half a bin each."""
        return self.place(offset, slopes=False).values

    def place(self, offset: tuple[float, float], slopes: bool = True) -> PlacedPupil:
        """The pupil moved by an offset (y, x) in bins, and on request how it changes with it."""
        down, right = np.float32(offset[0]), np.float32(offset[1])
        y, x = self._y - down * self._step[0], self._x - right * self._step[1]
        radius = np.hypot(y, x)
        ramp = (1 - radius) / np.float32(self._softness) + np.float32(0.5)
        edge = np.clip(ramp, 0, 1)
        turned = np.exp(1j * (self._phase - down * self._tilt[0] - right * self._tilt[1]))
        values = np.asarray(edge * turned, np.complex64)
        if not slopes:
            return PlacedPupil(values, (values, values))
        falling = (ramp > 0) & (ramp < 1)
        fall = np.where(falling, turned, 0) / (
            np.maximum(radius, np.float32(1e-6)) * np.float32(self._softness)
        )
        along = [
            np.asarray(fall * (part * step) - 1j * tilt * values, np.complex64)
            for part, step, tilt in zip((y, x), self._step, self._tilt, strict=True)
        ]
        return PlacedPupil(values, (along[0], along[1]))

    def note(self, passed: ComplexArray, change: ComplexArray) -> None:
        """Accumulate the information of one image.

        Parameters
        ----------
        passed
            Spectrum behind the pupil as modelled, same shape as the pupil.
        change
            What the measured amplitude would change in it.
        """
        light, wanted = passed[self._near], change[self._near]
        weight = np.square(np.abs(light))
        total = float(weight.sum())
        if total == 0:
            return
        # No image shows the phase common to all of its light.
        mean = self._basis @ weight / total
        self._slope += self._basis @ (np.conj(1j * light) * wanted).real
        self._curvature += (self._basis * weight) @ self._basis.T - total * np.outer(mean, mean)

    def step(self, share: float) -> None:
        """Improve the aberrations by a share of the Gauss-Newton step, and forget the images.

        Amplitudes show half of a change of phase on average, hence the factor 2.
        """
        ridge = 1e-3 * np.trace(self._curvature) / len(self.terms) + 1e-20
        damped = self._curvature + ridge * np.eye(len(self.terms))
        self.coefficients += 2 * share * np.linalg.solve(damped, self._slope)
        self._shape()
        self._forget()
