"""Discs that find room among others: how cells come to lie side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def pack(wishes: FloatArray, taken: FloatArray, nearness: float, wanted: int) -> list[int]:
    """Of discs (x, y, radius) in order of rank, those that find room, at most `wanted`."""
    free: NDArray[np.bool_] = np.logical_not(_conflicts(wishes, taken, nearness).any(axis=1))
    among = _conflicts(wishes, wishes, nearness)
    kept: list[int] = []
    for number in np.flatnonzero(free):
        if len(kept) == wanted:
            break
        if free[number]:
            kept.append(int(number))
            free &= ~among[number]
    return kept


def _conflicts(a: FloatArray, b: FloatArray, nearness: float) -> NDArray[np.bool_]:
    square = (a[:, None, 0] - b[None, :, 0]) ** 2 + (a[:, None, 1] - b[None, :, 1]) ** 2
    result: NDArray[np.bool_] = square < (nearness * (a[:, None, 2] + b[None, :, 2])) ** 2
    return result
