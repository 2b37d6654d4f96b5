"""The arrays of a data set on disk: samples are read from them, and none that is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from plsctl.acquire.errors import DamagedData
from plsctl.acquire.store.ome_zarr import damage_in_words
from plsctl.process.dataset.format import TABLE_NAME, array_spec, carries_checksums


def remedy(path: Path) -> str:
    """What to do about damaged samples of a data set."""
    return (
        "Take the file from a copy, or go on without its samples: plsctl dataset verify "
        f"{path} --leave-out."
    )


class StoredSamples:
    """Reads the arrays of a data set by sample numbers.

    Each array is opened on first use, so that a worker process opens its own.

    Parameters
    ----------
    path
        The data set.
    samples
        How many its table names.
    """

    def __init__(self, path: Path, samples: int) -> None:
        self._path, self._samples = path, samples
        self._stores: dict[str, ts.TensorStore] = {}
        self._unchecked: set[str] = set()
        """Arrays that carry no checksums."""
        self._there: set[Path] = set()
        """Files of theirs that are there."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_stores": {}}

    def array(self, name: str) -> ts.TensorStore:
        """One of the arrays; `DamagedData` where it cannot be opened or does not fit the table."""
        if name not in self._stores:
            store = self._opened(name)
            if store.shape[0] != self._samples:
                raise DamagedData(
                    f"the table of {self._samples} rows",
                    f"does not fit {name}, which holds {store.shape[0]} samples",
                    file=self._path / TABLE_NAME,
                    hint="Take both from one copy; samples are left out by plsctl review, and not "
                    "by deleting their rows.",
                )
            self._stores[name] = store
        return self._stores[name]

    def _opened(self, name: str) -> ts.TensorStore:
        spec = array_spec(self._path / name)
        if not carries_checksums(self._path / name):
            self._unchecked.add(name)
            spec["fill_missing_data_reads"] = True
        try:
            return ts.open(spec, read=True).result()
        except (ValueError, OSError) as error:
            raise DamagedData(
                f"the array {name}",
                f"cannot be opened: its file is missing or damaged ({damage_in_words(error)})",
                file=self._path / name / "zarr.json",
                hint="Take it from a copy, or build the data set again.",
            ) from None

    def read(self, name: str, numbers: NDArray[np.int64]) -> NDArray[np.generic]:
        """Samples of an array; `DamagedData` names the first that cannot be read, and its file."""
        store = self.array(name)
        if name in self._unchecked:
            self._refuse_missing(name, numbers)
        try:
            return np.asarray(store[numbers].read().result())
        except (ValueError, OSError) as error:
            if "OUT_OF_RANGE" in str(error):  # no file is to blame
                raise
            raise self._damage(name, numbers.tolist(), error) from None

    def damaged(self, name: str, numbers: Sequence[int]) -> dict[int, DamagedData]:
        """Those of the samples that cannot be read from an array, each with what is wrong."""
        found: dict[int, DamagedData] = {}
        for number in numbers:
            try:
                self.read(name, np.array([number]))
            except DamagedData as error:
                found[int(number)] = error
        return found

    def _damage(self, name: str, numbers: Sequence[int], error: Exception) -> DamagedData:
        """What is wrong with samples that could not be read together."""
        first = int(numbers[0])
        found = self.damaged(name, numbers) if len(numbers) > 1 else {}
        if found:
            first, only = next(iter(found.items()))
            count = f" ({len(found)} of the {len(numbers)} asked for)" if len(found) > 1 else ""
            what = f"{name} of sample {first}{count}"
            return DamagedData(what, only.problem, file=only.file, hint=only.hint)
        file = self._file(name, first)
        damaged = f"cannot be read: its file is damaged ({damage_in_words(error)})"
        return DamagedData(
            f"{name} of sample {first}",
            damaged if file.exists() else "is missing",
            file=file,
            hint=remedy(self._path),
        )

    def _refuse_missing(self, name: str, numbers: NDArray[np.int64]) -> None:
        """Of arrays of before, which leave out black samples, whole files must be there."""
        for number in numbers:
            file = self._file(name, int(number))
            if file not in self._there and not file.exists():
                raise self._damage(name, [int(number)], FileNotFoundError())
            self._there.add(file)

    def _file(self, name: str, number: int) -> Path:
        """The file that holds a sample of an array."""
        store = self.array(name)
        together = int((store.chunk_layout.write_chunk.shape or (1,))[0] or 1)
        rest = "/".join("0" * (store.rank - 1))
        return self._path / name / "c" / str(number // together) / rest
