"""Matching against the simulator's truth: field, cell and 100x.

    python benchmarks/process/matching.py [--fields N] [--defocus UM] [--quick]

Renders fields of the simulated microscope (full sensor) unstained, stained and returned, and some
of their white cells at 100x; prints the errors of the match of the field, of the fine alignment and
of the 100x match by each method, in 20x pixels. With --defocus the unstained image is that far
above focus and the stained one below.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.process.matching.fields import FieldAligner, FieldMatch, match_position
from plsctl.process.matching.fine_alignment import REACH_PX, align_crop
from plsctl.process.matching.highres import Method, find_highres
from plsctl.sim.backend import open_world
from plsctl.sim.smear.cells import Cell
from plsctl.sim.world.world import World

Image = NDArray[np.uint8]
TRUE_RATIO = 5.03
METHODS: tuple[Method, ...] = ("plain", "log", "colour")


@dataclass(frozen=True)
class View:
    """An image and the affine map from its pixels to slide micrometres."""

    image: Image
    origin: NDArray[np.float64]
    axes: NDArray[np.float64]

    def pixel(self, place: tuple[float, float]) -> NDArray[np.float64]:
        """Pixel (x, y) of a slide position."""
        return np.asarray(np.linalg.solve(self.axes, np.array(place) - self.origin))

    def place(self, pixel: NDArray[np.float64]) -> tuple[float, float]:
        """Slide position of a pixel."""
        x, y = self.origin + self.axes @ pixel
        return float(x), float(y)


def take(world: World, exposure_ms: float) -> View:
    """One bright-field image of the world as it stands."""
    world.lit = {row.led: 1.0 for row in world.geometry.within(0.4)}
    image = np.asarray(world.expose(exposure_ms, 1.0), dtype=np.uint8)
    origin = np.array(world.to_slide(0, 0))
    columns = [np.array(world.to_slide(*unit)) - origin for unit in ((1, 0), (0, 1))]
    return View(image, origin, np.stack(columns, axis=1))


def measure_field(
    world: World,
    centre: tuple[float, float],
    defocus_um: float,
    highres: int,
    errors: dict[str, list[float]],
) -> None:
    """Render one field in all states and add its errors (20x pixels) by kind."""
    world.turn_to("20x")
    world.stained, world.transform = False, SlideTransform(0, 0, 0, 0, 0)
    world.look_at(*centre)
    world.z_um += defocus_um
    before = take(world, 0.22)
    world.stained, world.transform = True, SlideTransform(*centre, 24.0, -18.0, 0.1)
    world.look_at(centre[0] + 1.4, centre[1] - 2.2)
    world.z_um -= defocus_um
    after = take(world, 0.22)
    middle = np.array([after.image.shape[1] - 1, after.image.shape[0] - 1]) / 2
    found = match_position(before.image, after.image, 0.1, world.pixel_um)
    true = before.pixel(after.place(middle))
    errors["field"].append(float(np.hypot(*(found.to_unstained.apply_to(*middle) - true))))
    around = world.smear.cells(centre[0] - 230, centre[1] - 130, centre[0] + 230, centre[1] + 130)
    cells = [cell for cell in around if cell.is_white and not cell.lost]
    aligner = FieldAligner(before.image, after.image, found)
    grey = tuple(np.ascontiguousarray(view.image[..., 2]) for view in (before, after))
    for cell in cells:
        errors["cell, whole crop, blue"].append(_whole_crop_error(cell, before, after, found, grey))
        errors["cell alone, red and blue"].append(_fine_error(cell, before, after, aligner))
    world.turn_to("100x")
    for cell in cells[:highres]:
        world.look_at(*cell.position(stained=True))
        high = take(world, 5.3)
        for method in METHODS:
            errors[f"100x, {method}"].append(_highres_error(cell, after, high, method))


def _fine_error(cell: Cell, before: View, after: View, aligner: FieldAligner) -> float:
    x, y = (round(float(value)) for value in after.pixel(cell.position(stained=True)))
    side = cell.diameter_um / 0.293
    found = aligner.align(x, y, (side, side), 64, REACH_PX)
    if found is None:
        raise SystemExit("a cell lies at the border")
    seen = after.place(np.array(found.stained))
    there = (seen[0] - cell.shift_x_um, seen[1] - cell.shift_y_um)
    return float(np.hypot(*(before.pixel(there) - found.unstained)))


def _whole_crop_error(
    cell: Cell, before: View, after: View, field: FieldMatch, grey: tuple[Image, ...]
) -> float:
    """As papers/002 has it: neighbours and all, in one grey image."""
    seen = after.pixel(cell.position(stained=True))
    true = before.pixel(cell.position(stained=False)) - seen
    x, y = (round(float(value)) for value in seen)
    u, v = (round(value) for value in field.to_unstained.apply_to(x, y))
    fine = align_crop(
        grey[1][y - 32 : y + 32, x - 32 : x + 32], grey[0][v - 37 : v + 37, u - 37 : u + 37]
    )
    return float(np.hypot(u + fine.dx - x - true[0], v + fine.dy - y - true[1]))


def _highres_error(cell: Cell, after: View, high: View, method: Method) -> float:
    x, y = (round(float(value)) for value in after.pixel(cell.position(stained=True)))
    centre = np.array([x - 0.5, y - 0.5])
    true = high.pixel(after.place(centre))
    found = find_highres(
        after.image,
        (x - 0.5, y - 0.5),
        high.image,
        (float(true[0]) + 40, float(true[1]) - 30),
        size_px=64,
        reach_px=154,
        method=method,
        ratio=TRUE_RATIO,
        rotation_deg=-0.5,
    )
    return float(np.hypot(found.x - true[0], found.y - true[1])) / TRUE_RATIO


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=2)
    parser.add_argument("--defocus", type=float, default=0.0, metavar="UM")
    parser.add_argument("--quick", action="store_true", help="one field, three cells at 100x")
    given = parser.parse_args()
    count, highres = (1, 3) if given.quick else (given.fields, 12)
    hardware = load_hardware("simulator")
    options = {**hardware.options, "smear": {"white_cells_per_mm2": 125}}
    world = open_world(hardware.model_copy(update={"options": options}))
    world.oil = True
    errors: dict[str, list[float]] = defaultdict(list)
    for index in range(count):
        measure_field(world, (11_000.0 + 700 * index, 5_600.0), given.defocus, highres, errors)
    print("| error (20x px) | matches | median | 99 % | largest |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in errors.items():
        median, most, largest = np.percentile(values, (50, 99, 100))
        print(f"| {name} | {len(values)} | {median:.2f} | {most:.2f} | {largest:.2f} |")


if __name__ == "__main__":
    main()
