"""What became of the cells of a scan in a data set, noted in its `cells.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from plsctl.acquire.store.folder import ScanFolder
from plsctl.process.building.kept_samples import CutPosition
from plsctl.process.cells.table import read_cells, write_cells


def note_fates(
    folder: ScanFolder,
    slide: str,
    table: pd.DataFrame,
    positions: Sequence[CutPosition],
) -> None:
    """Write into `cells.csv` what became of each cell, and where and how well it was matched.

    What the cell finder wrote stays as it is: passes and other builds rely on it.
    """
    fates: Mapping[int, str] = {
        cell: fate for done in positions for cell, fate in done.fates.items()
    }
    cells = read_cells(folder)
    cells["fate"] = [fates.get(int(cell), "") for cell in cells["cell"]]
    mine = table[table["slide"] == slide].set_index("cell")
    for name in ("x_um", "y_um"):
        cells[f"matched_{name}"] = cells["cell"].map(mine[name])
    for name in ("score_20x", "score_100x"):
        if name in mine.columns:
            cells[name] = cells["cell"].map(mine[name])
    write_cells(folder, cells, decimals=4)
