"""Aberrations of a pupil as Zernike polynomials, and their estimation from images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

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


class PupilEstimate:
    """A pupil whose phase is improved while a sample is reconstructed.

    Parameters
    ----------
    ideal
        Complex pupil to start from, shape (fy, fx); zero outside the aperture.
    y, x
        Coordinates of its points in units of the aperture's radius; shapes that broadcast.
    degree
        Highest degree of the Zernike polynomials.
    """

    def __init__(
        self,
        ideal: NDArray[np.complex64],
        y: NDArray[np.floating],
        x: NDArray[np.floating],
        degree: int,
    ) -> None:
        self._ideal = ideal
        self._inside = np.abs(ideal) > 0
        rows, columns = np.broadcast_arrays(y, x)
        self.terms = zernike_terms(degree)
        self._basis = np.stack(
            [zernike(n, m, rows[self._inside], columns[self._inside]) for n, m in self.terms]
        ).astype(np.float32)
        self.coefficients = np.zeros(len(self.terms))
        """Aberration in radians, root mean square over the aperture, one per term."""
        self.values = ideal.copy()
        self._forget()

    def _forget(self) -> None:
        self._slope = np.zeros(len(self.terms))
        self._curvature = np.zeros((len(self.terms), len(self.terms)))

    def note(self, passed: NDArray[np.complex64], change: NDArray[np.complex64]) -> None:
        """Take up what one image says.

        Parameters
        ----------
        passed
            Spectrum behind the pupil as modelled, same shape as the pupil.
        change
            What the measured amplitude would change in it.
        """
        light, wanted = passed[self._inside], change[self._inside]
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
        phase = self.coefficients.astype(np.float32) @ self._basis
        self.values[self._inside] = self._ideal[self._inside] * np.exp(1j * phase)
        self._forget()
