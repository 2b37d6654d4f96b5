"""Ground truth of a simulated slide, for tests of found cells and masks."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.sim.smear.cells import Cell
from plsctl.sim.smear.smear import Smear
from plsctl.sim.smear.stamping import add_stamp, spline_coefficients
from plsctl.sim.smear.view import View

CYTOPLASM, NUCLEUS = 128, 255
"""Labels of a mask, as `plsctl segment --masks` writes them; 0 is background."""


class CellTruth(TypedDict):
    """One object of a slide; positions in slide micrometres before staining.

    `stained_x_um`, `stained_y_um` tell where staining has moved it, `lost` whether staining has
    washed it off.
    """

    id: int
    type: str
    x_um: float
    y_um: float
    diameter_um: float
    stained_x_um: float
    stained_y_um: float
    lost: bool


def cells_in_region(
    smear: Smear,
    region: tuple[float, float, float, float],
    types: tuple[str, ...] | None = None,
) -> list[CellTruth]:
    """All objects whose centre lies in a region of the slide.

    Parameters
    ----------
    smear
        The slide.
    region
        x min, y min, x max, y max in slide micrometres; upper bounds are excluded.
    types
        Keep only these kinds (`plsctl.sim.smear.cells.CellType`); all if not given.

    Raises
    ------
    UserError
        The region is empty or turned around.
    """
    x_min, y_min, x_max, y_max = region
    if not (x_min < x_max and y_min < y_max):
        raise UserError(
            f"the region x {x_min} to {x_max}, y {y_min} to {y_max} um is empty.",
            hint="Give x min, y min, x max, y max.",
        )
    return [
        _truth(cell)
        for cell in smear.cells(x_min, y_min, x_max, y_max)
        if types is None or cell.type in types
    ]


def mask(smear: Smear, view: View, stained: bool = False) -> NDArray[np.uint8]:
    """Which points of a view are nucleus and which cytoplasm of a white cell.

    Parameters
    ----------
    smear
        The slide.
    view
        The grid of points.
    stained
        Cells at their place after staining, without those that were lost.

    Returns
    -------
    numpy.ndarray
        uint8 (y, x): 0, `CYTOPLASM` or `NUCLEUS`. The outline is where an edge is half-way up.
    """
    body = np.zeros(view.shape, np.float32)
    nucleus = np.zeros(view.shape, np.float32)
    for cell in smear.others(view):
        if cell.is_white and not (stained and cell.lost):
            _add_regions(smear, cell, view, stained, body, nucleus)
    labels = np.zeros(view.shape, np.uint8)
    labels[body > 0.5] = CYTOPLASM
    labels[nucleus > 0.5] = NUCLEUS
    return labels


def _truth(cell: Cell) -> CellTruth:
    stained_x, stained_y = cell.position(stained=True)
    return CellTruth(
        id=cell.id,
        type=cell.type,
        x_um=cell.x_um,
        y_um=cell.y_um,
        diameter_um=cell.diameter_um,
        stained_x_um=stained_x,
        stained_y_um=stained_y,
        lost=cell.lost,
    )


def _add_regions(
    smear: Smear,
    cell: Cell,
    view: View,
    stained: bool,
    body: NDArray[np.float32],
    nucleus: NDArray[np.float32],
) -> None:
    maps = smear.draw(cell.type, cell.shape, cell.diameter_um)
    column, row = view.to_grid(*cell.position(stained))
    where = (float(column), float(row), view.rotation_deg - cell.angle_deg)
    for layer, target in zip(
        spline_coefficients([maps.body, maps.nucleus]), (body, nucleus), strict=True
    ):
        add_stamp(layer, target, view.grid_um, where)
