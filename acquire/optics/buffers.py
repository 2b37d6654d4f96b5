"""From a part of a spectrum to an intensity image, in reused buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import ComplexArray, FloatArray
from plsctl.acquire.optics.imaging import Imaging, ObjectGrid

FFT: TypeAlias = Callable[[ComplexArray], ComplexArray]

CHUNK = 1 << 17
"""Complex numbers worked on at a time: 1 MiB, which stays in a core's cache."""


def numpy_inverse_fft(rows: ComplexArray) -> ComplexArray:
    """Unnormalised inverse FFT along the last axis, in place and in single precision."""
    np.fft.ifft(rows, axis=-1, norm="forward", out=_as_stubs_want(rows))
    return rows


def numpy_forward_fft(rows: ComplexArray) -> ComplexArray:
    """FFT along the last axis divided by its length, in place and in single precision."""
    np.fft.fft(rows, axis=-1, norm="forward", out=_as_stubs_want(rows))
    return rows


def _as_stubs_want(rows: ComplexArray) -> NDArray[np.complex128]:
    """NumPy's type stubs know double precision only; its FFTs work in the array's own."""
    return cast("NDArray[np.complex128]", rows)


class ImageBuffers:
    """Memory for one image at a time, kept because fresh memory costs as much as a transform."""

    def __init__(self, imaging: Imaging, grid: ObjectGrid, inverse_fft: FFT) -> None:
        self._inverse_fft = inverse_fft
        self._rows, self._columns = imaging.shape
        self._padded_rows, self._padded_columns = grid.camera_shape
        self._left, self._top = (-corner for corner in grid.corner_px)
        widest = max(*grid.camera_shape, CHUNK)
        self._work = np.empty(widest, dtype=np.complex64)
        reach = math.floor(imaging.na / min(imaging.wavelengths_um) * grid.period_um[1])
        self._lines = np.empty(self._rows * (2 * reach + 1), dtype=np.complex64)

    def intensity(self, band: ComplexArray, stop: ComplexArray, out: FloatArray) -> None:
        """Squared modulus of the inverse FFT of band x pupil, on the camera's pixels.

        Band and pupil have shape (x, y). The band starts at bin 0 instead of lying around it:
        that only multiplies the field by factors of modulus 1. Transforming along y first
        leaves only the camera's rows for x.
        """
        width, height = band.shape
        lines = self._lines[: self._rows * width].reshape(self._rows, width)
        for part in chunks(width, self._padded_rows):
            work = self._buffer(part, self._padded_rows)
            np.multiply(band[part], stop[part], out=work[:, :height])
            work[:, height:] = 0
            field = self._inverse_fft(work)
            lines[:, part] = field[:, self._top : self._top + self._rows].T
        for part in chunks(self._rows, self._padded_columns):
            work = self._buffer(part, self._padded_columns)
            work[:, :width] = lines[part]
            work[:, width:] = 0
            field = self._inverse_fft(work)[:, self._left : self._left + self._columns]
            squares = field.view(np.float32)
            np.square(squares, out=squares)
            np.add(squares[:, ::2], squares[:, 1::2], out=out[part])

    def _buffer(self, part: slice, length: int) -> ComplexArray:
        rows = part.stop - part.start
        return self._work[: rows * length].reshape(rows, length)


def chunks(rows: int, length: int) -> Iterator[slice]:
    """Rows of so many complex numbers in parts that stay in the cache."""
    step = max(1, CHUNK // length)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
