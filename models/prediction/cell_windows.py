"""Where the white cells of a scan lie in the images of its unstained pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from plsctl.acquire.errors import UserError
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.reader import PassReader
from plsctl.models.prediction.tiles import Place
from plsctl.process.cells.table import read_cells


class CellPlaces:
    """Windows around the cells of `cells.csv`.

    Parameters
    ----------
    scan
        The scan's folder.
    side_px
        Side of the windows.

    Raises
    ------
    UserError
        If the scan has no `cells.csv`, or it cannot be read.
    """

    def __init__(self, scan: Path, side_px: int) -> None:
        folder = ScanFolder(scan)
        if not folder.cells.is_file():
            raise UserError(
                "there is no cells.csv, which says where the cells are.",
                file=scan,
                hint="Make it with plsctl find-cells, or leave --cells-only out.",
            )
        self._cells: pd.DataFrame = read_cells(folder)
        self._side_px = side_px

    def of(self, reader: PassReader, name: str, shape: tuple[int, int]) -> list[Place]:
        """Rows and columns of the windows in a position's images of that (height, width).

        Windows are moved inside the image; cells that lie outside of it have none.
        """
        height, width = shape
        axes = reader.attributes.slide_axes(reader.position(name), (width, height))
        windows = []
        for x_um, y_um in self._cells[["x_um", "y_um"]].to_numpy(dtype=float):
            x, y = axes.to_px(x_um, y_um)
            if 0 <= x <= width - 1 and 0 <= y <= height - 1:
                windows.append((self._window(y, height), self._window(x, width)))
        return windows

    def _window(self, middle: float, length: int) -> slice:
        side = min(self._side_px, length)
        start = int(np.clip(round(middle - (side - 1) / 2), 0, length - side))
        return slice(start, start + side)
