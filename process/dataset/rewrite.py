"""New splits or columns for a data set, without copying its images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.locations import is_remote, location, written_at
from plsctl.acquire.files.whole_files import write_whole
from plsctl.process.dataset.files import (
    BEGINS_ANEW,
    NOT_YET,
    publish,
    refuse_existing,
    unfinished_folder,
    write_table,
)
from plsctl.process.dataset.format import TABLE_NAME
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import with_split

Divide = Callable[[pd.DataFrame], "pd.Series[str]"]


def redivide(data: Dataset, divide: Divide, out: Path | str | None = None) -> Dataset:
    """Give the samples of a data set new splits or columns, without copying images.

    Parameters
    ----------
    divide
        Gives every sample of the table its split.
    out
        A new data set that shares the files of the images (hard links; copies where the disk has
        none); None changes the table of the data set itself.
    """
    return rewrite_table(data, with_split(data.table, divide(data.table)), out)


def rewrite_table(data: Dataset, table: pd.DataFrame, out: Path | str | None = None) -> Dataset:
    """Replace the table of a data set, or of a new one that shares its images.

    Raises
    ------
    UserError
        If the new data set exists, or is to share images with or from an object store.
    """
    if out is None:
        write_table(data.path, table)
        return Dataset.open(data.path)
    path = written_at(location(out))
    if is_remote(path) or is_remote(data.path):
        raise UserError(
            "images can only be shared between folders of one disk.",
            file=str(path),
            hint="Leave out --out to change the data set itself.",
        )
    refuse_existing(path)
    part = unfinished_folder(path)
    shutil.rmtree(part, ignore_errors=True)
    with disk_errors(part, NOT_YET, BEGINS_ANEW):
        shutil.copytree(data.path, part, copy_function=_link)
        for name in (TABLE_NAME, "zarr.json"):
            (part / name).unlink()
        write_table(part, table, NOT_YET, BEGINS_ANEW)
        group = (data.path / "zarr.json").read_text(encoding="utf-8")
        write_whole(part / "zarr.json", group, NOT_YET, BEGINS_ANEW)
        publish(part, path)
    return Dataset.open(path)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
