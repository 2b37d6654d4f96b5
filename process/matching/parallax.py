"""How far the sample is from focus, from images under two LEDs that light it from opposite sides.

Out of focus, the content of an image moves along the light's direction: under two LEDs it lies in
two places, and how far these are apart tells the height. Where they can lie is a line of shifts,
one for each height; the height is sought along it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from plsctl.acquire.arrays import FloatArray, Image

_WORKING_PX = 800  # images are compared with their longer side shrunk to this
_EDGE_SHARE = 0.1  # of each side fades to nothing: what leaves the image there is not content
_UNEVEN_SHARE = 1 / 16  # of the longer side: wider detail is uneven light
_STEP_PX = 0.25
_BESIDE_PX = 16  # shifts so far beside the line are looked at: a true one lies on it
_ON_LINE_PX, _ON_LINE_SHARE = 3.0, 0.08
_LEAST_LENGTH_PX = 4.0


@dataclass(frozen=True)
class CorrelationParallax:
    """Correlates two images, and looks for the greatest value along the line of shifts.

    Parameters
    ----------
    least_score
        Correlation below which nothing is told. Noise stays below 0.02; cells reach 0.3 at 50 um
        out of focus (20x, NA 0.4).
    most_second_ratio
        Nothing is told where another height fits nearly as well.
    """

    least_score: float = 0.2
    most_second_ratio: float = 0.85

    def height(
        self,
        first: Image,
        second: Image,
        start_px: tuple[float, float],
        per_um_px: tuple[float, float],
        range_um: tuple[float, float],
    ) -> float | None:
        """The height at which the images fit best; None where that cannot be told.

        Parameters
        ----------
        first, second
            Images of one size, (y, x, rgb) or (y, x).
        start_px, per_um_px
            At height z the content of `first` lies start + z per_um from where `second` shows it,
            pixels (x, y).
        range_um
            Heights between which it is sought.
        """
        shrink = max(1.0, max(first.shape[:2]) / _WORKING_PX)
        correlation = _correlation(*(_detail(image, shrink) for image in (first, second)))
        if correlation is None:
            return None
        start, along = np.array(start_px) / shrink, np.array(per_um_px) / shrink
        slope = float(np.hypot(*along))
        if slope * (range_um[1] - range_um[0]) < _LEAST_LENGTH_PX:
            return None
        heights = np.arange(range_um[0], range_um[1] + _STEP_PX / slope, _STEP_PX / slope)
        beside = np.arange(-_BESIDE_PX, _BESIDE_PX + 1)
        normal = np.array([-along[1], along[0]]) / slope
        places = start + heights[:, None, None] * along + beside[None, :, None] * normal
        values = _at(correlation, places)
        best, off = (int(i) for i in np.unravel_index(int(values.argmax()), values.shape))
        shift_px = float(np.hypot(*(start + heights[best] * along)))
        if abs(beside[off]) > _ON_LINE_PX + _ON_LINE_SHARE * shift_px:
            return None
        line = values[:, off]
        if line[best] < self.least_score or not 0 < best < len(line) - 1:
            return None
        if _second(line, best) > self.most_second_ratio * line[best]:
            return None
        before, peak, after = (float(v) for v in line[best - 1 : best + 2])
        bend = before - 2 * peak + after
        return float(heights[best] + 0.5 * (before - after) / bend * (_STEP_PX / slope))


def _detail(image: Image, shrink: float) -> FloatArray:
    """What an image shows beside uneven light, relative to the light; zero at the edges."""
    grey = image if image.ndim == 2 else image.mean(axis=2, dtype=np.float32)
    height, width = grey.shape
    size = (round(width / shrink), round(height / shrink))
    small = cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    light = cv2.GaussianBlur(small, (0, 0), _UNEVEN_SHARE * max(size))
    relative = small / np.maximum(light, 1.0) - 1
    weight = np.outer(*(_fade(side) for side in relative.shape))
    return np.asarray((relative - np.average(relative, weights=weight)) * weight, np.float32)


def _fade(side: int) -> FloatArray:
    position = (np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / (_EDGE_SHARE * side)
    return np.asarray(0.5 - 0.5 * np.cos(math.pi * np.minimum(position, 1)), np.float32)


def _correlation(first: FloatArray, second: FloatArray) -> NDArray[np.float32] | None:
    """Correlation for every shift of `first` against `second`, from -1 to 1; None of nothing."""
    power = float((first**2).sum()) * float((second**2).sum())
    if not power > 0:
        return None
    spectrum = fft.rfft2(first) * np.conj(fft.rfft2(second))
    return np.asarray(fft.irfft2(spectrum, first.shape) / math.sqrt(power), np.float32)


def _at(correlation: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values between the pixels, places (..., 2) in (x, y); shifts beyond half a side wrap."""
    rows, columns = correlation.shape
    where = [places[..., 1] % rows, places[..., 0] % columns]
    found: NDArray[np.float64] = ndimage.map_coordinates(
        correlation, where, np.float64, order=3, mode="grid-wrap"
    )
    return found


def _second(line: NDArray[np.float64], best: int) -> float:
    """The greatest other maximum of the line; those on the slopes of the best are lower ones."""
    inner = (line[1:-1] >= line[:-2]) & (line[1:-1] > line[2:])
    others = [index for index in np.flatnonzero(inner) + 1 if index != best]
    return max((float(line[index]) for index in others), default=0.0)
