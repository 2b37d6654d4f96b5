"""`cells.csv` of a scan: the white cells of its stained pass, one in each row."""

from __future__ import annotations

import pandas as pd

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.tables import number, read_table
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.store.folder import ScanFolder

COLUMNS = (
    "cell",
    "position",
    "x_um",
    "y_um",
    "stage_x_um",
    "stage_y_um",
    "pixel_x",
    "pixel_y",
    "width_px",
    "height_px",
    "area_px",
    "strength",
)
"""Columns that the cell finder writes; builds add the outcome of each cell."""

NUMBERS = ("cell", "x_um", "y_um", "pixel_x", "pixel_y", "width_px", "height_px", "area_px")
"""Columns required besides the position, also in a table made by hand."""


def write_cells(folder: ScanFolder, table: pd.DataFrame, decimals: int = 3) -> None:
    """Replace `cells.csv` of a scan.

    Raises
    ------
    UserError
        The disk does not take it.
    """
    write_whole(folder.cells, table.to_csv(index=False, float_format=f"%.{decimals}f"))


def read_cells(folder: ScanFolder) -> pd.DataFrame:
    """`cells.csv` of a scan; what is not among `NUMBERS` is text, as it stands there.

    Raises
    ------
    UserError
        When a column is missing, a value is not a number, or two cells have one number.
    """
    path = folder.cells
    rows = read_table(path, ())
    table = pd.DataFrame([row for _, row in rows], dtype=str)
    missing = [name for name in [*NUMBERS, "position"] if name not in table.columns]
    if missing:
        raise UserError(
            f"the column {missing[0]} is missing.",
            file=folder.cells,
            hint="Delete the file and run plsctl find-cells.",
        )
    for name in NUMBERS:
        for line, row in rows:
            number(row, name, path, line)
        table[name] = pd.to_numeric(table[name])
    twice = table["cell"].duplicated()
    if bool(twice.any()):
        place = int(twice.to_numpy().argmax())
        raise UserError(
            f"the number {table['cell'].iloc[place]} stands there twice.",
            file=path,
            line=rows[place][0],
            field="cell",
            hint="Number the cells anew, or delete the file and run plsctl find-cells.",
        )
    return table
