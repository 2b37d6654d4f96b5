"""The positions of a pass: a grid over the region, or the cells found before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plsctl.acquire.plans.slide import Region
from plsctl.acquire.store.ome_zarr import row_name


@dataclass(frozen=True)
class Position:
    """A place of the scan grid: plate row and column (from 0) and the slide position (um)."""

    row: int
    column: int
    x_um: float
    y_um: float

    @property
    def name(self) -> str:
        """The well, e.g. `A/1`."""
        return f"{row_name(self.row)}/{self.column + 1}"


def grid_positions(region: Region, field_um: tuple[float, float]) -> tuple[Position, ...]:
    """Fields (width, height in micrometres) that cover a region, row by row in a snake."""
    x_low, x_high = region.x_um
    y_low, y_high = region.y_um
    columns = _centres(x_low, x_high, field_um[0], region.overlap)
    rows = _centres(y_low, y_high, field_um[1], region.overlap)
    positions = []
    for row, y in enumerate(rows):
        order = range(len(columns)) if row % 2 == 0 else reversed(range(len(columns)))
        positions += [Position(row, column, columns[column], y) for column in order]
    return tuple(positions)


def _centres(low: float, high: float, field: float, overlap: float) -> list[float]:
    step = field * (1 - overlap)
    count = max(1, math.ceil((high - low - field) / step - 1e-9) + 1)
    middle = (low + high) / 2
    return [middle + (index - (count - 1) / 2) * step for index in range(count)]


def cell_positions(
    cells: Sequence[tuple[float, float]], field_um: tuple[float, float]
) -> tuple[Position, ...]:
    """Fields at cells (x, y in slide micrometres): few fields, every cell well inside one.

    `field_um` is the part of the field (width, height) in which a cell must lie.
    """
    half_width, half_height = field_um[0] / 2, field_um[1] / 2
    left = sorted(cells)
    centres: list[tuple[float, float]] = []
    while left:
        x0, y0 = left[0]
        near = [
            (x, y) for x, y in left if x - x0 <= 2 * half_width and abs(y - y0) <= 2 * half_height
        ]
        # Of the windows that hold the leftmost cell, the one with the most cells.
        windows = [
            [(x, y) for x, y in near if 0 <= y - start <= 2 * half_height]
            for _, start in near
            if start <= y0
        ]
        window = max(windows, key=len)
        xs, ys = [c[0] for c in window], [c[1] for c in window]
        centres.append(((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2))
        taken = set(window)
        left = [c for c in left if c not in taken]
    ordered = _nearest_first(centres)
    return tuple(Position(0, column, x, y) for column, (x, y) in enumerate(ordered))


def _nearest_first(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A short tour: from each place to the nearest one not yet visited."""
    left, tour = list(places), []
    here = min(left, default=(0.0, 0.0))
    while left:
        here = min(left, key=lambda place: math.dist(place, here))
        left.remove(here)
        tour.append(here)
    return tour
