"""A procedural blood smear: cells anywhere on a slide, and what they do to light.

The smear is a thin film, described on any grid of points by thickness, refractive index and
absorbance. Nothing is stored: tiles and drawn cells are made when a view needs them and kept in
small caches, so a slide of any size costs the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.sim.smear.cell_maps import CellMaps, draw_cell
from plsctl.sim.smear.cells import Cell, CellType
from plsctl.sim.smear.placing import RED, Placement, red_identity
from plsctl.sim.smear.red_cells import draw_red_cells
from plsctl.sim.smear.settings import SmearSettings
from plsctl.sim.smear.stains import HAEMOGLOBIN, make_stain
from plsctl.sim.smear.stamping import Place, Stamp, add_stamp
from plsctl.sim.smear.textures import FILM_PIXEL_UM, FILM_TILE_PX, make_textures
from plsctl.sim.smear.view import View

RED_EXCESS = 0.02
"""Refractive index of dried red cells less 1.55."""

RED_GRAIN, FILM_UM = 0.006, 0.002
"""Roughness of red cells (share of their height) and of the film between cells."""

CACHED_CELLS = 160

CELLS_AT_ONCE = 32
"""Cells drawn before they are added to a view: few enough to stay small."""

THREADS = 2
"""Red cells, parts of the film and layers worked on at a time."""

FARTHEST_REACH_UM = 25.0
"""Nothing reaches further than this from its centre."""

Image = NDArray[np.float32]

SOURCE_BLOCK_PX = 1000
"""OpenCV's cubic sampling wraps around a texture once, not twice: blocks stay below one period."""


@dataclass(frozen=True)
class Layers:
    """What light meets on a grid of points (y, x), float32.

    The optical path in a medium of index n is `index_excess_um + (1.55 - n) * thickness_um`;
    `absorbance` (3, y, x) is the natural logarithm of intensity lost at 630, 530 and 460 nm.
    """

    thickness_um: Image
    index_excess_um: Image
    absorbance: Image


class Smear:
    """One slide; the same settings always give the same one."""

    def __init__(self, settings: SmearSettings) -> None:
        self.settings = settings
        self.stain = make_stain(settings.seed, settings.stain_variation)
        self._textures = make_textures(settings.seed)
        self._placement = Placement(settings, self._textures)
        self._stamp: Callable[[CellType, int, float], Stamp] = lru_cache(CACHED_CELLS)(self._draw)

    def __reduce__(self) -> tuple[type[Smear], tuple[SmearSettings]]:
        # Caches stay behind when a smear goes to another process.
        return Smear, (self.settings,)

    def cells(
        self, x_min_um: float, y_min_um: float, x_max_um: float, y_max_um: float
    ) -> list[Cell]:
        """All objects whose centre, before staining, lies in a rectangle of the slide.

        Upper bounds are excluded, so that adjacent rectangles share no cell. Sorted by identity.
        """
        found = [
            cell
            for ix, iy, tile in self._placement.tiles(x_min_um, y_min_um, x_max_um, y_max_um)
            for cell in (*tile.other, *(_red_cell(ix, iy, record) for record in tile.red))
            if x_min_um <= cell.x_um < x_max_um and y_min_um <= cell.y_um < y_max_um
        ]
        return sorted(found, key=lambda cell: cell.id)

    def layers(self, view: View, stained: bool) -> Layers:
        """Thickness, index and absorbance on a view (grid steps of 0.15 um or finer)."""
        thickness = np.zeros(view.shape, np.float32)
        dose = np.zeros(view.shape, np.float32)
        tiles = list(self._placement.tiles(*view.bounds_um(FARTHEST_REACH_UM)))
        red = np.concatenate([np.zeros(0, RED), *(tile.red for _, _, tile in tiles)])
        excess = np.empty_like(thickness)
        absorbance = np.empty((3, *view.shape), np.float32)
        layers = Layers(thickness, excess, absorbance)
        with ThreadPoolExecutor(THREADS) as pool:
            draw_red_cells(red, view, stained, thickness, dose, pool)
            self._finish_film(view, stained, dose, layers, pool)
            others = [cell for *_, tile in tiles for cell in tile.other]
            self._add_others(others, view, stained, layers, pool)
        return layers

    def density(self, x_um: float, y_um: float) -> float:
        """Cells per area against the middle of the monolayer: 0 off the smear, 2 where thick."""
        return self._placement.density(x_um, y_um)

    def others(self, view: View) -> Iterator[Cell]:
        """Everything but red cells that may reach into a view."""
        for _, _, tile in self._placement.tiles(*view.bounds_um(FARTHEST_REACH_UM)):
            yield from tile.other

    def _finish_film(
        self, view: View, stained: bool, dose: Image, layers: Layers, pool: Executor
    ) -> None:
        """Grain on red cells and between them; from red cells' dose, absorbance everywhere."""
        colour = HAEMOGLOBIN + (self.stain.red_cell if stained else 0)
        floor = self.stain.background if stained else np.zeros(3, np.float32)

        def finish(block: tuple[tuple[slice, slice], Image]) -> None:
            place, grain = block
            red = layers.thickness_um[place]
            red *= 1 + np.float32(RED_GRAIN) * grain
            layers.index_excess_um[place] = np.float32(RED_EXCESS) * red
            red += np.float32(FILM_UM) * grain
            for layer, amount, ground in zip(layers.absorbance, colour, floor, strict=True):
                np.multiply(dose[place], np.float32(amount), out=layer[place])
                layer[place] += ground

        list(pool.map(finish, film_blocks(self._textures.film, view)))

    def _add_others(
        self, cells: Sequence[Cell], view: View, stained: bool, layers: Layers, pool: Executor
    ) -> None:
        """Everything but red cells: drawn several at a time, then added one layer per thread."""
        seen = [
            (cell, where)
            for cell in cells
            if not (stained and cell.lost) and (where := _place(cell, view, stained))
        ]
        targets = (layers.thickness_um, layers.index_excess_um, *layers.absorbance)
        for start in range(0, len(seen), CELLS_AT_ONCE):
            some = seen[start : start + CELLS_AT_ONCE]
            stamps = list(pool.map(lambda one: self._stamp_of(one[0]), some))
            placed = [(stamp, where) for stamp, (_, where) in zip(stamps, some, strict=True)]

            def add(layer: int, placed: Sequence[tuple[Stamp, Place]] = placed) -> None:
                for stamp, where in placed:
                    parts = stamp.stained if stained else stamp.plain
                    for coefficients in parts[layer]:
                        add_stamp(coefficients, targets[layer], view.grid_um, where)

            list(pool.map(add, range(len(targets))))

    def _stamp_of(self, cell: Cell) -> Stamp:
        return self._stamp(cell.type, cell.shape, cell.diameter_um)

    def draw(self, kind: CellType, shape: int, diameter_um: float) -> CellMaps:
        """A single cell (any but a red one) in its own frame, with what is nucleus and body."""
        variation = self.settings.stain_variation
        return draw_cell(kind, shape, diameter_um, self.stain, variation, self._textures)

    def _draw(self, kind: CellType, shape: int, diameter_um: float) -> Stamp:
        return Stamp.of(self.draw(kind, shape, diameter_um))


