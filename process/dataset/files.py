"""Files of a data set as a whole: its unfinished folder, the final rename, its rows as text.

What stands under a data set's name is whole. A local one is written beside its place as
`X.zarr.part` and renamed; one in an object store, where nothing can be renamed, is written into
`X.zarr.part` in the current folder and copied there, its `zarr.json` last.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from plsctl.acquire.errors import KEPT, RESUMES, DamagedData, UserError
from plsctl.acquire.files.locations import is_remote, refuse_readonly
from plsctl.acquire.files.whole_files import rename, write_whole
from plsctl.process.dataset.format import (
    LAST_COLUMN,
    TABLE_NAME,
    TEXT_COLUMNS,
    is_dataset,
    replaced_folder,
)
from plsctl.process.dataset.splits import LEFT_OUT_OF, SPLITS, settled

NOT_YET = "what is being written has not got its name"
BEGINS_ANEW = "it begins anew"
"""Hint in the error about a full disk."""


def unfinished_folder(path: Path) -> Path:
    """The folder in which a data set is written before its rename; always on this machine."""
    if is_remote(path):
        return Path.cwd() / f"{path.name}.part"
    return path.with_name(path.name + ".part")


def refuse_existing(path: Path, overwrite: bool = False) -> None:
    """UserError if the name is taken; with `overwrite`, only if it is no data set."""
    refuse_readonly(path)
    if not (path / "zarr.json").exists() and (is_remote(path) or not path.exists()):
        return
    if not is_dataset(path):
        raise UserError(
            f"{path} exists and is no data set; it will not be replaced.",
            hint="Choose another name.",
        )
    if not overwrite:
        raise UserError(
            f"the data set {path} exists already.",
            hint="Choose another name, or use --overwrite where the command has it.",
        )


def publish(part: Path, path: Path) -> None:
    """Rename a whole data set to its final name; an older one of that name is replaced."""
    # Killed writers leave the locks of their files.
    for lock in part.rglob("*.__lock"):
        lock.unlink()
    if is_remote(path):
        try:
            _copy_to_store(part, path)
        except OSError as error:
            raise UserError(
                f"cannot be written ({error}).",
                file=str(path),
                hint="Check its name and your rights there, then run the same command again.",
            ) from None
        return
    replaced = replaced_folder(path)
    if path.exists():
        # Aside first: deleting takes a while, and a kill must not leave half under the name.
        shutil.rmtree(replaced, ignore_errors=True)
        rename(path, replaced)
    rename(part, path)
    shutil.rmtree(replaced, ignore_errors=True)


def _copy_to_store(part: Path, path: Path) -> None:
    """Copy all files except hidden folders into an object store; it looks whole only at the end.

    A data set without `zarr.json` is none: that is deleted first and written last. What was
    copied is deleted here, unless somebody keeps notes beside it.
    """
    head = path / "zarr.json"
    if head.exists():
        head.unlink()
    files = sorted(file for file in part.rglob("*") if file.is_file())
    wanted = {
        file.relative_to(part).as_posix(): file
        for file in files
        if not any(name.startswith(".") for name in file.relative_to(part).parts)
    }
    old = [entry for entry in path.rglob("*") if entry.is_file()] if path.is_dir() else []
    for entry in old:
        if entry.as_posix().removeprefix(f"{path.as_posix()}/") not in wanted:
            entry.unlink()
    del wanted["zarr.json"]
    for name, file in wanted.items():
        (path / name).fs.put_file(str(file), (path / name).path)  # type: ignore[attr-defined]
    head.write_text((part / "zarr.json").read_text(encoding="utf-8"), encoding="utf-8")
    if not any(entry.name.startswith(".") for entry in part.iterdir()):
        shutil.rmtree(part)


def write_table(folder: Path, table: pd.DataFrame, kept: str = KEPT, again: str = RESUMES) -> None:
    """Write the rows of a data set; `UserError` where the disk does not take them.

    What is left out is in no split (`settled`).
    """
    text = settled(table).to_csv(index=False, lineterminator="\n")
    write_whole(folder / TABLE_NAME, text, kept, again)


def read_table(folder: Path) -> pd.DataFrame:
    """The rows of a data set; text stays text ("001", "NA"), empty text is "".

    Text are also all columns behind those of the writer: labels of users. In data sets of before
    `split` named one for samples that are left out as well; it is empty here.

    Raises
    ------
    DamagedData
        The table is missing or damaged.
    """
    file = folder / TABLE_NAME
    try:
        content = file.read_text(encoding="utf-8")
        names = list(pd.read_csv(io.StringIO(content), nrows=0).columns)
        written = names.index(LAST_COLUMN) + 1 if LAST_COLUMN in names else len(names)
        text = [*TEXT_COLUMNS, *names[written:]]
        table = pd.read_csv(
            io.StringIO(content),
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values={name: [""] for name in names if name not in text},
            index_col=False,
        )
    except (OSError, ValueError) as error:
        raise _damaged(file, f"cannot be read ({str(error).splitlines()[0][:100]})") from None
    return settled(_checked(table, file))


def _checked(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The table, if it holds what it must."""
    numbers = table.get("sample")
    if numbers is None or not np.array_equal(numbers, np.arange(len(table))):
        raise _damaged(file, "does not number its samples 0, 1, 2, ...")
    for name, allowed in _VALUES.items():
        wrong = ~table[name].isin(allowed) if name in table.columns else pd.Series(False)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise _damaged(file, f"has the {name} '{table[name].iloc[row]}' in line {row + 2}")
    return table


_VALUES = {"split": (*SPLITS, ""), LEFT_OUT_OF: (*SPLITS, ""), "keep": ("yes", "no", "")}


def _damaged(file: Path, problem: str) -> DamagedData:
    return DamagedData(
        "the table", problem, file=file, hint="Take it from a copy, or build the data set again."
    )
