"""The grid of a synthetic aperture: guarded field, spectrum, and where LEDs look into it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.optics.imaging import fast_size
from plsctl.process.aperture.led_stack import LedStack

Size: TypeAlias = tuple[int, int]
Window: TypeAlias = tuple[slice, slice]

PUPIL_RIM = 2.5
"""Bins of room around the pupil in its window: half a bin of soft edge, half a bin of rounding."""


@dataclass(frozen=True)
class ApertureGrid:
    """The guarded field and its spectrum; sizes in pixels and bins, order (y, x).

    `field` lies in the middle of `guarded`; `box` is half the size of the window of the spectrum
    that holds the pupil.
    """

    field: Size
    guarded: Size
    upsampling: int
    box: Size
    pixel_um: float
    wavelength_um: float
    na: float

    @property
    def corner(self) -> Size:
        """First pixel of the field in the guarded field."""
        return (self.guarded[0] - self.field[0]) // 2, (self.guarded[1] - self.field[1]) // 2

    @property
    def inside(self) -> Window:
        """The field in the guarded field."""
        y, x = self.corner
        return slice(y, y + self.field[0]), slice(x, x + self.field[1])

    @property
    def fine(self) -> Size:
        """Size of the whole spectrum."""
        return self.guarded[0] * self.upsampling, self.guarded[1] * self.upsampling

    @property
    def period_um(self) -> NDArray[np.float64]:
        """Of the guarded field, (y, x): a bin of the spectrum is its reciprocal."""
        return np.array(self.guarded) * self.pixel_um

    @property
    def pupil_bins(self) -> NDArray[np.float64]:
        """The pupil's radius in bins, (y, x)."""
        return np.asarray(self.na / self.wavelength_um * self.period_um)

    @property
    def pupil_middle(self) -> Window:
        """The pupil's window in the centred spectrum of the guarded field."""
        return self._window(self.guarded, (0, 0))

    def seen(self, bins: NDArray[np.integer]) -> Window:
        """What the pupil sees of the whole, centred spectrum, moved by whole bins (y, x).

        Raises
        ------
        UserError
            The window reaches beyond the spectrum.
        """
        if not self.reaches(bins):
            raise UserError("an LED is too steep for the spectrum that was reconstructed.")
        return self._window(self.fine, (int(bins[0]), int(bins[1])))

    def reaches(self, bins: NDArray[np.integer]) -> bool:
        """Whether the spectrum holds all of the pupil's window at that place."""
        window = self._window(self.fine, (int(bins[0]), int(bins[1])))
        return all(
            part.start >= 0 and part.stop <= size
            for part, size in zip(window, self.fine, strict=True)
        )

    def _window(self, size: Size, bins: Size) -> Window:
        middle_y, middle_x = size[0] // 2 + bins[0], size[1] // 2 + bins[1]
        return (
            slice(middle_y - self.box[0], middle_y + self.box[0] + 1),
            slice(middle_x - self.box[1], middle_x + self.box[1] + 1),
        )

    def places(self, directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Middle of each LED's window in bins, (LED, 2) in order (y, x): at -s / wavelength."""
        return np.asarray(-directions[:, ::-1] / self.wavelength_um * self.period_um)

    def directions(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `places`: direction cosines (LED, 2) in order (x, y)."""
        return np.asarray((-places * self.wavelength_um / self.period_um)[:, ::-1])


def make_grid(stack: LedStack, guard_px: int, upsampling: int | None) -> ApertureGrid:
    """The grid for a stack; without an upsampling, the least that holds the steepest LED.

    Raises
    ------
    UserError
        The upsampling cannot hold it.
    """
    height, width = (int(n) for n in stack.amplitude.shape[1:])
    guarded = (fast_size(height + 2 * guard_px), fast_size(width + 2 * guard_px))
    radius = stack.na / stack.wavelength_um * stack.pixel_um
    box = [min(math.ceil(radius * n + PUPIL_RIM), n // 2 - 1) for n in guarded]
    reach = 2 * (np.abs(stack.directions).max() / stack.wavelength_um * stack.pixel_um + radius)
    margin = 2 * (PUPIL_RIM + 2) / min(guarded)
    needed = math.ceil(reach + margin)
    if upsampling is not None and upsampling < needed:
        raise UserError(
            f"an upsampling of {upsampling} cannot hold the light of the steepest LED.",
            field="upsampling",
            hint=f"Give at least {needed}, or leave it out.",
        )
    return ApertureGrid(
        (height, width),
        guarded,
        upsampling or needed,
        (box[0], box[1]),
        stack.pixel_um,
        stack.wavelength_um,
        stack.na,
    )
