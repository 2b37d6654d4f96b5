"""The faster FFTs that the simulator hands to the forward model."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray


def fast_inverse_fft(rows: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Unnormalised inverse FFT along the last axis, in place.

    SciPy transforms several rows at a time with vector instructions, NumPy one after the other;
    `plsctl.acquire.optics.field` does without SciPy and takes this as an argument.
    """
    result: NDArray[np.complex64] = scipy.fft.ifft(rows, norm="forward", overwrite_x=True)
    return result


def fast_forward_fft(rows: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """FFT along the last axis divided by its length, in place."""
    result: NDArray[np.complex64] = scipy.fft.fft(rows, norm="forward", overwrite_x=True)
    return result
