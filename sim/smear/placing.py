"""Where cells lie: a smear of any size, made tile by tile on demand and always the same.

Every tile draws from its own random stream. White cells keep their distance by thinning: of two
candidates too close to each other, the one with the lower mark goes, which needs the neighbouring
tiles' candidates only. Red cells and platelets are packed one after another into the room that is
left; tiles take turns in four interleaved sets, and a tile regards only neighbours of earlier sets.
So no result depends on the order in which tiles are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from plsctl.sim.smear.cells import DIAMETERS_UM, NATURAL_PROPORTIONS, WHITE_TYPES, Cell, CellType
from plsctl.sim.smear.settings import SmearSettings
from plsctl.sim.smear.textures import Textures

TILE_UM = 48.0
"""Larger than the reach of any cell, so that only touching tiles can conflict."""

WHITE_DISTANCE_UM = 17.0
"""White cells' centres are no closer than this."""

CACHED_TILES = 2048

PLATELET_SHAPES = 48

RED = np.dtype(
    [
        (name, "f8")
        for name in (
            *("x_um", "y_um", "diameter_um", "angle_deg", "shift_x_um", "shift_y_um", "lost"),
            *("oval", "skew_cos", "skew_sin", "height_um", "dimple", "dimple_width"),
            *("dimple_x", "dimple_y", "dose", "index"),
        )
    ]
)
"""A red cell: place, fate in staining, and looks (shares of the radius unless a unit is named)."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """The objects whose centres lie in one tile."""

    red: NDArray[np.void]
    other: tuple[Cell, ...]


class Placement:
    """The objects of a slide by tile."""

    def __init__(self, settings: SmearSettings, textures: Textures) -> None:
        self.settings = settings
        self._patches = textures.patches
        self.tile: Callable[[int, int], Tile] = lru_cache(CACHED_TILES)(self._make_tile)
        self._candidates = lru_cache(CACHED_TILES)(self._make_candidates)
        self._large = lru_cache(CACHED_TILES)(self._make_large)

    def tiles(
        self, x_min_um: float, y_min_um: float, x_max_um: float, y_max_um: float
    ) -> Iterator[tuple[int, int, Tile]]:
        """All tiles that touch a rectangle, with their column and row."""
        for iy in range(math.floor(y_min_um / TILE_UM), math.floor(y_max_um / TILE_UM) + 1):
            for ix in range(math.floor(x_min_um / TILE_UM), math.floor(x_max_um / TILE_UM) + 1):
                yield ix, iy, self.tile(ix, iy)

    def density(self, x_um: float, y_um: float) -> float:
        """Cells per area against the middle of the monolayer: 0 off the smear, 2 where thick."""
        if any(
            left <= x_um < right and low <= y_um < high
            for left, right, low, high in self.settings.bare_um
        ):
            return 0.0
        start, end = self.settings.monolayer_x_um
        bottom, top = self.settings.smear_y_um
        edge = min(y_um - bottom, top - y_um) / 200.0
        if edge <= 0 or x_um < 0:
            return 0.0
        thick = 1.0 + min(1.0, max(0.0, (start - x_um) / 4_000.0))
        slope = 1.06 - 0.12 * min(1.0, max(0.0, (x_um - start) / (end - start)))
        thin = 1.0 - min(1.0, max(0.0, (x_um - end) / 15_000.0))
        return min(1.0, edge) * thick * slope * thin

    # Large and loose things --------------------------------------------------------------------

    def _rng(self, purpose: int, ix: int, iy: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, purpose, ix + 2**20, iy + 2**20))

    def _centre(self, ix: int, iy: int) -> tuple[float, float]:
        return (ix + 0.5) * TILE_UM, (iy + 0.5) * TILE_UM

    def _make_candidates(self, ix: int, iy: int) -> FloatArray:
        """Candidates for white and smudge cells: rows of x, y, mark."""
        wanted = self.settings.white_cells_per_mm2 * (1 + self.settings.smudge_per_white_cell)
        wanted *= 1e-6 * self.density(*self._centre(ix, iy))
        # Thinning at distance d keeps (1 - exp(-c pi d^2)) / (pi d^2) of c candidates per area.
        disc = math.pi * WHITE_DISTANCE_UM**2
        raw = -math.log1p(-min(0.95, wanted * disc)) / disc
        rng = self._rng(1, ix, iy)
        rows = rng.random((rng.poisson(raw * TILE_UM**2), 3))
        rows[:, :2] = (rows[:, :2] + (ix, iy)) * TILE_UM
        return rows

    def _make_large(self, ix: int, iy: int) -> tuple[Cell, ...]:
        own = self._candidates(ix, iy)
        around = np.concatenate([self._candidates(*tile) for tile in _around(ix, iy)])
        distance = np.hypot(
            own[:, None, 0] - around[None, :, 0], own[:, None, 1] - around[None, :, 1]
        )
        beaten = (distance < WHITE_DISTANCE_UM) & (around[None, :, 2] > own[:, None, 2])
        rng = self._rng(2, ix, iy)
        cells = []
        for number, (row, gone) in enumerate(zip(own, beaten.any(axis=1), strict=True)):
            kind = self._large_type(rng)
            cell = self._cell(rng, _identity(ix, iy, number), kind, float(row[0]), float(row[1]))
            if not gone:
                cells.append(cell)
        return tuple(cells)

    def _large_type(self, rng: np.random.Generator) -> CellType:
        smudge = self.settings.smudge_per_white_cell
        is_smudge, pick = rng.random(2)
        if is_smudge < smudge / (1 + smudge):
            return "smudge"
        shares = NATURAL_PROPORTIONS if self.settings.proportions == "natural" else (0.2,) * 5
        return WHITE_TYPES[min(4, int(np.searchsorted(np.cumsum(shares), pick, side="right")))]

    def _cell(
        self, rng: np.random.Generator, identity: int, kind: CellType, x_um: float, y_um: float
    ) -> Cell:
        low, high = DIAMETERS_UM[kind]
        # Most lymphocytes are small ones.
        share = rng.beta(1.6, 2.6) if kind == "lymphocyte" else rng.beta(2.5, 2.5)
        angle, lost = rng.random(2)
        shift = rng.standard_normal(2) * self.settings.staining_displacement_um / _RAYLEIGH_MEAN
        loose = kind in ("dust", "water", "precipitate")
        shape = int(rng.integers(0, 2**31))
        if kind == "platelet":
            # Many and small: drawn from a set of shapes, so that few drawings serve all.
            shape %= PLATELET_SHAPES
            share = (shape + 0.5) / PLATELET_SHAPES
        return Cell(
            id=identity,
            type=kind,
            x_um=x_um,
            y_um=y_um,
            diameter_um=float(low + (high - low) * share),
            angle_deg=float(angle * 360),
            lost=bool(lost < self.settings.lost_fraction) and not loose,
            shift_x_um=0.0 if loose else float(shift[0]),
            shift_y_um=0.0 if loose else float(shift[1]),
            shape=shape,
        )

    def _loose(self, ix: int, iy: int) -> list[Cell]:
        rng = self._rng(3, ix, iy)
        rates: tuple[tuple[CellType, float], ...] = (
            ("dust", self.settings.dust_per_mm2),
            ("water", self.settings.water_per_mm2),
            ("precipitate", self.settings.precipitate_per_mm2),
        )
        on_smear = self.density(*self._centre(ix, iy)) > 0
        found: list[Cell] = []
        for kind, rate in rates:
            if kind == "dust" or on_smear:
                for x, y in rng.random((rng.poisson(rate * 1e-6 * TILE_UM**2), 2)):
                    number = 200 + len(found)
                    place = (float(ix + x) * TILE_UM, float(iy + y) * TILE_UM)
                    found.append(self._cell(rng, _identity(ix, iy, number), kind, *place))
        return found

    # Red cells and platelets ---------------------------------------------------------------------

    def _make_tile(self, ix: int, iy: int) -> Tile:
        large = self._large(ix, iy)
        loose = self._loose(ix, iy)
        density = self.density(*self._centre(ix, iy))
        if density == 0:
            return Tile(np.zeros(0, RED), tuple(loose))
        rng = self._rng(4, ix, iy)
        taken = self._taken(ix, iy)
        red = self._pack_red(rng, ix, iy, density, taken)
        platelets = self._pack_platelets(rng, ix, iy, density, np.concatenate([taken, _discs(red)]))
        return Tile(red, (*large, *loose, *platelets))

    def _taken(self, ix: int, iy: int) -> FloatArray:
        """Discs (x, y, radius) in and around a tile that are there before its red cells."""
        parts = [_discs_of(cell for tile in _around(ix, iy) for cell in self._large(*tile))]
        for tile in _around(ix, iy):
            if _turn(*tile) < _turn(ix, iy):
                earlier = self.tile(*tile)
                parts.append(_discs(earlier.red))
                parts.append(_discs_of(c for c in earlier.other if c.type == "platelet"))
        taken = np.concatenate(parts)
        centre = np.array(self._centre(ix, iy))
        near: NDArray[np.bool_] = np.abs(taken[:, :2] - centre).max(axis=1) < TILE_UM / 2 + 16
        return taken[near]

    def _places(self, rng: np.random.Generator, ix: int, iy: int, count: int) -> FloatArray:
        """Random places in a tile."""
        places: FloatArray = (rng.random((count, 2)) + np.array([ix, iy])) * TILE_UM
        return places

    def _pack_red(
        self, rng: np.random.Generator, ix: int, iy: int, density: float, taken: FloatArray
    ) -> NDArray[np.void]:
        expected = self.settings.red_cells_per_mm2 * 1e-6 * TILE_UM**2 * density
        wanted = max(0, round(expected + rng.normal(0, 0.06 * expected + 0.3)))
        place = self._places(rng, ix, iy, 5 * wanted + 8)
        low, high = DIAMETERS_UM["red"]
        diameter = np.clip(rng.normal(7.4, 0.42, len(place)), low, high)
        # Cells crowd where the patches are high: contacts here, gaps there.
        cell = np.floor(place / 2.0).astype(np.int64) % self._patches.shape[0]
        crowd = self._patches[cell[:, 1], cell[:, 0]] + 0.7 * rng.standard_normal(len(place))
        order = np.argsort(-crowd, kind="stable")
        place, diameter = place[order], diameter[order]
        # In the thick end there is no room: cells lie on each other.
        nearness = max(0.55, 0.97 - 0.45 * max(0.0, density - 1.1))
        kept = pack(np.column_stack([place, diameter / 2]), taken, nearness, wanted)
        return self._red(rng, place[kept], diameter[kept])

    def _red(
        self, rng: np.random.Generator, place: FloatArray, diameter: FloatArray
    ) -> NDArray[np.void]:
        n = len(place)
        red = np.zeros(n, RED)
        shift = (
            rng.standard_normal((n, 2)) * self.settings.staining_displacement_um / _RAYLEIGH_MEAN
        )
        red["x_um"], red["y_um"] = place[:, 0], place[:, 1]
        red["shift_x_um"], red["shift_y_um"] = shift[:, 0], shift[:, 1]
        red["diameter_um"] = diameter
        red["angle_deg"] = rng.random(n) * 360
        red["lost"] = rng.random(n) < self.settings.lost_fraction
        red["oval"] = np.minimum(np.abs(rng.normal(0, 0.035, n)), 0.1)
        red["skew_cos"], red["skew_sin"] = np.clip(rng.normal(0, 0.014, (2, n)), -0.03, 0.03)
        red["height_um"] = np.clip(rng.normal(1.0, 0.06, n), 0.85, 1.15)
        red["dimple"] = np.clip(rng.normal(0.36, 0.1, n), 0.05, 0.6)
        red["dimple_width"] = np.clip(rng.normal(0.50, 0.05, n), 0.35, 0.65)
        red["dimple_x"], red["dimple_y"] = rng.normal(0, 0.05, (2, n))
        red["dose"] = np.exp(rng.normal(0, 0.10, n))
        red["index"] = np.arange(n)
        return red

    def _pack_platelets(
        self, rng: np.random.Generator, ix: int, iy: int, density: float, taken: FloatArray
    ) -> list[Cell]:
        expected = self.settings.red_cells_per_mm2 * 1e-6 * TILE_UM**2 * density
        wanted = int(rng.poisson(expected * self.settings.platelets_per_red_cell))
        place = self._places(rng, ix, iy, 6 * wanted)
        radius = np.full((len(place), 1), DIAMETERS_UM["platelet"][1] / 2)
        kept = pack(np.column_stack([place, radius]), taken, 1.0, wanted)
        return [
            self._cell(rng, _identity(ix, iy, 300 + n), "platelet", *map(float, place[k]))
            for n, k in enumerate(kept)
        ]


def red_identity(ix: int, iy: int, index: int) -> int:
    """The identity of the red cell with that index in a tile."""
    return _identity(ix, iy, 1000 + index)


_RAYLEIGH_MEAN = math.sqrt(math.pi / 2)
"""Mean length of a vector whose two components have standard deviation 1."""


def _identity(ix: int, iy: int, number: int) -> int:
    # 16 + 16 + 12 bits: exact in JSON's doubles; tiles reach 1.5 m from the slide's origin.
    return ((ix + 2**15) << 28) | ((iy + 2**15) << 12) | number


def _around(ix: int, iy: int) -> list[tuple[int, int]]:
    return [(ix + dx, iy + dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def _turn(ix: int, iy: int) -> int:
    return ix % 2 + 2 * (iy % 2)


def _discs(red: NDArray[np.void]) -> FloatArray:
    return np.column_stack([red["x_um"], red["y_um"], red["diameter_um"] / 2])


def _discs_of(cells: Iterable[Cell]) -> FloatArray:
    discs = [(cell.x_um, cell.y_um, cell.diameter_um / 2) for cell in cells]
    return np.array(discs, np.float64).reshape(-1, 3)


def pack(wishes: FloatArray, taken: FloatArray, nearness: float, wanted: int) -> list[int]:
    """Of discs (x, y, radius) in order of rank, those that fit, at most `wanted`."""
    free: NDArray[np.bool_] = np.logical_not(_conflicts(wishes, taken, nearness).any(axis=1))
    among = _conflicts(wishes, wishes, nearness)
    kept: list[int] = []
    for number in np.flatnonzero(free):
        if len(kept) == wanted:
            break
        if free[number]:
            kept.append(int(number))
            free &= ~among[number]
    return kept


def _conflicts(a: FloatArray, b: FloatArray, nearness: float) -> NDArray[np.bool_]:
    square = (a[:, None, 0] - b[None, :, 0]) ** 2 + (a[:, None, 1] - b[None, :, 1]) ** 2
    result: NDArray[np.bool_] = square < (nearness * (a[:, None, 2] + b[None, :, 2])) ** 2
    return result
