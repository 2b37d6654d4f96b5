"""Writing a data set: batches in, whole shards out, renamed when it is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.errors import RESUMES, UserError, disk_error
from plsctl.acquire.files.locations import location, written_at
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.plans.crops import CROP_PX
from plsctl.process.dataset.files import (
    BEGINS_ANEW,
    NOT_YET,
    publish,
    refuse_existing,
    unfinished_folder,
    write_table,
)
from plsctl.process.dataset.format import (
    AXES,
    FORMAT,
    LAST_COLUMN,
    VERSION,
    Compression,
    create_array,
    open_array,
)
from plsctl.process.dataset.records import DatasetFrame, FrameLike
from plsctl.process.dataset.splits import with_split


class DatasetWriter:
    """Appends samples to `PATH.part` and renames it to PATH when finished.

    What stands under the final name is therefore always whole. Leaving the `with` block by an
    exception leaves the `.part` folder behind; the next writer of the same path replaces it, or
    goes on with it when it is told what is in there (`kept`).

    Parameters
    ----------
    path
        The data set to write, a folder ending in `.zarr`, on this machine or in an object store
        (see `plsctl.acquire.files.locations`).
    frames
        One frame of a scan or of a data set per image of the stack, bright field first, or a
        mapping with at least `label` ("brightfield", "plate-1", "arm1-24:low").
    recipe
        Name of the recipe the frames are.
    pixel_um
        Sample pixel of the crops in micrometres.
    crop_px
        Side of the square crops in pixels.
    margin_px
        Surroundings of the crop that the stacks have on every side, and the targets have not.
    targets
        Names of the targets, "20x" and "100x".
    attributes
        Further entries of the attributes (slides, black_level, full_scale, ...).
    overwrite
        Replace a finished data set of the same name, at the end and not before.
    kept
        Rows of the samples that an earlier writer put into whole shards of the `.part` folder;
        everything else in its arrays is dropped. None begins a new folder.

    Raises
    ------
    UserError
        If the data set exists already and `overwrite` is not set, or something else has its name.
    """

    def __init__(
        self,
        path: str | Path,
        frames: Sequence[FrameLike],
        *,
        recipe: str,
        pixel_um: float,
        crop_px: int = CROP_PX,
        margin_px: int = 0,
        targets: Sequence[str] = ("20x",),
        attributes: Mapping[str, object] | None = None,
        dtype: str = "uint8",
        shard: int = 128,
        compression: Compression = "lz4",
        overwrite: bool = False,
        kept: Sequence[pd.DataFrame] | None = None,
    ) -> None:
        self.path = written_at(location(path))
        self._part = unfinished_folder(self.path)
        refuse_existing(self.path, overwrite)
        if self._part.exists() and kept is None:
            shutil.rmtree(self._part)
        self._part.mkdir(parents=True, exist_ok=True)
        self.frames = tuple(DatasetFrame.of(frame) for frame in frames)
        self.targets = tuple(targets)
        self._attributes: dict[str, object] = {
            "format": FORMAT,
            "version": VERSION,
            "axes": list(AXES),
            "recipe": recipe,
            "frames": [frame.model_dump(mode="json") for frame in self.frames],
            "targets": list(self.targets),
            "pixel_um": pixel_um,
            "crop_px": crop_px,
            "margin_px": margin_px,
            **(attributes or {}),
        }
        self._dtype = np.dtype(dtype)
        self._again = BEGINS_ANEW if kept is None else RESUMES
        self._shard = shard
        side = crop_px + 2 * margin_px
        shapes: dict[str, tuple[int, ...]] = {"input": (len(self.frames), 3, side, side)}
        shapes |= {f"target_{name}": (3, crop_px, crop_px) for name in self.targets}
        self._shapes = shapes
        self._rows: list[pd.DataFrame] = []
        self._count = 0
        for rows in kept or ():
            self._add_rows(rows)
        self.written = self._count
        """Samples in whole shards."""
        with self._writing():
            self._stores = {
                name: open_array(self._part / name, self.written)
                if self.written
                else create_array(self._part / name, shape, self._dtype, shard, compression)
                for name, shape in shapes.items()
            }
        # Memory that was used before costs nothing; a fresh block per shard does.
        self._waiting = {
            name: np.empty((shard, *shape), self._dtype) for name, shape in shapes.items()
        }

    def __len__(self) -> int:
        return self._count

    @property
    def table(self) -> pd.DataFrame:
        """The rows appended so far, one per sample."""
        if not self._rows:
            return pd.DataFrame({"sample": pd.Series(dtype=int)})
        table = pd.concat(self._rows, ignore_index=True)
        # Of merged data sets one may have measures that another lacks: labels stay behind them.
        names = dict.fromkeys(
            name
            for rows in self._rows
            for name in list(rows.columns)[: list(rows.columns).index(LAST_COLUMN)]
        )
        return table[list(dict.fromkeys([*names, LAST_COLUMN, *table.columns]))]

    def append(
        self,
        stacks: NDArray[np.generic],
        targets: Mapping[str, NDArray[np.generic]],
        rows: pd.DataFrame,
    ) -> None:
        """Add a batch of samples.

        Parameters
        ----------
        stacks
            (n, images, 3, y, x) in the dtype of the data set, with the margin.
        targets
            (n, 3, y, x) by target name. A target that is left out is stored as zeros and not
            listed in the `targets` column, so that such samples are never trained on it.
        rows
            One row per sample; the columns `sample` and `targets` are filled in here.

        Raises
        ------
        ValueError
            If a shape, a dtype or the number of rows does not fit.
        """
        unknown = set(targets) - set(self.targets)
        if unknown:
            raise ValueError(f"unknown targets {sorted(unknown)}, declared are {self.targets}")
        batch = {"input": stacks} | {f"target_{name}": array for name, array in targets.items()}
        count = len(rows)
        for name, shape in self._shapes.items():
            array = batch.get(name)
            if array is None:
                array = batch[name] = np.zeros((count, *shape), self._dtype)
            if array.shape != (count, *shape) or array.dtype != self._dtype:
                raise ValueError(
                    f"{name}: expected {(count, *shape)} {self._dtype}, "
                    f"got {array.shape} {array.dtype}"
                )
        present = ";".join(name for name in self.targets if name in targets)
        first, waiting = 0, self._count - self.written
        self._add_rows(rows.assign(targets=present))
        while first < count:
            taken = min(count - first, self._shard - waiting)
            for name, array in batch.items():
                self._waiting[name][waiting : waiting + taken] = array[first : first + taken]
            first, waiting = first + taken, waiting + taken
            if waiting == self._shard:
                self._flush(waiting)
                waiting = 0

    def stored(self, name: str) -> Iterator[NDArray[np.generic]]:
        """An array's samples so far, in batches: those in files, then those that wait."""
        for start in range(0, self.written, self._shard):
            part = self._stores[name][start : min(start + self._shard, self.written)]
            yield np.asarray(part.read().result())
        yield self._waiting[name][: self._count - self.written]

    def _add_rows(self, rows: pd.DataFrame) -> None:
        count = len(rows)
        numbers = range(self._count, self._count + count)
        numbered = rows.reset_index(drop=True).assign(sample=numbers)
        self._rows.append(numbered[["sample", *(c for c in numbered.columns if c != "sample")]])
        self._count += count

    def _flush(self, count: int) -> None:
        """Write the `count` waiting samples: always a whole shard but for the last."""
        with self._writing():
            pending = []
            for name, store in self._stores.items():
                shape = [self.written + count, *store.shape[1:]]
                grown = self._stores[name] = store.resize(exclusive_max=shape).result()
                part = grown[self.written : self.written + count]
                block = self._waiting[name][:count]
                # Without a copy: an array opened for writing keeps nothing of it in a cache.
                pending.append(part.write(block, can_reference_source_data_indefinitely=True))
            for future in pending:
                future.result()  # a full disk is reported only here
        self.written += count

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a full disk into a `UserError`; tensorstore raises a ValueError for it."""
        try:
            yield
        except (ValueError, OSError) as error:
            raise disk_error(error, self._part, NOT_YET, self._again) from None

    def finish(self, splits: pd.Series[str] | None = None) -> Path:
        """Write the last samples, the table and the attributes, and rename the folder.

        Parameters
        ----------
        splits
            "train", "validation" or "test" per sample (see `assign_splits`); None keeps a
            `split` column that the rows already carry.

        Raises
        ------
        UserError
            If no sample was appended.
        """
        self.seal(self.table if splits is None else with_split(self.table, splits))
        return self.publish()

    def seal(self, table: pd.DataFrame) -> None:
        """Write the last samples, the table and the attributes; then only the rename is missing.

        Parameters
        ----------
        table
            `self.table` with what was added to it, such as splits.

        Raises
        ------
        UserError
            If no sample was appended.
        """
        if not self._count:
            raise UserError(
                f"no sample was found for {self.path}.",
                hint="Look at the reasons for dropped cells.",
            )
        if self._count > self.written:
            self._flush(self._count - self.written)
        write_table(self._part, table, NOT_YET, self._again)
        attributes = {"plsctl": {**self._attributes, "complete": True}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        group["consolidated_metadata"] = self._consolidated()
        text = json.dumps(group, indent=1)
        write_whole(self._part / "zarr.json", text, NOT_YET, self._again)

    def _consolidated(self) -> dict[str, object]:
        """What is in the group: zarr-python then does not wonder at the table beside the arrays."""
        arrays = {
            name: json.loads((self._part / name / "zarr.json").read_text(encoding="utf-8"))
            for name in self._stores
        }
        return {"kind": "inline", "must_understand": False, "metadata": arrays}

    def add_attributes(self, attributes: Mapping[str, object]) -> None:
        """Add entries to the attributes, before the data set is sealed."""
        self._attributes |= attributes

    def publish(self) -> Path:
        """Give the sealed data set its name."""
        publish(self._part, self.path)
        return self.path

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stores.clear()
        if exception[0] is not None and self._again == BEGINS_ANEW:
            shutil.rmtree(self._part, ignore_errors=True)
