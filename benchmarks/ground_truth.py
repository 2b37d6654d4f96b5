"""Scan a simulated slide, build its data set, and hold every sample against the ground truth.

    python benchmarks/ground_truth.py --out /tmp/truth [--hardware simulator] [--fields 4 3]

Prints recall of white cells, share of false samples, and the errors of the matches unstained to
stained and 20x to 100x in 20x pixels. With --hardware simulator (1920 x 1200) and 4 x 3 fields
at 125 white cells per mm2 it takes about a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from plsctl.acquire.hardware import load_hardware
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.pass_run import run_pass
from plsctl.acquire.scan import Scan, open_scan
from plsctl.acquire.slide import PASSES
from plsctl.acquire.store import PassReader
from plsctl.cli.roles import make_roles
from plsctl.process.build import build_dataset
from plsctl.process.dataset import Dataset
from plsctl.sim.backend import open_world
from plsctl.sim.cells import Cell
from plsctl.sim.world import World

MARGIN_PX = 37
"""Half a crop and the reach of the fine alignment (papers/002 section 3.1.3)."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hardware", default="simulator")
    parser.add_argument("--fields", type=int, nargs=2, default=(4, 3), metavar=("X", "Y"))
    parser.add_argument("--white-cells-per-mm2", type=float, default=125.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    scan = prepare(options)
    for name in PASSES:
        if not scan.is_finished(name):
            began = time.monotonic()
            run_pass(scan, name, lambda operator: make_roles(operator, True), StopRequest())
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    path = options.out / "wbc.zarr"
    result = build_dataset([scan.folder.path], path, overwrite=True)
    print(f"{result.samples} samples in {result.seconds:.0f} s, dropped {result.dropped}")
    print(json.dumps(Truth(scan).compare(Dataset.open(path).table), indent=1))


def prepare(options: argparse.Namespace) -> Scan:
    """Write slide and hardware files for the asked size and open the scan."""
    options.out.mkdir(parents=True, exist_ok=True)
    described = load_hardware(options.hardware)
    document = yaml.safe_load(described.file.read_text())
    smear = {"white_cells_per_mm2": options.white_cells_per_mm2, "seed": options.seed}
    document["options"]["smear"] = smear
    (options.out / "hardware.yaml").write_text(yaml.safe_dump(document))
    pixel = described.pixel_um("20x")
    width, height = (size * pixel for size in described.camera.size_px)
    across, down = (1 + (count - 1) * 0.95 for count in options.fields)
    slide = {
        "slide": "truth",
        "hardware": "hardware.yaml",
        "recipe": "le8deg",
        "region": {
            "x_um": [10000.0, 10000.0 + across * width],
            "y_um": [5000.0, 5000.0 + down * height],
        },
        "focus": {"points": 5},
    }
    (options.out / "slide.yaml").write_text(yaml.safe_dump(slide))
    return open_scan(options.out / "slide.yaml", options.out / "scans")


class Truth:
    """The simulated world at each image of a scan, and the cells that lie in it."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._readers = {name: scan.folder.open_pass(name) for name in PASSES}
        self._pixel_um = self._readers["unstained"].attributes.pixel_um

    def _world(self, name: str) -> World:
        world = open_world(self._scan.hardware)
        if name != "unstained":
            world.stain()
        if name == "highres":
            world.turn_to("100x")
        return world

    def _slide_place(
        self, name: str, positions: pd.Series, x: pd.Series, y: pd.Series
    ) -> np.ndarray:
        """True slide positions of pixels, from where the stage really stood; shape (n, 2)."""
        world, reader = self._world(name), self._readers[name]
        places = []
        for position, x_px, y_px in zip(positions, x, y, strict=True):
            arrive(world, reader, position)
            places.append(world.to_slide(float(x_px), float(y_px)))
        return np.array(places)

    def compare(self, table: pd.DataFrame) -> dict[str, float | int]:
        """Recall, false samples and match errors of a data set's table."""
        unstained = self._slide_place(
            "unstained", table["position"], table["pixel_x"], table["pixel_y"]
        )
        stained = self._slide_place(
            "stained", table["position"], table["stained_x"], table["stained_y"]
        )
        highres = self._slide_place(
            "highres", table["highres"], table["highres_x"], table["highres_y"]
        )
        cells = self._cells()
        inside = [cell for cell in cells if self._must_be_found(cell)]
        nearest = [nearest_cell(place, cells) for place in unstained]
        right = [
            cell is not None and math.dist(place, (cell.x_um, cell.y_um)) < cell.diameter_um / 2
            for place, cell in zip(unstained, nearest, strict=True)
        ]
        found = {cell.id for cell, ok in zip(nearest, right, strict=True) if cell and ok}
        shifts = np.array(
            [(c.shift_x_um, c.shift_y_um) if c is not None else (np.nan, np.nan) for c in nearest]
        )
        match = np.linalg.norm(unstained + shifts - stained, axis=1)[right] / self._pixel_um
        high = np.linalg.norm(highres - stained, axis=1)[right] / self._pixel_um
        missed = [cell.type for cell in inside if cell.id not in found]
        return {
            "white_cells_to_find": len(inside),
            "recall": 1 - len(missed) / max(len(inside), 1),
            "samples": len(table),
            "false_share": 1 - float(np.mean(right)),
            **errors("unstained_to_stained_px", match),
            **errors("20x_to_100x_px", high),
        }

    def _cells(self) -> list[Cell]:
        region = self._scan.slide.region
        (x_low, x_high), (y_low, y_high) = region.x_um, region.y_um
        world = self._world("unstained")
        found = world.smear.cells(x_low - 600, y_low - 400, x_high + 600, y_high + 400)
        return [cell for cell in found if cell.is_white and not cell.lost]

    def _must_be_found(self, cell: Cell) -> bool:
        """Whether the cell's box lies well inside the area common to both passes, at a position."""
        return any(
            all(
                self._margin_px(name, position, cell) >= MARGIN_PX
                for name in ("unstained", "stained")
            )
            for position in self._near(cell)
        )

    def _near(self, cell: Cell) -> list[str]:
        width, height = self._scan.hardware.camera.size_px
        reach = math.hypot(width, height) / 2 * self._pixel_um
        return [
            p.name
            for p in self._readers["unstained"].positions
            if math.dist((p.slide_x_um, p.slide_y_um), (cell.x_um, cell.y_um)) < reach
        ]

    def _margin_px(self, name: str, position: str, cell: Cell) -> float:
        """Distance of the cell's box from the image's border."""
        world = self._world_at(name, position)
        width, height = self._scan.hardware.camera.size_px
        x, y = to_pixel(world, *cell.position(name != "unstained"))
        half = cell.diameter_um / 2 / self._pixel_um
        return min(x, y, width - 1 - x, height - 1 - y) - half

    def _world_at(self, name: str, position: str) -> World:
        key = (name, position)
        cache = self.__dict__.setdefault("_worlds", {})
        if key not in cache:
            cache[key] = self._world(name)
            arrive(cache[key], self._readers[name], position)
        world: World = cache[key]
        return world


def arrive(world: World, reader: PassReader, position: str) -> None:
    """Bring the simulated stage to where it stood for a position, its error included."""
    place = reader.position(position)
    backlash = world.hardware.stage.backlash_um
    world.move_xy(place.x_um - backlash, place.y_um - backlash)
    world.move_xy(place.x_um, place.y_um)


def to_pixel(world: World, x_um: float, y_um: float) -> tuple[float, float]:
    """The pixel that sees a slide position (inverse of `World.to_slide`, which is affine)."""
    origin = np.array(world.to_slide(0, 0))
    across = np.array(world.to_slide(1, 0)) - origin
    down = np.array(world.to_slide(0, 1)) - origin
    x, y = np.linalg.solve(np.column_stack([across, down]), np.array([x_um, y_um]) - origin)
    return float(x), float(y)


def nearest_cell(place: np.ndarray, cells: list[Cell]) -> Cell | None:
    """The white cell whose centre is nearest to a slide position."""
    return min(cells, key=lambda c: math.dist(place, (c.x_um, c.y_um)), default=None)


def errors(name: str, values: np.ndarray) -> dict[str, float]:
    """Median, share within 1 and 2 pixels, and the largest error."""
    return {
        f"{name}_median": round(float(np.median(values)), 3),
        f"{name}_within_1": round(float((values <= 1).mean()), 4),
        f"{name}_within_2": round(float((values <= 2).mean()), 4),
        f"{name}_max": round(float(values.max()), 2),
    }


if __name__ == "__main__":
    main()
