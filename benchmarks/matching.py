"""Matching against the simulator's truth, and its speed against a literal implementation.

    python benchmarks/matching.py [--fields N]

Renders fields of the simulated microscope (full sensor) unstained, stained and returned, and their
white cells at 100x; prints the errors of the coarse match, the fine alignment and the 100x match in
20x pixels, and the time of the fine alignment beside scikit-image called once a shift.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage import metrics

from plsctl.acquire.hardware import load_hardware
from plsctl.acquire.protocols import SlideTransform
from plsctl.process.fine_alignment import align_crop, similarity_map
from plsctl.process.highres import match_highres
from plsctl.process.matching import match_fields
from plsctl.process.fine_alignment import alignment_planes
from plsctl.sim.backend import open_world
from plsctl.sim.cells import Cell
from plsctl.sim.world import World

Image = NDArray[np.uint8]
TRUE_RATIO = 5.03


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
    world: World, centre: tuple[float, float], errors: dict[str, list[float]]
) -> None:
    """Render one field in all states and add its errors (20x pixels) by kind."""
    world.turn_to("20x")
    world.stained, world.transform = False, SlideTransform(0, 0, 0, 0, 0)
    world.look_at(*centre)
    before = take(world, 0.22)
    world.stained, world.transform = True, SlideTransform(*centre, 24.0, -18.0, 0.1)
    world.look_at(centre[0] + 1.4, centre[1] - 2.2)
    after = take(world, 0.22)
    middle = np.array([after.image.shape[1] - 1, after.image.shape[0] - 1]) / 2
    coarse = match_fields(after.image, before.image)
    true = before.pixel(after.place(middle)) - middle
    errors["coarse match"].append(float(np.hypot(coarse.dx - true[0], coarse.dy - true[1])))
    around = world.smear.cells(centre[0] - 230, centre[1] - 130, centre[0] + 230, centre[1] + 130)
    cells = [cell for cell in around if cell.is_white and not cell.lost]
    shift = (round(coarse.dx), round(coarse.dy))
    for cell in cells:
        errors["fine alignment"].append(_fine_error(cell, before, after, shift))
    world.turn_to("100x")
    for cell in cells[:12]:
        world.look_at(*cell.position(stained=True))
        high = take(world, 5.3)
        for method in ("plain", "log"):
            errors[f"100x match, {method}"].append(_highres_error(cell, after, high, method))


def _fine_error(cell: Cell, before: View, after: View, shift: tuple[int, int]) -> float:
    seen = after.pixel(cell.position(stained=True))
    true = before.pixel(cell.position(stained=False)) - seen
    x, y = (round(float(value)) for value in seen)
    u, v = x + shift[0], y + shift[1]
    one, other = alignment_image(after.image), alignment_image(before.image)
    fine = align_crop(
        one[y - 32 : y + 32, x - 32 : x + 32], other[v - 37 : v + 37, u - 37 : u + 37]
    )
    return float(np.hypot(u + fine.dx - x - true[0], v + fine.dy - y - true[1]))


def _highres_error(cell: Cell, after: View, high: View, method: str) -> float:
    x, y = (round(float(value)) for value in after.pixel(cell.position(stained=True)))
    crop = after.image[y - 32 : y + 32, x - 32 : x + 32]
    true = high.pixel(after.place(np.array([x - 0.5, y - 0.5])))
    found = match_highres(
        crop, high.image, (true[0] + 40, true[1] - 30), method="log" if method == "log" else "plain"
    )
    return float(np.hypot(found.x - true[0], found.y - true[1])) / TRUE_RATIO


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Least time of one run."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def print_speed() -> None:
    """Fine alignment of one 64 px crop over 121 shifts: ours, and one call a shift."""
    rng = np.random.default_rng(0)
    search = rng.integers(0, 256, (74, 74), dtype=np.uint8)
    crop = search[4:68, 7:71].copy()

    def literal() -> None:
        for y in range(11):
            for x in range(11):
                part = search[y : y + 64, x : x + 64]
                metrics.structural_similarity(crop, part, data_range=255)  # type: ignore[no-untyped-call]

    ours, theirs = seconds(lambda: similarity_map(crop, search), 20), seconds(literal, 3)
    print(
        f"fine alignment of a cell: {1000 * ours:.2f} ms; a call of scikit-image a shift: "
        f"{1000 * theirs:.1f} ms ({theirs / ours:.0f} times)"
    )


def main() -> None:
    """Print the errors and the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=2)
    count = parser.parse_args().fields
    hardware = load_hardware("simulator")
    options = {**hardware.options, "smear": {"white_cells_per_mm2": 125}}
    world = open_world(hardware.model_copy(update={"options": options}))
    world.oil = True
    errors: dict[str, list[float]] = {
        "coarse match": [],
        "fine alignment": [],
        "100x match, plain": [],
        "100x match, log": [],
    }
    for index in range(count):
        measure_field(world, (11_000.0 + 700 * index, 5_600.0), errors)
    print("| error (20x px) | matches | median | 99 % | largest |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in errors.items():
        median, most, largest = np.percentile(values, (50, 99, 100))
        print(f"| {name} | {len(values)} | {median:.2f} | {most:.2f} | {largest:.2f} |")
    print_speed()


if __name__ == "__main__":
    main()
