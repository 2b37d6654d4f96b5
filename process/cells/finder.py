"""White cells of a scan: their places on the slide, each cell once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.errors import UserError, about
from plsctl.acquire.plans.crops import CROP_PX
from plsctl.acquire.store.folder import ScanFolder, load_transform
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PositionRecord
from plsctl.process.cells.table import COLUMNS, write_cells
from plsctl.process.segmentation.segment import segment, slide_settings
from plsctl.process.segmentation.settings import SegmentationSettings

SAME_CELL_UM = 5.0
"""Two finds closer than this, in overlapping fields, are one cell."""

MARGIN_PX = 5
"""Room for the fine alignment, beyond the crop (papers/002 section 3.1.3)."""

FIELDS_FOR_STAIN = 8
"""Number of fields, spread over the slide, from which the strength of the stain is measured."""

FAINT = 0.45
"""Smudge cells: nuclei whose chromatin stands out less than this share of what is usual."""


class StainedCellFinder:
    """Finds the white cells of a scan's stained pass and writes them into `cells.csv`."""

    def __init__(self, settings: SegmentationSettings | None = None) -> None:
        self._settings = settings or SegmentationSettings()

    def find(self, scan: ScanFolder | Path) -> int:
        """Write `cells.csv` (one row per cell, slide micrometres); the number of cells.

        Raises
        ------
        UserError
            The scan has no stained pass, or no white cell is found in it.
        """
        folder = scan if isinstance(scan, ScanFolder) else ScanFolder(scan)
        table = find_cells(folder, self._settings)
        if table.empty:
            raise UserError(
                "no white cell was found in the stained pass.",
                file=folder.path,
                hint="Look at its images: is the slide stained, in focus and of the right region?",
            )
        write_cells(folder, table)
        return len(table)


def find_cells(
    folder: ScanFolder | str | Path, settings: SegmentationSettings | None = None
) -> pd.DataFrame:
    """White cells of a scan's stained pass, columns as `COLUMNS`; ones at the border are left out.

    Raises
    ------
    UserError
        The scan has no stained pass.
    """
    if not isinstance(folder, ScanFolder):
        folder = ScanFolder(folder)
    settings = settings or SegmentationSettings()
    reader = folder.open_pass("stained")
    transform = load_transform(folder)
    scaled = settings.model_copy(update={"pixel_um": reader.attributes.pixel_um})
    names = reader.names[:: max(1, len(reader.names) // FIELDS_FOR_STAIN)]
    with about(reader.path):
        tuned = slide_settings((reader.brightfield(name) for name in names), scaled)
    rows = [
        row
        for position in reader.positions
        for row in _position_rows(reader, position, transform, tuned)
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS[1:], "border_px"])
    table = _without_smudges(_once(table), tuned.strength).drop(columns="border_px")
    table.insert(0, "cell", range(1, len(table) + 1))
    return table


def _without_smudges(table: pd.DataFrame, limit: float | None) -> pd.DataFrame:
    """Leave out cells whose chromatin hardly passes the limit while that of others clearly does."""
    if limit is None or len(table) < 10:
        return table
    usual = float(table["strength"].median()) - limit
    return table[table["strength"] - limit >= FAINT * usual].reset_index(drop=True)


def _position_rows(
    reader: PassReader,
    position: PositionRecord,
    transform: SlideTransform,
    settings: SegmentationSettings,
) -> list[tuple[object, ...]]:
    image = reader.brightfield(position.name)
    height, width = image.shape[:2]
    axes = reader.attributes.stage_axes(position, (width, height))
    rows: list[tuple[object, ...]] = []
    with about(reader.path / position.name):
        found = segment(image, settings)
        if found.cannot_judge is not None:
            raise UserError(
                f"white cells cannot be told in this image: {found.cannot_judge}.",
                hint="Look at it; scan the pass again with the right light, exposure and region.",
            )
    for cell in found.cells:
        x, y = cell.centre_x, cell.centre_y
        border = min(x, y, width - 1 - x, height - 1 - y)
        if border < CROP_PX / 2 + MARGIN_PX:
            continue
        stage = axes.to_um(x, y)
        place = (*transform.invert(*stage), *stage, x, y)
        rows.append(
            (position.name, *place, cell.width, cell.height, cell.area, cell.strength, border)
        )
    return rows


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """Of several finds of one cell, keep the one farthest from its image's border."""
    ordered = table.sort_values("border_px", ascending=False, kind="stable")
    places = ordered[["x_um", "y_um"]].to_numpy(dtype=float)
    kept: list[int] = []
    for index, place in enumerate(places):
        if not kept or np.min(np.linalg.norm(places[kept] - place, axis=1)) >= SAME_CELL_UM:
            kept.append(index)
    return ordered.iloc[sorted(kept)].sort_index().reset_index(drop=True)
