"""The circles that the pupil draws into the spectrum of a bright-field image.

An LED inside the aperture brings the spectrum of the sample into the pupil around its own
frequency s / wavelength, and the camera's intensity has that disc and its mirror image: two circles
of radius NA / wavelength about +s and -s (Eckert, Phillips and Waller 2018). Light that was
scattered twice fills a larger disc smoothly, so what tells the circles is their edge: the
step of the logarithm of the power across it, outside the other circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

from plsctl.acquire.arrays import FloatArray
from plsctl.process.calibration.views import ArrayOptics, LedViews

POINTS = 256
"""Points on a circle."""

Sharpness = Literal["fine", "middle", "blurred"]

SMOOTH_BINS: Mapping[Sharpness, float] = {"fine": 1.2, "middle": 4.0, "blurred": 10.0}
"""Over how many bins of the spectrum the step is taken."""

FINE_STEPS = 8
"""Places tried each way around where a circle is expected."""


@dataclass(frozen=True)
class _Slope:
    """Slope of the log power along x and y, (y, x) centred, and the size of a bin there."""

    x: FloatArray
    y: FloatArray
    bins_um: tuple[float, float]


class CircleEdges:
    """Spectra of one LED's images in all colours, asked for circles.

    Parameters
    ----------
    images
        Of several fields, each (y, x, colour), without black level.
    """

    def __init__(self, images: Sequence[FloatArray], optics: ArrayOptics) -> None:
        self._optics = optics
        self._powers = [
            log_power([image[..., colour] for image in images])
            for colour in range(len(optics.wavelengths_um))
        ]
        self._slopes: dict[Sharpness, list[_Slope]] = {}

    def step(
        self,
        directions: NDArray[np.float64],
        sharpness: Sharpness = "middle",
        scale: float = 1.0,
    ) -> NDArray[np.float64]:
        """Mean step across the circles of each of some directions, summed over colours.

        Parameters
        ----------
        directions
            Direction cosines in image axes, shape (n, 2).
        sharpness
            Over what distance the step is taken.
        scale
            Radius of the circles as a share of NA / wavelength.
        """
        total = np.zeros(len(directions))
        if sharpness not in self._slopes:
            smooth, pixel_um = SMOOTH_BINS[sharpness], self._optics.pixel_um
            self._slopes[sharpness] = [_slope(power, smooth, pixel_um) for power in self._powers]
        slopes, exact = self._slopes[sharpness], sharpness == "fine"
        for slope, wavelength in zip(slopes, self._optics.wavelengths_um, strict=True):
            radius = scale * self._optics.na / wavelength
            total += _step(slope, directions / wavelength, radius, exact)
        return total


@dataclass(frozen=True)
class FoundCircle:
    """Where an LED's circles are: direction cosines in image axes, and how clearly.

    `clearness` is the step across the circle in standard deviations of its neighbourhood.
    """

    direction: NDArray[np.float64]
    clearness: float


def find_circle(edges: CircleEdges, near: NDArray[np.float64], reach: float) -> FoundCircle:
    """The clearest circle around a direction; `reach` in direction cosines each way."""
    along = np.linspace(-reach, reach, 2 * FINE_STEPS + 1)
    y, x = np.meshgrid(along, along, indexing="ij")
    places = near + np.stack([x.ravel(), y.ravel()], axis=1)
    heights = edges.step(places, "fine")
    best = int(np.argmax(heights))
    middle = float(np.median(heights))
    spread = 1.48 * float(np.median(np.abs(heights - middle))) + 1e-9
    step = float(along[1] - along[0])
    found = minimize(
        lambda place: -float(edges.step(place[None], "fine")[0]), places[best],
        method="Nelder-Mead",
        options={
            "initial_simplex": places[best] + np.array([(0, 0), (step, 0), (0, step)]) / 2,
            "xatol": step / 100, "fatol": 1e-6,
        },
    )  # fmt: skip
    return FoundCircle(np.asarray(found.x), (heights[best] - middle) / spread)


def circle_edges(views: Sequence[LedViews], led: int, optics: ArrayOptics) -> CircleEdges:
    """The spectra of one LED, over all fields."""
    images = [view.images[led].astype(np.float32) - np.float32(view.black_level) for view in views]
    return CircleEdges(images, optics)


def log_power(images: Sequence[FloatArray]) -> FloatArray:
    """Logarithm of the mean power spectrum of images of one size, zero in the middle."""
    height, width = images[0].shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    total = np.zeros((height, width), np.float32)
    for image in images:
        mean = float(image.mean())
        contrast = ((image - mean) / max(mean, 1e-3) * window).astype(np.float32)
        total += np.square(np.abs(scipy.fft.fft2(contrast)))
    return np.asarray(np.fft.fftshift(np.log(total + np.float32(1e-9))), np.float32)


def _slope(power: FloatArray, smooth: float, pixel_um: float) -> _Slope:
    height, width = power.shape
    # As wide along x as along y, in cycles per micrometre.
    longest = max(height, width)
    smoothed = gaussian_filter(power, (smooth * height / longest, smooth * width / longest))
    bins = (1 / (height * pixel_um), 1 / (width * pixel_um))
    along_y, along_x = np.gradient(smoothed, *bins)
    return _Slope(along_x, along_y, bins)


def _step(
    slope: _Slope, centres: NDArray[np.float64], radius: float, exact: bool
) -> NDArray[np.float64]:
    """Mean slope inwards on the part of circles outside their mirror images, (n,).

    Slopes are taken over one radius, so that they compare between objectives.
    """
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    away_x, away_y = np.cos(angles), np.sin(angles)
    x = centres[:, :1] + radius * away_x
    y = centres[:, 1:] + radius * away_y
    outside = np.hypot(x + centres[:, :1], y + centres[:, 1:]) > 1.01 * radius
    height, width = slope.x.shape
    column, row = x / slope.bins_um[1] + width // 2, y / slope.bins_um[0] + height // 2
    seen = outside & (column > 1) & (column < width - 2) & (row > 1) & (row < height - 2)
    if exact:
        along_x = map_coordinates(slope.x, [row, column], order=1, mode="nearest")
        along_y = map_coordinates(slope.y, [row, column], order=1, mode="nearest")
    else:
        columns = np.clip(np.rint(column).astype(np.int32), 0, width - 1)
        rows = np.clip(np.rint(row).astype(np.int32), 0, height - 1)
        along_x, along_y = slope.x[rows, columns], slope.y[rows, columns]
    inwards = -(along_x * away_x + along_y * away_y) * radius
    count = seen.sum(axis=1)
    total = np.where(seen, inwards, 0).sum(axis=1)
    return np.asarray(np.where(count > POINTS // 10, total / np.maximum(count, 1), 0.0))
