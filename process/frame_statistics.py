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
"""Images beyond the frames: how the bright-field image changes along x and y. An oblique LED
shades the cells along its direction, so they tell frames apart that are alike in all else."""

SLOPE_SIGMA_PX = 1.5


@dataclass(frozen=True)
class Residuals:
    """What each frame has that its prediction from the others has not; all of shape (frame,).

    `shift_px` is the shift that explains the residual best, `misfit` the residual's variance as a
    share of the frame's usual one, `gain` the frame's contrast over that of its prediction.
    """

    shift_px: Matrix
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
    def of(cls, stacks: Stacks) -> FrameStatistics:
        """From crops (sample, frame, rgb, y, x)."""
        count, frames = stacks.shape[:2]
        grey = np.empty((count, frames + SLOPES, *stacks.shape[3:]), dtype=np.float32)
        stacks.mean(axis=2, dtype=np.float32, out=grey[:, :frames])
        clipped = grey[:, :frames] >= CLIPPED
        for images in grey:
            smooth = cv2.GaussianBlur(images[0], (0, 0), SLOPE_SIGMA_PX)
            images[frames + 1], images[frames] = np.gradient(smooth)
        means = grey.mean(axis=(2, 3))
        grey -= means[:, :, None, None]
        flat = grey.reshape(*grey.shape[:2], -1)
        grams = flat @ np.swapaxes(flat, 1, 2)
        covariance = grams.sum(axis=0, dtype=np.float64) / (len(flat) * flat.shape[2])
        level = means[:, :frames].mean(axis=0, dtype=np.float64)
        return cls(grey, clipped, covariance, level)

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
        its diagonal. The shift is one step of Lucas and Kanade (1981) on the prediction.
        """
        frames = len(self.level)
        weights = (precision / np.diag(precision)[:, None])[:frames].astype(np.float32)
        everything = self.grey / scale.astype(np.float32)[:, None, None]
        units = everything[:, :frames]
        flat = everything.reshape(len(units), len(scale), -1)
        residual = (weights @ flat).reshape(units.shape)
        predicted = units - residual
        gain = np.einsum("sfyx,sfyx->f", units, predicted) / np.maximum(
            np.einsum("sfyx,sfyx->f", predicted, predicted), 1e-6
        )
        misfit = np.einsum("sfyx,sfyx->f", residual, residual) / (residual.size / frames)
        return Residuals(_shifts(residual, predicted, self.clipped), misfit, gain)


def _shifts(residual: Grey, predicted: Grey, clipped: NDArray[np.bool_]) -> Matrix:
    """Length of the shift of each frame against its prediction, (frame,)."""
    middle = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    inner = np.where(clipped[middle], np.float32(0), residual[middle])
    across = predicted[:, :, 1:-1, 2:] - predicted[:, :, 1:-1, :-2]
    down = predicted[:, :, 2:, 1:-1] - predicted[:, :, :-2, 1:-1]

    def sums(one: Grey, other: Grey) -> Matrix:
        return np.asarray(np.einsum("sfyx,sfyx->f", one, other), dtype=np.float64)

    # Differences over two pixels are twice the gradient.
    xx, xy, yy = sums(across, across) / 4, sums(across, down) / 4, sums(down, down) / 4
    x, y = sums(inner, across) / 2, sums(inner, down) / 2
    determinant = np.maximum(xx * yy - xy**2, 1e-9)
    length = np.hypot(yy * x - xy * y, xx * y - xy * x) / determinant
    return np.asarray(length, dtype=np.float64)


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
