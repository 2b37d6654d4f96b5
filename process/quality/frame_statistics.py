"""Sums over the pixels of a position's frames, from which their agreement is computed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Stacks = NDArray[np.uint8]
Grey = NDArray[np.float32]
Matrix = NDArray[np.float64]

CLIPPED = 250
"""Grey value from which a pixel says nothing about the frame's shift."""

SLOPES = 2
"""Two more images besides the frames: how the bright field changes along x and y. An oblique LED
shades the cells along its direction, so they tell frames apart that are alike in all else. How
strongly it does depends on focus and changes its sign there, alike for all LEDs: the two images
are as strong as the shading of the position."""

SLOPE_SIGMA_PX = 1.5


@dataclass(frozen=True)
class Residuals:
    """How each frame departs from its prediction by the others; both of shape (frame,).

    `misfit` is the residual's variance as a share of the frame's usual one, `gain` the frame's
    contrast over that of its prediction.
    """

    misfit: Matrix
    gain: Matrix


@dataclass(frozen=True)
class FrameStatistics:
    """The crops of one position as grey images, (sample, image, y, x), each with mean 0.

    The images are the frames, bright field first, and the two slopes of the bright field.
    `covariance` is (image, image), `level` the frames' mean grey values, (frame,); `clipped`
    marks the frames' saturated pixels.
    """

    grey: Grey
    clipped: NDArray[np.bool_]
    covariance: Matrix
    level: Matrix

    @classmethod
    def of(cls, stacks: Stacks, oblique: NDArray[np.bool_]) -> FrameStatistics:
        """From crops (sample, frame, rgb, y, x); `oblique` marks bright-field frames of one LED."""
        count, frames = stacks.shape[:2]
        grey = np.empty((count, frames + SLOPES, *stacks.shape[3:]), dtype=np.float32)
        clipped = np.empty((count, frames, *stacks.shape[3:]), dtype=np.bool_)
        products = np.zeros((frames + SLOPES,) * 2)
        levels = np.empty((count, frames))
        # One crop after the other: all its images stay in the processor's cache.
        for index, crop in enumerate(stacks):
            images, lit = grey[index], grey[index, :frames]
            np.add(crop[:, 0], crop[:, 1], out=lit, dtype=np.float32)
            lit += crop[:, 2]
            lit /= 3
            np.greater_equal(lit, CLIPPED, out=clipped[index])
            smooth = cv2.GaussianBlur(images[0], (0, 0), SLOPE_SIGMA_PX)
            images[frames + 1], images[frames] = np.gradient(smooth)
            flat = images.reshape(len(images), -1)
            means = flat.mean(axis=1)
            flat -= means[:, None]
            products += flat @ flat.T
            levels[index] = means[:frames]
        covariance = products / (count * stacks.shape[3] * stacks.shape[4])
        shading = _shading(covariance[:frames][oblique], covariance[frames:, frames:], frames)
        grey[:, frames:] *= shading
        covariance[frames:] *= shading
        covariance[:, frames:] *= shading
        return cls(grey, clipped, covariance, levels.mean(axis=0))

    def reversed(self) -> FrameStatistics:
        """The same position on the other side of focus: as if all LEDs shaded the other way."""
        grey = self.grey.copy()
        grey[:, len(self.level) :] *= -1
        return FrameStatistics(grey, self.clipped, self.reversed_covariance(), self.level)

    def reversed_covariance(self) -> Matrix:
        """The covariance of `reversed`."""
        sign = np.ones(len(self.covariance))
        sign[len(self.level) :] = -1
        return self.covariance * np.outer(sign, sign)

    def like(self, other: FrameStatistics) -> FrameStatistics:
        """The position as it is, or reversed if the other one is shaded the opposite way."""
        frames = len(self.level)
        agreement = np.vdot(self.covariance[:frames, frames:], other.covariance[:frames, frames:])
        return self if agreement >= 0 else self.reversed()

    def residuals(self, scale: Matrix, precision: Matrix) -> Residuals:
        """Compare every frame with its prediction from all the others.

        Parameters
        ----------
        scale
            Usual standard deviation of each image, (image,).
        precision
            Inverse of the images' correlation, (image, image): its rows are the weights.

        Notes
        -----
        The residual of the regression of one variable on all others is the precision's row over
        its diagonal. Variances of weighted sums follow from the covariance without the pixels.
        """
        frames = len(self.level)
        weights = _weights(precision, frames)
        correlation = self.covariance / np.outer(scale, scale)
        with_all = weights @ correlation
        own = np.diag(correlation)[:frames]
        shared = np.diag(with_all[:, :frames])
        misfit = np.einsum("fi,fi->f", with_all, weights)
        gain = (own - shared) / np.maximum(own - 2 * shared + misfit, 1e-9)
        return Residuals(misfit, gain)

    def shifts_px(self, scale: Matrix, precision: Matrix) -> Matrix:
        """Shift of each frame against its prediction from all the others, (frame, xy), pixels.

        One step of Lucas and Kanade (1981) on the prediction; parameters as for `residuals`.
        """
        frames = len(self.level)
        weights = (_weights(precision, frames) / scale).astype(np.float32)
        unit = (1 / scale[:frames, None]).astype(np.float32)
        sums = np.zeros((5, frames))
        for images, clipped in zip(self.grey, self.clipped, strict=True):
            flat = images.reshape(len(images), -1)
            residual = weights @ flat
            predicted = flat[:frames] * unit
            predicted -= residual
            sums += _gradient_sums(
                residual.reshape(clipped.shape), predicted.reshape(clipped.shape), clipped
            )
        xx, xy, yy, x, y = sums
        determinant = np.maximum(xx * yy - xy**2, 1e-9)
        shifts = np.stack([yy * x - xy * y, xx * y - xy * x], axis=1)
        return np.asarray(shifts / determinant[:, None])


