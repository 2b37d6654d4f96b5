"""CSV tables read by name of column; mistakes are named with their line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from plsctl.acquire.errors import UserError


def read_table(path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV table with their line numbers; the named columns must be there."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = [name.strip() for name in reader.fieldnames or []]
            missing = [name for name in columns if name not in found]
            if missing:
                raise UserError(
                    f"the table lacks the column '{missing[0]}'; it has {', '.join(found)}.",
                    file=path,
                    line=1,
                    field=missing[0],
                    hint=f"Needed: {', '.join(columns)}.",
                )
            reader.fieldnames = found
            rows = [
                (reader.line_num, {k: (v or "").strip() for k, v in row.items() if k})
                for row in reader
            ]
    except FileNotFoundError:
        raise UserError("there is no such table.", file=path, hint="Check the name.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the table cannot be read ({error}).", file=path) from None
    if not rows:
        raise UserError("the table has no rows.", file=path)
    return rows


def number(row: dict[str, str], column: str, path: Path, line: int) -> float:
    """A finite number from a table's row; `UserError` with the place if it is none."""
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"'{row[column]}' is not a number.", file=path, line=line, field=column
        ) from None
    return value


def whole_number(row: dict[str, str], column: str, path: Path, line: int) -> int:
    """A whole number from a table's row; `UserError` with the place if it is none."""
    value = number(row, column, path, line)
    if not value.is_integer():
        raise UserError(
            f"'{row[column]}' is not a whole number.", file=path, line=line, field=column
        )
    return int(value)
