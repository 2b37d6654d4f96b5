"""The empty glass of a bright-field image: what light reaches the camera where nothing absorbs.

A crop in a crowded field may show no glass at all. The whole field mostly does, somewhere: a smooth
surface through its empty background gives the level at every place, vignetting included.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray, Image
from plsctl.acquire.devices.calibration_kinds import FlatSurface
from plsctl.process.segmentation.background import fit_background

BACKGROUND_PERCENTILE = 90
"""Of a crop's grey values: its glass, where it shows any."""


class FieldGlass:
    """Level of the glass all over a bright-field image, (y, x, rgb).

    `flat` is the calibrated surface of the pass (`PassAttributes.flat_field`): with it the image
    tells the level alone, and a crowded one tells that as well as any.
    """

    def __init__(self, image: Image, flat: str | None = None) -> None:
        self._surface = fit_background(image)
        self._size = image.shape[:2]
        if flat is not None:
            height, width = self._surface.shape[:2]
            shape = cv2.resize(
                FlatSurface.unpack(flat), (width, height), interpolation=cv2.INTER_LINEAR
            )
            self._surface = shape * np.median(self._surface / shape, axis=(0, 1))

    def at(self, places: NDArray[np.float64]) -> FloatArray:
        """Grey values (place, rgb) that glass has at pixels of the image, (place, x y)."""
        counts = np.array(self._surface.shape[:2])
        nodes = (places[:, ::-1] + 0.5) / self._size * counts
        rows, columns = np.clip(nodes.astype(np.int64), 0, counts - 1).T
        return np.asarray(self._surface[rows, columns], dtype=np.float32)


def crop_glass(image: Image, black_level: float) -> FloatArray:
    """Light (rgb) above black of the brightest parts of a crop, (y, x, rgb)."""
    level = np.percentile(image[::2, ::2].reshape(-1, 3), BACKGROUND_PERCENTILE, axis=0)
    return np.asarray(level - black_level, dtype=np.float32)


def glass_level(image: Image, black_level: float, field: NDArray[np.float32] | None) -> FloatArray:
    """Light (rgb) above black of the glass around a crop.

    Parameters
    ----------
    field
        The level of the whole image's glass there, grey values (rgb), where it is known. It counts
        where the crop shows nothing as bright.
    """
    own = crop_glass(image, black_level)
    return own if field is None else np.maximum(own, field - np.float32(black_level))