def _place(cell: Cell, view: View, stained: bool) -> Place | None:
    """Where a cell lies in a view, for `add_stamp`; None where it cannot reach into it."""
    column, row = view.to_grid(*cell.position(stained))
    reach = FARTHEST_REACH_UM / view.grid_um
    rows, columns = view.shape
    if not (-reach < row < rows + reach and -reach < column < columns + reach):
        return None
    return float(column), float(row), view.rotation_deg - cell.angle_deg


def _red_cell(ix: int, iy: int, record: np.void) -> Cell:
    identity = red_identity(ix, iy, int(record["index"]))
    return Cell(
        id=identity,
        type="red",
        x_um=float(record["x_um"]),
        y_um=float(record["y_um"]),
        diameter_um=float(record["diameter_um"]),
        angle_deg=float(record["angle_deg"]),
        lost=bool(record["lost"]),
        shift_x_um=float(record["shift_x_um"]),
        shift_y_um=float(record["shift_y_um"]),
        shape=identity % 2**31,
    )


def film_blocks(tile: Image, view: View) -> Iterator[tuple[tuple[slice, slice], Image]]:
    """The film's texture on a view, block by block as (place in the view, values).

    Sampling is cubic with places rounded to 1/32 of a texture pixel (1.6 nm).
    """
    step = view.grid_um / FILM_PIXEL_UM
    size = max(16, int(SOURCE_BLOCK_PX / step))
    angle = math.radians(view.rotation_deg)
    cos, sin = step * math.cos(angle), step * math.sin(angle)
    for top in range(0, view.shape[0], size):
        for left in range(0, view.shape[1], size):
            height, width = min(size, view.shape[0] - top), min(size, view.shape[1] - left)
            x, y = view.to_slide(left, top)
            offset_x = float(x) / FILM_PIXEL_UM % FILM_TILE_PX
            offset_y = float(y) / FILM_PIXEL_UM % FILM_TILE_PX
            values = cv2.warpAffine(
                tile,
                np.array([[cos, -sin, offset_x], [sin, cos, offset_y]]),
                (width, height),
                flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
            place = (slice(top, top + height), slice(left, left + width))
            yield place, values.astype(np.float32, copy=False)
