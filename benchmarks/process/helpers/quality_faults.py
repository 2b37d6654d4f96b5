"""Simulated samples, good ones and such with a fault of the slide, for `quality.py`.

Things that happen to a slide are simulated by the optics: dust that came off in the staining bath
(in the unstained images only), a precipitate (in the stained only), a cell that was washed off.
The good samples hold none of these, nor lost neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import Hardware, find_file, load_hardware
from plsctl.acquire.plans.exposures import load_exposures
from plsctl.acquire.plans.plan import frame_records
from plsctl.acquire.store.records import FrameRecord
from plsctl.sim.backend import open_world
from plsctl.sim.smear.cells import Cell, CellType
from plsctl.sim.smear.smear import Layers, Smear
from plsctl.sim.smear.view import View
from plsctl.sim.world.settings import SimulatorSettings
from plsctl.sim.world.world import World

CROP_PX, MARGIN_PX = 64, 4
SIDE_PX = CROP_PX + 2 * MARGIN_PX
RATIO = 5
NEAR_UM = 8.0
"""Dust and precipitate lie within this distance of the cell's middle."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Rendered:
    """One cell: stacks (image, rgb, y, x) with a margin, targets (rgb, y, x) by name and fault."""

    stack: Image
    dusty: Image
    targets: dict[str, Image]


class FaultySmear(Smear):
    """A smear to which things can be added, and from which cells can be taken."""

    added: tuple[Cell, ...] = ()
    gone: tuple[int, ...] = ()

    def _add_others(
        self, cells: Sequence[Cell], view: View, stained: bool, layers: Layers, pool: Executor
    ) -> None:
        left = [cell for cell in cells if cell.id not in self.gone]
        super()._add_others([*left, *self.added], view, stained, layers, pool)


class Bench:
    """Two simulated microscopes over one slide without faults of its own, 20x and 100x."""

    def __init__(self, hardware: str, seed: int) -> None:
        described = load_hardware(hardware)
        settings = _spotless(open_world(described).settings, seed)
        self.hardware = described
        self.low = _world(described, settings, SIDE_PX)
        self.high = _world(described, settings, SIDE_PX * RATIO)
        self.high.turn_to(str(described.objective("100x").label))
        self.high.stained = self.high.oil = True
        self.frames = self._frames("full", "20x")
        self._highres = self._frames("brightfield", "100x")[0]
        self._rng = np.random.default_rng((seed, 0xFA17))

    def _frames(self, recipe: str, objective: str) -> list[FrameRecord]:
        table = load_exposures(find_file(f"exposures_{objective}.csv", self.hardware.file.parent))
        na = self.hardware.objective(self.hardware.low_power).na
        return list(frame_records(recipe, table, self.hardware.geometry(), na))

    def cells(self, count: int, kinds: tuple[CellType, ...]) -> Iterator[Cell]:
        """Cells of some kinds from all over the monolayer."""
        smear, found = self.low.smear, 0
        for x in np.arange(6000.0, 24000.0, 400.0):
            y = float(self._rng.uniform(2000, 22000))
            for cell in smear.cells(x, y, x + 300, y + 150):
                if cell.type in kinds and found < count:
                    found += 1
                    yield cell

    def render(self, cell: Cell) -> Rendered:
        """All images of one cell."""
        stained = cell.position(stained=True)
        stack = self._unstained(cell)
        dusty = self._unstained(cell, (self._thing("dust", cell, 3.0, 12.0),))
        precipitate = self._thing("precipitate", cell, 4.0, 10.0)
        targets = {}
        for fault, added, gone in (
            ("good", (), ()),
            ("precipitate", (precipitate,), ()),
            ("lost", (), (cell.id,)),
        ):
            for name, image in self._stained(stained, added, gone).items():
                targets[f"{fault}_{name}"] = image
        return Rendered(stack, dusty, targets)

    def _unstained(self, cell: Cell, added: tuple[Cell, ...] = ()) -> Image:
        _prepare(self.low, False, added, ())
        self.low.look_at(cell.x_um, cell.y_um)
        return np.stack([_expose(self.low, frame) for frame in self.frames])

    def _stained(
        self, place: tuple[float, float], added: tuple[Cell, ...], gone: tuple[int, ...]
    ) -> dict[str, Image]:
        images = {}
        for name, world, frame in (
            ("20x", self.low, self.frames[0]),
            ("100x", self.high, self._highres),
        ):
            _prepare(world, True, added, gone)
            world.look_at(*place)
            image = np.moveaxis(_expose(world, frame), 0, -1)
            size = (SIDE_PX, SIDE_PX)
            reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            inner = reduced[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
            images[name] = np.ascontiguousarray(np.moveaxis(inner, -1, 0))
        return images

    def _thing(self, kind: CellType, cell: Cell, low_um: float, high_um: float) -> Cell:
        away, angle = self._rng.uniform(0, NEAR_UM), self._rng.uniform(0, 2 * math.pi)
        return Cell(
            id=-1,
            type=kind,
            x_um=cell.x_um + away * math.cos(angle),
            y_um=cell.y_um + away * math.sin(angle),
            diameter_um=float(self._rng.uniform(low_um, high_um)),
            angle_deg=float(self._rng.uniform(0, 360)),
            lost=False,
            shift_x_um=0.0,
            shift_y_um=0.0,
            shape=int(self._rng.integers(2**31)),
        )


def _spotless(settings: SimulatorSettings, seed: int) -> SimulatorSettings:
    smear = settings.smear.model_copy(
        update={
            "seed": seed,
            "white_cells_per_mm2": 400.0,
            "lost_fraction": 0.0,
            "dust_per_mm2": 0.0,
            "precipitate_per_mm2": 0.0,
        }
    )
    sensor = settings.sensor.model_copy(
        update={"dead_pixels": 0, "dust_specks": 0, "vignette": 0.0}
    )
    return settings.model_copy(update={"smear": smear, "sensor": sensor, "objectives": {}})


def _world(hardware: Hardware, settings: SimulatorSettings, side_px: int) -> World:
    camera = hardware.camera.model_copy(update={"size_px": (side_px, side_px), "bayer": None})
    world = World(hardware.model_copy(update={"camera": camera}), settings)
    world.smear = FaultySmear(settings.smear)
    return world


def _prepare(world: World, stained: bool, added: tuple[Cell, ...], gone: tuple[int, ...]) -> None:
    assert isinstance(world.smear, FaultySmear)
    world.smear.added, world.smear.gone = added, gone
    world.stained = stained
    world.rendered.forget()


def _expose(world: World, frame: FrameRecord) -> Image:
    """One image, (rgb, y, x)."""
    world.lit = dict.fromkeys(frame.leds, frame.brightness)
    return np.moveaxis(np.asarray(world.expose(frame.exposure_ms, frame.gain), np.uint8), -1, 0)


def render_samples(hardware: str, seed: int, count: int, file: Path) -> dict[str, Image]:
    """Arrays of `count` cells by name, kept in `file`."""
    if not file.exists():
        bench = Bench(hardware, seed)
        kinds: tuple[CellType, ...] = (
            "neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil",
        )  # fmt: skip
        cells = [bench.render(cell) for cell in bench.cells(count, kinds)]
        arrays = {name: np.stack([c.targets[name] for c in cells]) for name in cells[0].targets}
        arrays["stack"] = np.stack([cell.stack for cell in cells])
        arrays["dusty"] = np.stack([cell.dusty for cell in cells])
        partial = file.with_suffix(".part.npz")
        np.savez(partial, **arrays)
        partial.replace(file)
    with np.load(file) as found:
        return {name: found[name] for name in found.files}
