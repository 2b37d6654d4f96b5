"""The positions of a pass: a grid over the region, or the cells found before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.plans.slide import Region
from plsctl.acquire.store.ome_zarr import row_name

TOUR_ROUNDS, TOUR_REACH = 20, 2000
"""Of the search for a short tour: rounds, and places ahead that are looked at."""

SAME_UM = 1.0
"""A field that was taken nearer than this to where one is planned is that one."""


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
    ordered = _short_tour(centres)
    return tuple(Position(0, column, x, y) for column, (x, y) in enumerate(ordered))


def _short_tour(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The places in an order of little travel: nearest first, then without crossings (2-opt)."""
    tour = np.array([complex(*place) for place in _nearest_first(places)])
    for _ in range(TOUR_ROUNDS):
        before = float(np.abs(np.diff(tour)).sum())
        for start in range(len(tour) - 2):
            _turn_round(tour, start)
        if float(np.abs(np.diff(tour)).sum()) > before - 1.0:
            break
    return [(float(place.real), float(place.imag)) for place in tour]


def _turn_round(tour: NDArray[np.complex128], start: int) -> None:
    """Reverse the part after a place that saves the most travel, if one does; in place."""
    here, following = tour[start], tour[start + 1]
    ends = tour[start + 2 : start + 2 + TOUR_REACH]
    beyond = tour[start + 3 : start + 3 + TOUR_REACH]
    added = np.abs(ends - here) - abs(following - here)
    # The last place of the tour leads nowhere.
    added[: len(beyond)] += np.abs(beyond - following) - np.abs(beyond - ends[: len(beyond)])
    best = int(added.argmin())
    if added[best] < -1e-6:
        end = start + 3 + best
        tour[start + 1 : end] = tour[start + 1 : end][::-1].copy()


def _nearest_first(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """From each place to the nearest one not yet visited."""
    left, tour = list(places), []
    here = min(left, default=(0.0, 0.0))
    while left:
        here = min(left, key=lambda place: math.dist(place, here))
        left.remove(here)
        tour.append(here)
    return tour


def keep_taken(
    planned: tuple[Position, ...],
    taken: Sequence[Position],
    cells: Sequence[tuple[float, float]],
    field_um: tuple[float, float],
) -> tuple[Position, ...]:
    """Fields of a pass at cells that goes on, when the cells may have been found anew since.

    Parameters
    ----------
    planned
        Fields at all cells, as `cell_positions` gives them.
    taken
        Those that are finished. They stay as they are; cells that lie well inside one of them are
        not visited again.
    cells, field_um
        As of `cell_positions`.
    """
    by_name = {position.name: position for position in planned}
    if all(_is_same(position, by_name.get(position.name)) for position in taken):
        return planned
    half_width, half_height = field_um[0] / 2 + SAME_UM, field_um[1] / 2 + SAME_UM
    left = [
        (x, y)
        for x, y in cells
        if not any(abs(x - p.x_um) <= half_width and abs(y - p.y_um) <= half_height for p in taken)
    ]
    first = max(position.column for position in taken) + 1
    further = [
        replace(position, column=position.column + first)
        for position in cell_positions(left, field_um)
    ]
    return (*taken, *further)


def _is_same(taken: Position, planned: Position | None) -> bool:
    there = None if planned is None else (planned.x_um, planned.y_um)
    return there is not None and math.dist((taken.x_um, taken.y_um), there) <= SAME_UM
