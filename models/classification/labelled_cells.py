"""Stained cells of a data set whose types its table names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plsctl.acquire.errors import UserError
from plsctl.process.dataset.reader import Dataset

FEWEST_OF_A_TYPE = 8
"""Types with fewer labelled training cells cannot be learned and are left out."""

LIGHT = 0.1
"""Brightness and colour of the training images are changed at random by up to this share."""


class Cells(NamedTuple):
    """Stained crops (n, 3, y, x), uint8, and the numbers of their types (n,), int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class CellBatch(NamedTuple):
    """Crops (B, 3, y, x), colours in [-1, 1], and the numbers of their types (B,)."""

    images: Tensor
    labels: Tensor
    size: int
    weight: float


NO_CELLS = Cells(np.empty((0, 3, 0, 0), np.uint8), np.empty(0, np.int64))


def labelled_cells(
    data: Dataset, target: str, numbers: NDArray[np.int64], types: Sequence[str]
) -> Cells:
    """Those of the samples that have one of the types."""
    names = types_of(data, numbers)
    known = np.isin(names, types)
    images = data.read_target(target, numbers[known]).astype(np.uint8)
    return Cells(images, type_numbers(names[known], types))


def type_numbers(names: NDArray[np.str_], types: Sequence[str]) -> NDArray[np.int64]:
    """The number of each name among the types."""
    return np.array([types.index(name) for name in names], dtype=np.int64)


def learnable_types(
    data: Dataset, numbers: NDArray[np.int64], instead: str = ""
) -> tuple[str, ...]:
    """Types with enough cells among samples.

    Raises
    ------
    UserError
        If there are fewer than two; `instead` ends the remedy.
    """
    names = types_of(data, numbers)
    found, counts = np.unique(names[names != ""], return_counts=True)
    types = tuple(str(name) for name in found[counts >= FEWEST_OF_A_TYPE])
    if len(types) < 2:
        raise UserError(
            f"a classifier needs 2 types of cells with at least {FEWEST_OF_A_TYPE} training cells "
            f"each, the data set has {len(types)}.",
            file=data.path,
            field="type",
            hint=f"Label cells: plsctl dataset label DATA.zarr FILE.csv{instead}.",
        )
    return types


def types_of(data: Dataset, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.str_]:
    """The cell types of samples in the data set's table; empty where there is none."""
    rows = data.table.set_index("sample").loc[list(numbers)]
    if "type" not in rows.columns:
        return np.full(len(rows), "")
    return np.asarray(rows["type"].fillna("").astype(str).to_numpy(), dtype=np.str_)


def varied(colour: Tensor, rng: np.random.Generator) -> Tensor:
    """Stained crops (B, 3, H, W) mirrored, turned and a little brighter or darker, at random."""
    if rng.random() < 0.5:
        colour = colour.flip(3)
    colour = torch.rot90(colour, int(rng.integers(4)), dims=(2, 3))
    change = 1 + LIGHT * rng.uniform(-1, 1, (len(colour), 3, 1, 1))
    return (colour + 1) * torch.from_numpy(change).to(colour.dtype) - 1
