"""The simulated world at each image of a scan, and a data set's samples held against it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.scanning.scan import Scan
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PASSES, PassName
from plsctl.sim.backend import open_world
from plsctl.sim.smear.cells import Cell
from plsctl.sim.world.world import World

Floats = NDArray[np.float64]

MARGIN_PX = 37
"""Half a crop and the reach of the fine alignment (papers/002 section 3.1.3)."""


@dataclass(frozen=True)
class Comparison:
    """One value a white cell to be found (`found`), one a sample (`right`: is a white cell).

    Errors, in 20x pixels, are those of the right samples.
    """

    found: NDArray[np.bool_]
    right: NDArray[np.bool_]
    match_px: Floats
    highres_px: Floats


def compare(scan: Scan, table: pd.DataFrame) -> Comparison:
    """Samples of a data set's table against the truth of the scan they were cut from."""
    worlds = _Worlds(scan)
    unstained = worlds.places("unstained", table, ("position", "pixel_x", "pixel_y"))
    stained = worlds.places("stained", table, ("position", "stained_x", "stained_y"))
    highres = worlds.places("highres", table, ("highres", "highres_x", "highres_y"))
    cells = worlds.white_cells()
    centres = np.array([(cell.x_um, cell.y_um) for cell in cells])
    distances = np.linalg.norm(unstained[:, None] - centres[None], axis=2)
    nearest = [cells[index] for index in distances.argmin(axis=1)]
    right = distances.min(axis=1) < [cell.diameter_um / 2 for cell in nearest]
    found = {cell.id for cell, ok in zip(nearest, right, strict=True) if ok}
    moved = np.array([(cell.shift_x_um, cell.shift_y_um) for cell in nearest])
    pixel_um = worlds.pixel_um
    return Comparison(
        np.array([cell.id in found for cell in cells if worlds.must_be_found(cell)]),
        right,
        np.linalg.norm(unstained + moved - stained, axis=1)[right] / pixel_um,
        np.linalg.norm(highres - stained, axis=1)[right] / pixel_um,
    )


class _Worlds:
    """The world as it was at each position of each pass."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._readers = {name: scan.folder.open_pass(name) for name in PASSES}
        self.pixel_um = self._readers["unstained"].attributes.pixel_um
        self._maps: dict[tuple[PassName, str], tuple[Floats, Floats]] = {}

    def places(self, name: PassName, table: pd.DataFrame, columns: tuple[str, ...]) -> Floats:
        """True slide positions of pixels, from where the stage really stood; shape (n, 2)."""
        found = []
        for position, x, y in table[list(columns)].itertuples(index=False):
            origin, axes = self._map(name, position)
            found.append(origin + axes @ np.array([float(x), float(y)]))
        return np.array(found)

    def white_cells(self) -> list[Cell]:
        """White cells in and around the region that staining does not wash off."""
        region = self._scan.slide.region
        (x_low, x_high), (y_low, y_high) = region.x_um, region.y_um
        smear = open_world(self._scan.hardware).smear
        found = smear.cells(x_low - 600, y_low - 400, x_high + 600, y_high + 400)
        return [cell for cell in found if cell.is_white and not cell.lost]

    def must_be_found(self, cell: Cell) -> bool:
        """Whether the cell's box lies well inside the area common to both passes, at a position."""
        width, height = self._scan.hardware.camera.size_px
        reach = math.hypot(width, height) / 2 * self.pixel_um
        return any(
            min(self._margin_px(name, p.name, cell) for name in ("unstained", "stained"))
            >= MARGIN_PX
            for p in self._readers["unstained"].positions
            if math.dist((p.slide_x_um, p.slide_y_um), (cell.x_um, cell.y_um)) < reach
        )

    def _margin_px(self, name: PassName, position: str, cell: Cell) -> float:
        """Distance of the cell's box from the image's border."""
        width, height = self._scan.hardware.camera.size_px
        origin, axes = self._map(name, position)
        place = np.array(cell.position(name != "unstained"))
        x, y = np.linalg.solve(axes, place - origin)
        half = cell.diameter_um / 2 / self.pixel_um
        return float(min(x, y, width - 1 - x, height - 1 - y) - half)

    def _map(self, name: PassName, position: str) -> tuple[Floats, Floats]:
        """Origin (2,) and axes (2, 2) of the affine map from a position's pixels to the slide."""
        key = (name, position)
        if key not in self._maps:
            world = self._world(name)
            arrive(world, self._readers[name], position)
            origin = np.array(world.to_slide(0, 0))
            columns = [np.array(world.to_slide(*unit)) - origin for unit in ((1, 0), (0, 1))]
            self._maps[key] = origin, np.column_stack(columns)
        return self._maps[key]

    def _world(self, name: PassName) -> World:
        world = open_world(self._scan.hardware)
        if name != "unstained":
            world.stain()
        if name == "highres":
            world.turn_to("100x")
        return world


def arrive(world: World, reader: PassReader, position: str) -> None:
    """Bring the simulated stage to where it stood for a position, its error included."""
    place = reader.position(position)
    backlash = world.hardware.stage.backlash_um
    world.move_xy(place.x_um - backlash, place.y_um - backlash)
    world.move_xy(place.x_um, place.y_um)
