"""A data set for PyTorch's own loaders, with workers of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from torch.utils.data import Dataset as TorchData

from plsctl.acquire.errors import DamagedData
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.stored_samples import remedy


class TorchDataset(TorchData[tuple[Tensor, Tensor]]):
    """Samples of one split as `torch.utils.data.DataLoader` takes them.

    Sample `i` is a stack (3 * images, y, x) and its target (3, y, x), both uint8, colours of an
    image next to each other. Samples that quality control or a review has left out are not among
    them. Reading goes through zarr-python: tensorstore, which `Dataset` reads with, does not
    survive the fork that makes a loader's workers on Linux.

    Parameters
    ----------
    data
        The data set, or where it lies.
    split
        "train", "validation" or "test".
    recipe
        Images to take, by the name or the file of a recipe; None takes all.
    target
        "20x" or "100x".
    margin_px
        Surroundings of the target that the stacks have.

    Raises
    ------
    UserError
        The data set does not exist, or lacks the split, images, target or margin.
    DamagedData
        When a sample is asked for whose files are missing or damaged.
    """

    def __init__(
        self,
        data: Dataset | str | Path,
        split: str = "train",
        *,
        recipe: str | Path | None = None,
        target: str = "20x",
        margin_px: int = 0,
    ) -> None:
        self.data = data if isinstance(data, Dataset) else Dataset.open(data)
        self.data.require_margin(margin_px)
        self.numbers = self.data.split(split, target)
        """Numbers of the samples in the data set's table."""
        self._images: Sequence[int] = self.data.channels_for(recipe)
        self._target = f"target_{target}"
        first = self.data.margin_px - margin_px
        self._inner = slice(first, first + self.data.crop_px + 2 * margin_px)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number = int(self.numbers[index])
        # A sample is one chunk: it is decoded as a whole, whatever is taken of it.
        sample = self._read("input", number)[self._images, :, self._inner, self._inner]
        return torch.from_numpy(sample).flatten(0, 1), torch.from_numpy(
            self._read(self._target, number)
        )

    def _read(self, name: str, number: int) -> np.ndarray:
        array = self.data.group[name]
        assert isinstance(array, zarr.Array)
        try:
            sample = np.asarray(array[number])
        except ValueError as error:  # a checksum differs, or a file is cut off
            problem = (str(error).splitlines() or [""])[0][:100]
            raise self._damaged(array, name, number, f"is damaged ({problem})") from None
        # zarr-python gives zeros for a missing file; in one that is there, checksums are compared.
        if not sample.any() and not _file(array, self.data.path / name, number).exists():
            raise self._damaged(array, name, number, "is missing")
        return sample

    def _damaged(self, array: zarr.Array[Any], name: str, number: int, problem: str) -> DamagedData:
        return DamagedData(
            f"{name} of sample {number}",
            problem,
            file=_file(array, self.data.path / name, number),
            hint=remedy(self.data.path),
        )


def _file(array: zarr.Array[Any], folder: Path, number: int) -> Path:
    """The file that holds a sample of an array."""
    together = (array.shards or array.chunks)[0]
    return folder / "c" / str(number // together) / "/".join("0" * (array.ndim - 1))
