"""Labels from elsewhere: a table of the user's joined to the rows of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.tables import number, read_table, whole_number
from plsctl.acquire.words import counted
from plsctl.process.dataset.format import LAST_COLUMN, TEXT_COLUMNS

KEYS = ("sample", "slide", "position", "cell")
"""Columns by which rows are found; those of them that a file has must name its rows uniquely."""

NUMBERED = ("sample", "cell")
"""Those of them that are whole numbers."""

PLACE = ("x_um", "y_um")
SAME_PLACE_UM = 5.0
"""A label given by its place goes to the nearest sample of the slide within this distance."""

FREE = ("type", "patient", "stain", "flags")
"""Columns of a data set that labels may fill; its other columns record how it was made."""


@dataclass(frozen=True)
class Labelled:
    """The rows with labels, how many of them got some, and how many labels found no sample."""

    table: pd.DataFrame
    matched: int
    unused: int

    @property
    def sentence(self) -> str:
        """The message for the user."""
        have = "has a label" if self.matched == 1 else "have labels"
        text = f"{self.matched} of {counted(len(self.table), 'sample')} {have}"
        if not self.unused:
            return f"{text}."
        are = "is" if self.unused == 1 else "are"
        return f"{text}; {counted(self.unused, 'label')} {are} of no sample."


def read_labels(path: Path) -> pd.DataFrame:
    """A table of labels: CSV, tab-separated where the name ends in .tsv; text stays text.

    Its index are the lines of the file. Numbers of samples and cells may end in `.0`, as a
    spreadsheet or pandas writes them.

    Raises
    ------
    UserError
        If the file cannot be read, a number or a place is none, or `keep` is neither yes nor no.
    """
    rows = read_table(path, (), "\t" if path.suffix == ".tsv" else ",")
    for line, row in rows:
        for name in (*NUMBERED, *PLACE):
            if not row.get(name) and name not in PLACE:
                continue
            if name in NUMBERED:
                row[name] = str(whole_number(row, name, path, line))
            elif set(PLACE) <= set(row) and not set(NUMBERED) & set(row):
                number(row, name, path, line)
        if row.get("keep", "") not in ("", "yes", "no"):
            raise UserError(
                f"keep = '{row['keep']}' is no decision.",
                file=path,
                line=line,
                field="keep",
                hint="Write yes, no, or nothing.",
            )
    lines = pd.Index([line for line, _ in rows], name="line")
    table = pd.DataFrame([row for _, row in rows], dtype=str, index=lines)
    return table.drop(columns="", errors="ignore")


def join_labels(table: pd.DataFrame, labels: pd.DataFrame, file: Path) -> Labelled:
    """Add the columns of a table of labels to the rows of a data set.

    Rows are found by the columns `sample`, `slide`, `position`, `cell` that the labels have (a
    label of a slide alone goes to all of its samples), or by `slide`, `x_um`, `y_um`. Where a
    label is empty, what the data set says stays.

    Raises
    ------
    UserError
        If there is nothing to find rows by, a row is named twice, a column of the data set would
        be replaced that says how it was made, or no label finds a sample.
    """
    by_place = set(PLACE) <= set(labels.columns) and not {"sample", "cell"} & set(labels.columns)
    keys = ["slide", *PLACE] if by_place else [name for name in KEYS if name in labels.columns]
    missing = [name for name in keys if name not in table.columns or name not in labels.columns]
    if not keys or missing:
        raise UserError(
            "the labels do not say which samples they are of.",
            file=file,
            line=1,
            hint="Give a column sample, or some of slide, position and cell, "
            "or slide, x_um and y_um.",
        )
    values = [name for name in labels.columns if name not in keys]
    taken = [name for name in values if name in table.columns and name not in FREE]
    own = [name for name in taken if not _is_label(table, name)]
    if own or not values:
        raise UserError(
            f"the column {own[0]} says how the data set was made and cannot be a label."
            if own
            else "there is no column of labels in it.",
            file=file,
            line=1,
            hint="Leave only the columns that name samples, and those of labels."
            if own
            else "Add one, such as type.",
        )
    _refuse_nameless(labels, keys, file)
    _refuse_twice(labels, keys, file)
    _refuse_counted_from_one(table, labels, keys, file)
    rows = _by_place(table, labels) if by_place else _by_keys(table, labels, keys)
    found = rows >= 0
    if not found.any():
        raise UserError(
            f"none of its {len(labels)} rows names a sample of the data set by {', '.join(keys)}.",
            file=file,
            hint="Compare with `plsctl dataset table`.",
        )
    joined = table.copy()
    for name in values:
        new = pd.Series("", index=table.index, dtype=object)
        new[found] = labels[name].to_numpy()[rows[found]]
        old = _as_text(joined[name]) if name in joined.columns else ""
        joined[name] = new.where(new != "", old)
    return Labelled(joined, int(found.sum()), len(set(range(len(labels))) - set(rows[found])))


def _is_label(table: pd.DataFrame, name: str) -> bool:
    """Whether a column came from labels before: those stand behind what the writer puts last."""
    names = list(table.columns)
    last = names.index(LAST_COLUMN) if LAST_COLUMN in names else len(names)
    return name not in TEXT_COLUMNS and names.index(name) > last


def _as_text(column: pd.Series) -> pd.Series[str]:
    """A column as it was written: whole numbers beside empty ones are read back as 43.0."""
    return column.convert_dtypes().astype("string").fillna("").astype(object)


def _refuse_nameless(labels: pd.DataFrame, keys: list[str], file: Path) -> None:
    """UserError where a row does not say which samples it is of."""
    for key in keys:
        empty = (labels[key] == "").to_numpy()
        if empty.any():
            raise UserError(
                f"{key} is empty.",
                file=file,
                line=int(labels.index[int(empty.argmax())]),
                field=key,
                hint="Fill it in, or delete the row.",
            )


def _refuse_twice(labels: pd.DataFrame, keys: list[str], file: Path) -> None:
    twice = labels.duplicated(keys)
    if bool(twice.any()):
        place = int(twice.to_numpy().argmax())
        named = ", ".join(f"{key} {labels[key].iloc[place]}" for key in keys)
        raise UserError(
            f"{named} is named twice.",
            file=file,
            line=int(labels.index[place]),
            hint="Keep one row of it.",
        )


def _refuse_counted_from_one(
    table: pd.DataFrame, labels: pd.DataFrame, keys: list[str], file: Path
) -> None:
    """UserError where sample numbers go from 1 to the number of samples."""
    if "sample" not in keys:
        return
    numbers = [int(text) for text in labels["sample"] if text]
    if numbers and min(numbers) > 0 and max(numbers) == len(table):
        line = int(labels.index[labels["sample"] == str(len(table))][0])
        raise UserError(
            f"there is no sample {len(table)}: {counted(len(table), 'sample')} are numbered from "
            f"0 to {len(table) - 1}.",
            file=file,
            line=line,
            field="sample",
            hint="Count from 0, as plsctl dataset table does.",
        )


def _by_keys(table: pd.DataFrame, labels: pd.DataFrame, keys: list[str]) -> np.ndarray:
    """Row of the labels for each sample, -1 where there is none; shape (sample,)."""
    wanted = pd.MultiIndex.from_frame(labels[keys])
    return np.asarray(wanted.get_indexer(pd.MultiIndex.from_frame(table[keys].apply(_as_text))))


def _by_place(table: pd.DataFrame, labels: pd.DataFrame) -> np.ndarray:
    """Row of the labels for each sample, the nearest pairs first."""
    places = labels[list(PLACE)].astype(float).to_numpy()
    rows = np.full(len(table), -1)
    for slide, mine in labels.groupby("slide"):
        samples = np.flatnonzero(table["slide"].astype(str) == str(slide))
        if not len(samples):
            continue
        tree = cKDTree(table[list(PLACE)].to_numpy(dtype=float)[samples])
        numbers = labels.index.get_indexer(mine.index)
        distances, nearest = tree.query(places[numbers], distance_upper_bound=SAME_PLACE_UM)
        for which in np.argsort(distances, kind="stable"):
            if np.isfinite(distances[which]) and rows[samples[nearest[which]]] < 0:
                rows[samples[nearest[which]]] = numbers[which]
    return rows
