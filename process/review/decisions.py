"""Decisions of a review as a file: samples to keep or to drop."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.tables import read_table

Decision = Literal["yes", "no", ""]

DECISIONS: tuple[Decision, ...] = ("yes", "no", "")
NAMING = ("sample", "slide", "position", "cell")
"""Columns by which a file says which sample it means."""


def read_decisions(path: Path, table: pd.DataFrame) -> dict[int, Decision]:
    """Decisions on the samples of a table, from a CSV file with the columns sample and keep.

    Columns `slide`, `position` and `cell`, where the file has them, must agree with the table.

    Raises
    ------
    UserError
        The file cannot be read, or is of another data set.
    """
    decisions: dict[int, Decision] = {}
    for line, row in read_table(path, ("sample", "keep")):
        number, keep = row["sample"], row["keep"]
        if not number.isdecimal() or int(number) >= len(table):
            raise UserError(
                f"the data set has no sample '{number}'.", file=path, line=line, field="sample"
            )
        if keep not in DECISIONS:
            raise UserError(
                f"'{keep}' is no decision.",
                file=path,
                line=line,
                field="keep",
                hint="Give yes, no, or nothing.",
            )
        if int(number) in decisions:
            raise UserError(
                f"sample {int(number)} stands there twice.",
                file=path,
                line=line,
                field="sample",
                hint="Keep one decision about it.",
            )
        _refuse_other(row, table.iloc[int(number)], path, line)
        decisions[int(number)] = keep
    return decisions


def _refuse_other(row: dict[str, str], sample: pd.Series, path: Path, line: int) -> None:
    """Raise if a decision names another cell than the data set holds under its number."""
    for name in NAMING[1:]:
        if name in row and name in sample.index and str(sample[name]) != row[name]:
            raise UserError(
                f"sample {row['sample']} has {name} {sample[name]} in the data set, not "
                f"{row[name]}.",
                file=path,
                line=line,
                field=name,
                hint="These decisions were made for another data set.",
            )
