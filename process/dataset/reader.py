"""The data set: one zarr group of samples (stacks in, stained crops out) and a table.

`input` is (sample, image, channel, y, x), each target (sample, channel, y, x), both in the
camera's dtype; stacks may reach a margin farther on every side than the targets. One sample is one
inner chunk and a few hundred samples are one shard, because training reads random whole samples;
recipes are slices of the image axis after reading.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.files.locations import location, open_group
from plsctl.process.dataset.files import read_table
from plsctl.process.dataset.format import carries_checksums, read_attributes
from plsctl.process.dataset.recipe_images import recipe_labels
from plsctl.process.dataset.records import DatasetAttributes
from plsctl.process.dataset.splits import SPLITS, left_out
from plsctl.process.dataset.stored_samples import StoredSamples

if TYPE_CHECKING:
    import zarr


log = logging.getLogger(__name__)

_SAID: set[str] = set()
"""Data sets of which it was said that they carry no checksums."""


class Dataset:
    """A finished data set, read by sample numbers. Open one with `Dataset.open`."""

    def __init__(self, path: Path, attributes: DatasetAttributes, table: pd.DataFrame) -> None:
        self.path = path
        self.attributes = attributes
        self.table = table
        self.recipe = attributes.recipe
        self.frames = attributes.frames
        self.targets = attributes.targets
        self.pixel_um = attributes.pixel_um
        self.crop_px = attributes.crop_px
        """Side of the targets, and of the stacks without their margin."""
        self.margin_px = attributes.margin_px
        self._stored = StoredSamples(path, len(table))

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Open a data set, on this machine or in an object store ("s3://bucket/x.zarr").

        Raises
        ------
        UserError
            If it does not exist, is not a data set, was left unfinished or has another version.
        """
        folder = location(path)
        data = cls(folder, read_attributes(folder), read_table(folder))
        if not data.has_checksums and str(folder) not in _SAID:
            _SAID.add(str(folder))
            log.warning(
                "%s carries no checksums: files of it that are missing or cut off are noticed, "
                "values that have changed in them are not. plsctl dataset merge %s -o NEW.zarr "
                "writes it with checksums.",
                folder,
                folder,
            )
        return data

    @cached_property
    def group(self) -> zarr.Group:
        """The data set for zarr-python: `group["input"]` is an array (sample, image, ...)."""
        return open_group(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """Frame labels in the order of the image axis."""
        return tuple(frame.label for frame in self.frames)

    @property
    def reach_um(self) -> float:
        """Samples nearer than this on the slide, in x and in y, overlap."""
        return (self.crop_px + 2 * self.margin_px) * self.pixel_um

    @property
    def dtype(self) -> str:
        """Type of the pixels, "uint8" or "uint16"."""
        return str(self._stored.array("input").dtype.name)

    def __len__(self) -> int:
        return len(self.table)

    def channels_for(self, recipe: str | Path | None) -> list[int]:
        """Indices on the image axis of the recipe's frames, in the recipe's order.

        A recipe is named, or given as the path of its file; None, and the name of the data set's
        own recipe, stand for every image of the data set.

        Raises
        ------
        UserError
            If the recipe is unknown or asks for frames that the data set does not hold.
        """
        return self.channels_of(
            recipe_labels(recipe, self.recipe, self.frames), wanted=f"recipe {recipe}"
        )

    def channels_of(self, labels: Sequence[str], *, wanted: str = "the stack") -> list[int]:
        """Indices on the image axis of the named frames.

        Raises
        ------
        UserError
            Naming the labels that the data set does not hold.
        """
        place = {label: index for index, label in enumerate(self.labels)}
        missing = [label for label in labels if label not in place]
        if missing:
            raise UserError(
                f"the data set {self.path} (recipe {self.recipe}) lacks {len(missing)} of the "
                f"{len(labels)} images of {wanted}: {_shortened(missing)}.",
                hint="Choose a recipe that it holds, or build one from a scan of a larger recipe.",
            )
        return [place[label] for label in labels]

    def read_input(
        self, indices: Sequence[int] | NDArray[np.integer], recipe: str | Path | None = None
    ) -> NDArray[np.generic]:
        """Stacks of the given samples, (n, images, 3, y, x), images as the recipe orders them."""
        return self.read_images(indices, self.channels_for(recipe))

    def read_images(
        self,
        indices: Sequence[int] | NDArray[np.integer],
        images: Sequence[int],
        margin_px: int = 0,
    ) -> NDArray[np.generic]:
        """Stacks of the given samples, (n, len(images), 3, y, x), by image index.

        They have the size of the targets and `margin_px` more on every side.

        Raises
        ------
        UserError
            If the data set has a smaller margin.
        DamagedData
            If files are missing or damaged; it names them and the samples.
        """
        self.require_margin(margin_px)
        store = self._stored.array("input")
        every = list(images) == list(range(len(self.frames)))
        numbers = np.asarray(indices, dtype=np.int64)
        side, first = self.crop_px + 2 * margin_px, self.margin_px - margin_px
        inner = slice(first, first + side)
        shape = (len(numbers), len(images), 3, side, side)
        stacks = np.empty(shape, dtype=store.dtype.numpy_dtype)
        # Whole samples are decoded whatever is asked, so read few at a time and keep the slice.
        for start in range(0, len(numbers), 64):
            block = self._stored.read("input", numbers[start : start + 64])
            block = block[..., inner, inner]
            stacks[start : start + 64] = block if every else block[:, list(images)]
        return stacks

    def read_target(
        self, target: str, indices: Sequence[int] | NDArray[np.integer]
    ) -> NDArray[np.generic]:
        """Stained crops of the given samples, (n, 3, y, x); zeros where a sample has no such one.

        Raises
        ------
        UserError
            If the data set has no such target.
        DamagedData
            If files are missing or damaged; it names them and the samples.
        """
        self.require_target(target)
        numbers = np.asarray(indices, dtype=np.int64)
        name = f"target_{target}"
        held = self.has_target(target)[numbers]
        if held.all():
            return self._stored.read(name, numbers)
        store = self._stored.array(name)
        crops = np.zeros((len(numbers), *store.shape[1:]), dtype=store.dtype.numpy_dtype)
        if held.any():
            crops[held] = self._stored.read(name, numbers[held])
        return crops

    def has_target(self, target: str) -> NDArray[np.bool_]:
        """Which samples have the target, (sample,)."""
        if "targets" not in self.table.columns:
            return np.full(len(self), target in self.targets)
        lists = self.table["targets"].str.split(";")
        return np.asarray(lists.map(lambda names: target in names), dtype=bool)

    def require_target(self, target: str) -> None:
        """Raise UserError unless the data set has the target."""
        if target not in self.targets:
            raise UserError(
                f"the data set {self.path} has no target {target}, only {', '.join(self.targets)}.",
                hint="Choose one of these, or build the data set again with the highres pass.",
            )

    def require_margin(self, margin_px: int) -> None:
        """Raise UserError unless the stacks have so much margin."""
        if margin_px > self.margin_px:
            raise UserError(
                f"the data set {self.path} has a margin of {self.margin_px} px, {margin_px} px "
                "are wanted.",
                field="margin",
                hint="Ask for less, or build the data set again with a wider --margin.",
            )

    def split(self, name: str, target: str | None = None) -> NDArray[np.int64]:
        """Sample numbers of "train", "validation" or "test", in order.

        Left out are samples that quality control excluded, unless a review took them back, and
        samples that a review dropped. With `target`, samples without it are left out too.

        Raises
        ------
        UserError
            If the data set has no splits or the split is empty.
        """
        if name not in SPLITS:
            raise UserError(f"unknown split {name!r}; there are {', '.join(SPLITS)}.")
        if "split" not in self.table.columns:
            raise UserError(
                f"the data set {self.path} has no splits.", hint="Build it again with splits."
            )
        if target is not None:
            self.require_target(target)
        numbers = self._numbers(name, target)
        if not len(numbers):
            wanted = "" if target is None else f" with the target {target}"
            if self.dropped:
                wanted += (
                    f" but those among the {self.dropped} that quality control or a review has "
                    "left out"
                )
            raise UserError(
                f"the data set {self.path} has no {name} samples{wanted}.",
                hint="Scan more positions, or split with other ratios.",
            )
        return numbers

    def has_split(self, name: str, target: str | None = None) -> bool:
        """Whether `split` would find samples."""
        return "split" in self.table.columns and len(self._numbers(name, target)) > 0

    def _numbers(self, split: str, target: str | None) -> NDArray[np.int64]:
        chosen = self.table["split"] == split
        if target is not None:
            chosen &= self.has_target(target)
        numbers: NDArray[np.int64] = self.table.loc[chosen, "sample"].to_numpy(dtype=np.int64)
        return numbers

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The verdict of quality control on each slide: `slide`, `accepted`, `reasons` and more."""
        return list((self.attributes.quality or {}).get("slides", ()))

    @property
    def dropped(self) -> int:
        """Samples that quality control excludes or a review has dropped (`plsctl review`)."""
        return int(left_out(self.table).sum())

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays: `input`, and `target_20x` and the like."""
        return ("input", *(f"target_{name}" for name in self.targets))

    @property
    def has_checksums(self) -> bool:
        """Whether samples carry checksums; those of data sets of before do not."""
        return all(carries_checksums(self.path / name) for name in self.arrays)

    def damaged_samples(self, name: str, numbers: Sequence[int]) -> dict[int, DamagedData]:
        """Those of the samples that cannot be read from an array, each with what is wrong."""
        return self._stored.damaged(name, numbers)


def _shortened(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