def _shading(oblique: Matrix, slopes: Matrix, frames: int) -> float:
    """How much of the bright field's slopes the frames of oblique LEDs hold, the median of them."""
    if not len(oblique):
        return 1.0
    held = np.linalg.solve(slopes + 1e-9 * np.trace(slopes) * np.eye(SLOPES), oblique[:, frames:].T)
    return float(np.median(np.hypot(*held)))


def _weights(precision: Matrix, frames: int) -> Matrix:
    """Coefficients of all images in the residual of each frame, (frame, image)."""
    return np.asarray((precision / np.diag(precision)[:, None])[:frames])


def _gradient_sums(residual: Grey, predicted: Grey, clipped: NDArray[np.bool_]) -> Matrix:
    """Sums over a crop of gradient times gradient and gradient times residual, (5, frame).

    These are xx, xy, yy, x and y; images are (frame, y, x).
    """
    across = _flat(predicted[:, 1:-1, 2:] - predicted[:, 1:-1, :-2])
    down = _flat(predicted[:, 2:, 1:-1] - predicted[:, :-2, 1:-1])
    if clipped.any():
        residual[clipped] = 0
    inner = _flat(residual[:, 1:-1, 1:-1])
    pairs = ((across, across), (across, down), (down, down), (inner, across), (inner, down))
    sums = np.array([np.einsum("fp,fp->f", one, other) for one, other in pairs], np.float64)
    # Differences over two pixels are twice the gradient.
    sums[:3] /= 4
    sums[3:] /= 2
    return sums


def _flat(images: Grey) -> Grey:
    return np.ascontiguousarray(images).reshape(len(images), -1)


def exchange_gain(correlation: Matrix, precision: Matrix) -> Matrix:
    """How much better each pair of images would fit if exchanged, per pixel; (image, image).

    Twice the logarithm of the likelihood ratio of normal variables with that precision: the trace
    of precision times correlation before the exchange less that after it. Minus infinity on the
    diagonal.
    """
    product = precision @ correlation
    own, spread = np.diag(precision), np.diag(correlation)
    diagonal, energy = np.diag(product), own * spread
    # Terms of the trace in which one of the two frames takes part, the other frames' apart.
    kept = 2 * (diagonal[:, None] - energy[:, None] - precision * correlation)
    kept = kept + kept.T + energy[:, None] + energy[None, :]
    crossed = 2 * (product - own[:, None] * correlation - precision * spread[None, :])
    crossed = crossed + crossed.T + np.outer(own, spread) + np.outer(spread, own)
    gain = kept - crossed
    np.fill_diagonal(gain, -np.inf)
    return np.asarray(gain, dtype=np.float64)
