"""CSV tables read by name of column; mistakes are named with their line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.shipped import shipped_hint
from plsctl.acquire.files.texts import read_text


def read_table(
    path: Path, columns: Iterable[str], separator: str = ","
) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV table with their line numbers; the named columns must be there.

    Blanks around values are dropped, and so are rows without any value.

    Raises
    ------
    UserError
        The table is missing, empty, not in UTF-8, parted by other signs than commas, or lacks a
        column; or a row has more values than there are columns.
    """
    wanted = list(columns)
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError("there is no such table.", file=path, hint=shipped_hint(path)) from None
    if not text.strip():
        needed = f"Needed: {', '.join(wanted)}." if wanted else "Write a line of names first."
        raise UserError("the table is empty.", file=path, line=1, hint=needed)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines = _lines(reader, path)
    names = [name.strip() for name in next(lines)]
    _check_names(names, wanted, path)
    rows = []
    for values in lines:
        cells = [value.strip() for value in values]
        if not any(cells):
            continue
        if any(cells[len(names) :]):
            raise UserError(
                f"this row has {len(cells)} values, and the table has {len(names)} columns.",
                file=path,
                line=reader.line_num,
                field=names[-1],
                hint="Write numbers with a point (0.5), not with a comma.",
            )
        rows.append((reader.line_num, dict(zip(names, cells + [""] * len(names), strict=False))))
    if not rows:
        raise UserError(
            "the table has no rows.", file=path, line=2, hint="Write a row below the names."
        )
    return rows


def _lines(reader: Any, path: Path) -> Iterator[list[str]]:
    """The values of each line; `UserError` where quotes do not fit."""
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(
            f"this row cannot be read ({error}).",
            file=path,
            line=reader.line_num,
            hint='Close every quote ("), and write two of them for one inside a value.',
        ) from None


def _check_names(names: list[str], wanted: list[str], path: Path) -> None:
    """`UserError` where the first line is not that of the table."""
    missing = next((name for name in wanted if name not in names), None)
    _refuse_other_separator(names, missing, path)
    if missing is None:
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            raise UserError(
                f"the column '{twice}' is there twice.", file=path, line=1, field=twice,
                hint="Keep one of them.",
            )  # fmt: skip
        return
    raise UserError(
        f"the table lacks the column '{missing}'; it has {', '.join(names)}.",
        file=path,
        line=1,
        field=missing,
        hint=f"Needed: {', '.join(wanted)}.",
    )


def _refuse_other_separator(names: list[str], missing: str | None, path: Path) -> None:
    for sign, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "'|'"), (",", "commas")):
        if len(names) == 1 and sign in names[0]:
            raise UserError(
                f"the columns are parted by {called}.", file=path, line=1, field=missing,
                hint="Save the table as CSV with commas, numbers with a point (0.5); a "
                "spreadsheet set to English does.",
            )  # fmt: skip


def number(row: dict[str, str], column: str, path: Path, line: int) -> float:
    """A finite number from a table's row; `UserError` with the place if it is none."""
    try:
        value = math.nan if "_" in row[column] else float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"{_shown(row, column)} is not a number.",
            file=path,
            line=line,
            field=column,
            hint="Write it with a point, such as 0.5." if "," in row[column] else None,
        ) from None
    return value


def whole_number(row: dict[str, str], column: str, path: Path, line: int) -> int:
    """A whole number from a table's row; `UserError` with the place if it is none."""
    value = number(row, column, path, line)
    if not value.is_integer():
        raise UserError(
            f"{_shown(row, column)} is not a whole number.", file=path, line=line, field=column
        )
    return int(value)


def _shown(row: dict[str, str], column: str) -> str:
    """A value with its column: `x_mm = 'x'`, or that there is none."""
    return f"{column} = '{row[column]}'" if row[column] else f"{column} is empty, which"
