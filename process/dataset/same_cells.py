"""The same cells in two data sets, told by their images: other names or places do not hide them.

Crops that are equal byte for byte are one image. A cell that was scanned twice looks alike and no
more, and so do some cells that have nothing in common; but the cells of one slide keep their
distances. So pairs that look alike count where one motion of the slide brings several of them onto
each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Crops = NDArray[np.generic]
Floats = NDArray[np.float32]
Places = NDArray[np.float64]

ALIKE = 0.6
"""Least correlation of small, blurred crops, and then of the details of crops laid onto each other.
Of a cell and itself, 3 px aside, noisy and 20 % darker, 99 % have 0.78 and 0.71 or more."""

CANDIDATES = 3
"""Cells of the other data set that each is compared with, those most alike."""

SAME_PLACE_UM = 5.0
LEAST_PAIRS, LEAST_SHARE = 4, 0.002
"""From so many pairs on that one motion brings onto each other, and from such a share of those that
look alike, it is one slide."""

_SIDE, _SHRUNK, _REACH = 64, 16, 6
_TRIALS = 4000
_BLOCK = 2048


@dataclass(frozen=True)
class Looks:
    """How the cells of a data set look.

    `hashes` are those of whole crops, empty for crops of one grey; `shrunk` (cell, 256) are small
    and blurred, of mean 0 and norm 1; `details` (cell, 64, 64) is the green channel without its
    coarse light, in 8 bits.
    """

    hashes: list[bytes]
    shrunk: Floats
    details: NDArray[np.int8]

    def of(self, cells: NDArray[np.int64]) -> Looks:
        """Those of some of the cells."""
        return Looks([self.hashes[n] for n in cells], self.shrunk[cells], self.details[cells])


def looks_of(batches: Iterable[Crops]) -> Looks:
    """Look at all crops of a data set, given as batches (n, rgb, y, x)."""
    hashes: list[bytes] = []
    shrunk: list[Floats] = []
    details: list[NDArray[np.int8]] = []
    for crops in batches:
        for crop in crops:
            flat = crop.min() == crop.max()
            content = np.ascontiguousarray(crop).tobytes()
            hashes.append(b"" if flat else hashlib.blake2b(content, digest_size=16).digest())
            green = crop[1].astype(np.float32)
            green = cv2.resize(green, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            shrunk.append(_shrunk(green))
            details.append(_details(green))
    return Looks(
        hashes,
        np.array(shrunk, np.float32).reshape(-1, _SHRUNK**2),
        np.array(details, np.int8).reshape(-1, _SIDE, _SIDE),
    )


def _shrunk(green: Floats) -> Floats:
    blurred = cv2.GaussianBlur(green, (0, 0), 2.0)[8:-8, 8:-8]
    small = cv2.resize(blurred, (_SHRUNK, _SHRUNK), interpolation=cv2.INTER_AREA).ravel()
    small = small - small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)


def _details(green: Floats) -> NDArray[np.int8]:
    found = cv2.GaussianBlur(green, (0, 0), 1.0) - cv2.GaussianBlur(green, (0, 0), 6.0)
    largest = max(float(np.abs(found).max()), 1e-6)
    return np.asarray(np.rint(found * (127 / largest)), np.int8)


def equal_pairs(first: Looks, second: Looks) -> list[tuple[int, int]]:
    """Cells of two data sets whose crops are the same, byte for byte."""
    places = {found: number for number, found in enumerate(first.hashes) if found}
    return [
        (places[found], number) for number, found in enumerate(second.hashes) if found in places
    ]


def moved_pairs(
    first: Looks, first_um: Places, second: Looks, second_um: Places
) -> list[tuple[int, int]]:
    """Cells of two slides that are one slide, scanned twice: the pairs that one motion tells.

    Parameters
    ----------
    first_um, second_um
        Where the cells lie, (cell, x and y).

    Returns
    -------
    Empty where no motion brings `LEAST_PAIRS` cells that look alike onto each other.
    """
    pairs = np.array(_alike(first, second), dtype=np.int64).reshape(-1, 2)
    if len(pairs) < LEAST_PAIRS:
        return []
    here, there = (
        places[side] @ np.array([1, 1j])
        for places, side in ((first_um, pairs[:, 0]), (second_um, pairs[:, 1]))
    )
    rng = np.random.default_rng(0)
    best = np.zeros(len(pairs), dtype=bool)
    for one, other in rng.integers(0, len(pairs), (_TRIALS, 2)):
        before, after = here[other] - here[one], there[other] - there[one]
        # Pairs that are too near to each other tell no turn.
        if abs(before) < 10 * SAME_PLACE_UM or abs(abs(before) - abs(after)) > SAME_PLACE_UM:
            continue
        turn = after / before
        turn /= abs(turn)
        off_um = np.abs((here - here[one]) * turn - (there - there[one]))
        # Far from both pairs a small error of the turn shows.
        allowed_um = SAME_PLACE_UM * (1 + np.abs(here - here[one]) / abs(before))
        near = off_um < np.minimum(allowed_um, 4 * SAME_PLACE_UM)
        if near.sum() > best.sum():
            best = near
    found = {int(a): int(b) for a, b in pairs[best]}  # each cell once
    least = max(LEAST_PAIRS, LEAST_SHARE * len(pairs))
    return list(found.items()) if len(set(found.values())) >= least else []


def shared_cells(
    one: pd.DataFrame, its_looks: Looks, other: pd.DataFrame, other_looks: Looks
) -> tuple[list[tuple[int, int]], str]:
    """Rows of two tables that are the same cells, whatever slides and places they name.

    Parameters
    ----------
    one, other
        Rows with `slide`, `x_um` and `y_um`, in the order of the looks; where a column is missing,
        only equal crops are found.

    Returns
    -------
    The pairs of rows, and how that is told, in words.
    """
    pairs = equal_pairs(its_looks, other_looks)
    if pairs or not {"slide", "x_um", "y_um"} <= set(one.columns) & set(other.columns):
        return pairs, "are the same images"
    for here, there in product(_by_slide(one), _by_slide(other)):
        found = moved_pairs(
            its_looks.of(here),
            one[["x_um", "y_um"]].to_numpy(float)[here],
            other_looks.of(there),
            other[["x_um", "y_um"]].to_numpy(float)[there],
        )
        pairs += [(int(here[a]), int(there[b])) for a, b in found]
    return pairs, "look alike and lie alike, but for one motion of the slide"


def _by_slide(rows: pd.DataFrame) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(rows["slide"] == slide) for slide in pd.unique(rows["slide"])]


def _alike(first: Looks, second: Looks) -> list[tuple[int, int]]:
    """Pairs of cells that look alike when they are laid onto each other."""
    found = []
    for start in range(0, len(second.hashes), _BLOCK):
        likeness = second.shrunk[start : start + _BLOCK] @ first.shrunk.T
        count = min(CANDIDATES, likeness.shape[1])
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        for row, places in enumerate(nearest):
            for place in places[likeness[row, places] > ALIKE]:
                if _laid_on(first.details[place], second.details[start + row]) > ALIKE:
                    found.append((int(place), start + row))
    return found


def _laid_on(one: NDArray[np.int8], other: NDArray[np.int8]) -> float:
    inner = one[_REACH:-_REACH, _REACH:-_REACH].astype(np.float32)
    scores = cv2.matchTemplate(other.astype(np.float32), inner, cv2.TM_CCOEFF_NORMED)
    return float(scores.max())
