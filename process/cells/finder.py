"""White cells of a scan: their places on the slide, each cell once."""

from __future__ import annotations

import math
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
from plsctl.process.matching.fine_alignment import reach_in_pixels
from plsctl.process.segmentation.object_kinds import is_weak
from plsctl.process.segmentation.segment import segment, slide_settings
from plsctl.process.segmentation.settings import SegmentationSettings

SAME_CELL_UM = 5.0
"""Two finds closer than this, in overlapping fields, are one cell."""

FIELDS_FOR_STAIN = 8
"""Number of fields, spread over the slide, from which the strength of the stain is measured."""

FAINT = 0.45
"""Smudge cells: nuclei whose chromatin stands out less than this share of what is usual."""

ENOUGH_CELLS = 10
"""So many white cells of a slide say what is usual on it."""

OWN = ("border_px", "red_cells", "smudge")
"""Columns that are not written: distance from the border, area of the nucleus in red-cell areas,
and whether the cell's own field takes it for a smudge."""


class StainedCellFinder:
    """Finds the white cells of a scan's stained pass and writes them into `cells.csv`.

    Parameters
    ----------
    crop_px
        Side of what a build will cut around each cell, its margins included.
    """

    def __init__(
        self, settings: SegmentationSettings | None = None, crop_px: int = CROP_PX
    ) -> None:
        self._settings, self._crop_px = settings or SegmentationSettings(), crop_px

    def find(self, scan: ScanFolder | Path) -> int:
        """Write `cells.csv` (one row per cell, slide micrometres); the number of cells.

        Raises
        ------
        UserError
            The scan has no stained pass, or no white cell is found in it.
        """
        folder = scan if isinstance(scan, ScanFolder) else ScanFolder(scan)
        table = find_cells(folder, self._settings, self._crop_px)
        if table.empty:
            raise UserError(
                "no white cell was found in the stained pass.",
                file=folder.path,
                hint="Look at its images: is the slide stained, in focus and of the right region?",
            )
        write_cells(folder, table)
        return len(table)


def find_cells(
    folder: ScanFolder | str | Path,
    settings: SegmentationSettings | None = None,
    crop_px: int = CROP_PX,
) -> pd.DataFrame:
    """White cells of a scan's stained pass, columns as `COLUMNS`.

    Those whose crop, with room for the fine alignment, reaches beyond their field are left out.

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
        for row in _position_rows(reader, position, transform, tuned, crop_px)
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS[1:], *OWN])
    table = _without_smudges(_once(table), tuned.strength)
    table = table.drop(columns=list(OWN))
    table.insert(0, "cell", range(1, len(table) + 1))
    return table


def room_px(crop_px: int, pixel_um: float) -> float:
    """Least distance of a cell from the border of its field (papers/002 section 3.1.3)."""
    return crop_px / 2 + reach_in_pixels(pixel_um)


def _without_smudges(table: pd.DataFrame, limit: float | None) -> pd.DataFrame:
    """Leave out smudge cells, compared with the white cells of the whole slide.

    A field with few cells cannot tell a pale monocyte from a smudge; the slide can.
    """
    certain = table[~table["smudge"].astype(bool)]
    if limit is None or len(certain) < ENOUGH_CELLS:
        return certain.reset_index(drop=True)
    usual = float(certain["strength"].median())
    strength = table["strength"].to_numpy(np.float64)
    weak = is_weak(strength, table["red_cells"].to_numpy(np.float64), usual)
    faint = strength - limit < FAINT * (usual - limit)
    return table[~(weak & (faint | table["smudge"].astype(bool)))].reset_index(drop=True)


def _position_rows(
    reader: PassReader,
    position: PositionRecord,
    transform: SlideTransform,
    settings: SegmentationSettings,
    crop_px: int,
) -> list[tuple[object, ...]]:
    image = reader.brightfield(position.name)
    height, width = image.shape[:2]
    axes = reader.attributes.stage_axes(position, (width, height))
    room = room_px(crop_px, reader.attributes.pixel_um)
    rows: list[tuple[object, ...]] = []
    with about(reader.path / position.name):
        found = segment(image, settings)
        if found.cannot_judge is not None:
            raise UserError(
                f"white cells cannot be told in this image: {found.cannot_judge}.",
                hint="Look at it; scan the pass again with the right light, exposure and region.",
            )
    red_cell_area = math.pi / 4 * found.red_cell_px**2
    smudges = (other for other in found.others if other.kind == "smudge")
    for cell in (*found.cells, *smudges):
        x, y = cell.centre_x, cell.centre_y
        border = min(x, y, width - 1 - x, height - 1 - y)
        if border < room:
            continue
        stage = axes.to_um(x, y)
        place = (*transform.invert(*stage), *stage, x, y)
        size = (cell.width, cell.height, cell.area)
        own = (border, cell.nucleus_area / red_cell_area, cell.kind == "smudge")
        rows.append((position.name, *place, *size, cell.strength, *own))
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
