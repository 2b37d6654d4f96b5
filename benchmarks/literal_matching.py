"""Speed and positions of the matching against papers/002's steps written down literally.

    OMP_NUM_THREADS=1 python benchmarks/literal_matching.py [--highres N] [--repeats N]

The literal form calls OpenCV and scikit-image in plain loops: Canny and `matchTemplate` for the
field, one `structural_similarity` a shift for each cell, Gaussian, Laplacian and `matchTemplate` on
the whole 100x image for each cell. One simulated field of the full sensor with some 20 white cells
is rendered, and its images stay in memory. Libraries run on one thread; times are processor time,
the best of some repeats. Takes about a minute and a half of one core.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matching import TRUE_RATIO, View, take
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.process.matching.correlation import grey_image, match_fields, subpixel_peak
from plsctl.process.matching.fields import CellMatch, FieldAligner, match_position, turned_crop
from plsctl.process.matching.fine_alignment import (
    REACH_PX,
    align_crop,
    alignment_planes,
    cell_weights,
)
from plsctl.process.matching.highres import (
    HighresPlace,
    find_highres,
    match_highres,
    reduce_highres,
)
from plsctl.sim.backend import open_world
from plsctl.sim.smear.cells import Cell

Image = NDArray[np.uint8]
Point = tuple[float, float]

CROP_PX, MARGIN_PX, RATIO = 64, 264, 5
FRAMES = 74
HIGHRES_REACH_PX = 154  # 9 um
RIGHT_PX = 0.5  # a match nearer than this to the truth is right


# The paper's steps ------------------------------------------------------------------------------


def literal_field(before: Image, after: Image) -> tuple[int, int]:
    """Offset of the stained image in the unstained one, whole pixels."""
    fixed = cv2.Canny(cv2.cvtColor(before, cv2.COLOR_RGB2GRAY), 50, 150)
    moved = cv2.Canny(cv2.cvtColor(after, cv2.COLOR_RGB2GRAY), 50, 150)
    template = moved[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    scores = cv2.matchTemplate(fixed, template, cv2.TM_CCORR_NORMED)
    x, y = cv2.minMaxLoc(scores)[3]
    return x - MARGIN_PX, y - MARGIN_PX


def literal_fine(crop: Image, search: Image) -> Point:
    """Shift of the best similarity; a parabola gives the fraction, for comparison with ours."""
    scores = np.zeros((2 * REACH_PX + 1, 2 * REACH_PX + 1))
    for row in range(scores.shape[0]):
        for column in range(scores.shape[1]):
            part = search[row : row + CROP_PX, column : column + CROP_PX]
            scores[row, column] = structural_similarity(crop, part, data_range=255)  # type: ignore[no-untyped-call]
    return peak(scores)


def literal_fine_of_cell(crop: Image, search: Image, weights: NDArray[np.float32]) -> Point:
    """The similarity that is used here, red and blue light on the cell alone, in the same loops."""
    scores = np.zeros((2 * REACH_PX + 1, 2 * REACH_PX + 1))
    inner = np.zeros_like(weights)
    inner[3:-3, 3:-3] = weights[3:-3, 3:-3]
    for row, column in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        for share, one, other in zip((2, 1), crop, search, strict=True):
            part = other[row : row + CROP_PX, column : column + CROP_PX]
            _, local = structural_similarity(one, part, data_range=255, full=True)  # type: ignore[no-untyped-call]
            scores[row, column] += share * float((local * inner).sum())
    return peak(scores)


def peak(scores: NDArray[np.float64]) -> Point:
    """Where a score map is largest, against its middle."""
    row, column = (int(i) for i in np.unravel_index(int(scores.argmax()), scores.shape))
    dx, dy = subpixel_peak(scores, row, column)
    return column + dx - scores.shape[1] // 2, row + dy - scores.shape[0] // 2


def literal_highres(crop: Image, image: Image) -> Point:
    """Middle of the 20x crop in the whole 100x image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (9, 9), 0)
    # A 7 x 7 Laplacian of OpenCV holds 1024 times the second derivative.
    rims = grey - 40 / 1024 * cv2.Laplacian(smooth, cv2.CV_32F, ksize=7)
    template = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), None, fx=RATIO, fy=RATIO).astype(
        np.float32
    )
    scores = cv2.matchTemplate(rims, template, cv2.TM_CCOEFF_NORMED)
    x, y = cv2.minMaxLoc(scores)[3]
    return x + (template.shape[1] - 1) / 2, y + (template.shape[0] - 1) / 2


# One position in memory --------------------------------------------------------------------------


@dataclass(frozen=True)
class Position:
    """Images of one position and what is true of them."""

    before: View
    after: View
    frames: Sequence[Image]
    cells: Sequence[Cell]
    highres: Sequence[View]
    pixel_um: float

    def seen(self, cell: Cell) -> tuple[int, int]:
        """The pixel of the stained image a cell finder would give."""
        x, y = self.after.pixel(cell.position(stained=True))
        return round(float(x)), round(float(y))

    def box(self, cell: Cell) -> Point:
        """Width and height of a cell's box."""
        return cell.diameter_um / self.pixel_um, cell.diameter_um / self.pixel_um

    def expected(self, cell: Cell, high: View) -> Point:
        """Where the stage would put the cell in its 100x image: a little off."""
        x, y = high.pixel(cell.position(stained=True))
        return float(x) + 40, float(y) - 30


def render(highres: int) -> Position:
    """Render the position; `highres` of its cells at 100x."""
    hardware = load_hardware("simulator")
    options = {**hardware.options, "smear": {"white_cells_per_mm2": 125}}
    world = open_world(hardware.model_copy(update={"options": options}))
    centre = (11_000.0, 5_600.0)
    world.look_at(*centre)
    before = take(world, 0.22)
    world.stained, world.transform = True, SlideTransform(*centre, 24.0, -18.0, 0.1)
    world.look_at(centre[0] + 1.4, centre[1] - 2.2)
    after = take(world, 0.22)
    around = world.smear.cells(centre[0] - 250, centre[1] - 145, centre[0] + 250, centre[1] + 145)
    cells = [cell for cell in around if cell.is_white and not cell.lost]
    world.oil = True
    world.turn_to("100x")
    taken = []
    for cell in cells[:highres]:
        world.look_at(*cell.position(stained=True))
        taken.append(take(world, 5.3))
    frames = [before.image] * FRAMES
    return Position(before, after, frames, cells, taken, hardware.pixel_um("20x"))


def literal_position(at: Position) -> None:
    """All steps for one position."""
    dx, dy = literal_field(at.before.image, at.after.image)
    before, after = grey_image(at.before.image), grey_image(at.after.image)
    for index, cell in enumerate(at.cells):
        x, y = at.seen(cell)
        crop = at.after.image[y - 32 : y + 32, x - 32 : x + 32]
        search = before[y + dy - 37 : y + dy + 37, x + dx - 37 : x + dx + 37]
        u, v = literal_fine(after[y - 32 : y + 32, x - 32 : x + 32], search)
        left, top = x + dx + round(u) - 32, y + dy + round(v) - 32
        np.stack([frame[top : top + 64, left : left + 64] for frame in at.frames])
        if index < len(at.highres):
            image = at.highres[index].image
            a, b = (round(value) for value in literal_highres(crop, image))
            cv2.resize(image[b - 160 : b + 160, a - 160 : a + 160], (64, 64), interpolation=3)


def our_position(at: Position, ratio: float, rotation_deg: float) -> None:
    """The same with the functions that plsctl uses."""
    field = match_position(at.before.image, at.after.image, 0.1, at.pixel_um)
    aligner = FieldAligner(at.before.image, at.after.image, field)
    for index, cell in enumerate(at.cells):
        found = aligner.align(*at.seen(cell), at.box(cell), CROP_PX, REACH_PX)
        if found is None:
            continue
        left, top = (round(value - 31.5) for value in found.unstained)
        np.stack([frame[top : top + 64, left : left + 64] for frame in at.frames])
        turned_crop(at.after.image, found.stained, CROP_PX, found.rotation_deg)
        if index < len(at.highres):
            part, place = our_highres(at, index, found, ratio, rotation_deg)
            turned = rotation_deg + found.rotation_deg
            reduce_highres(part, (place.x, place.y), CROP_PX, ratio, turned)


def our_highres(
    at: Position, index: int, found: CellMatch, ratio: float, rotation_deg: float
) -> tuple[Image, HighresPlace]:
    """The part of a 100x image that a build reads, and where the cell lies in it."""
    view = at.highres[index]
    x, y = at.expected(at.cells[index], view)
    room = round(CROP_PX * ratio / 2) + HIGHRES_REACH_PX + 24
    left, top = max(0, round(x) - room), max(0, round(y) - room)
    part = view.image[top : round(y) + room, left : round(x) + room]
    place = find_highres(
        at.after.image,
        found.stained,
        part,
        (x - left, y - top),
        size_px=CROP_PX,
        reach_px=HIGHRES_REACH_PX,
        ratio=ratio,
        rotation_deg=rotation_deg,
    )
    return part, place


# What comes out ----------------------------------------------------------------------------------


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Least processor time of one run."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def print_fine(at: Position, repeats: int) -> None:
    """Fine alignment: the same positions, and times a cell."""
    field = match_position(at.before.image, at.after.image, 0.1, at.pixel_um)
    before, after = grey_image(at.before.image), grey_image(at.after.image)
    planes_before, planes_after = (alignment_planes(v.image) for v in (at.before, at.after))
    same, own = [], []
    for cell in at.cells:
        x, y = at.seen(cell)
        u, v = (round(value) for value in field.to_unstained.apply_to(x, y))
        crop = np.s_[..., y - 32 : y + 32, x - 32 : x + 32]
        search = np.s_[..., v - 37 : v + 37, u - 37 : u + 37]
        weights = cell_weights(CROP_PX, *at.box(cell))
        found = align_crop(after[crop], before[search])
        same.append(np.subtract(literal_fine(after[crop], before[search]), (found.dx, found.dy)))
        args = planes_after[crop], planes_before[search]
        found = align_crop(*args, REACH_PX, weights, 3)
        own.append(np.subtract(literal_fine_of_cell(*args, weights), (found.dx, found.dy)))
    grey = seconds(lambda: literal_fine(after[crop], before[search]), repeats)
    ours = seconds(lambda: align_crop(after[crop], before[search]), 5 * repeats)
    line("fine alignment of a cell, grey, whole crop", grey, ours, np.abs(same).max())
    literal = seconds(lambda: literal_fine_of_cell(*args, weights), repeats)
    ours = seconds(lambda: align_crop(*args, REACH_PX, weights, 3), 5 * repeats)
    line("fine alignment of a cell, red and blue, cell alone", literal, ours, np.abs(own).max())


def print_highres(at: Position, repeats: int) -> None:
    """The 100x match: the same positions by the same method, and times a cell."""
    differences = []
    for cell, view in zip(at.cells, at.highres, strict=False):
        x, y = at.seen(cell)
        crop = at.after.image[y - 32 : y + 32, x - 32 : x + 32]
        expected = at.expected(cell, view)
        found = match_highres(crop, view.image, expected, HIGHRES_REACH_PX, "log")
        literal = literal_highres(crop, view.image)
        true = view.pixel(at.after.place(np.array([x - 0.5, y - 0.5])))
        errors = [np.linalg.norm(np.subtract(p, true)) for p in (literal, (found.x, found.y))]
        if max(errors) <= RIGHT_PX * TRUE_RATIO:
            differences.append(np.subtract(literal, (found.x, found.y)) / TRUE_RATIO)
    literal_s = seconds(lambda: literal_highres(crop, view.image), repeats)
    log_s = seconds(lambda: match_highres(crop, view.image, expected, 154, "log"), repeats)
    field = match_position(at.before.image, at.after.image, 0.1, at.pixel_um)
    aligner = FieldAligner(at.before.image, at.after.image, field)
    index = len(at.highres) // 2
    match = aligner.align(*at.seen(at.cells[index]), at.box(at.cells[index]), CROP_PX, REACH_PX)
    colour_s = math.inf
    if match is not None:
        colour_s = seconds(lambda: our_highres(at, index, match, TRUE_RATIO, -0.5), repeats)
    line("100x match of a cell, LoG", literal_s, log_s, np.abs(differences).max())
    line("100x match of a cell, colour of the stain", literal_s, colour_s, None)


def line(what: str, literal_s: float, ours_s: float, difference: float | None) -> None:
    """A row of the table."""
    apart = "" if difference is None else f"{difference:.3f}"
    print(
        f"| {what} | {1000 * literal_s:.1f} | {1000 * ours_s:.2f} | "
        f"{literal_s / ours_s:.1f} | {apart} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--highres", type=int, default=30, help="cells taken at 100x")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    at = render(options.highres)
    print(f"{len(at.cells)} white cells, {len(at.highres)} of them at 100x")
    print("| step | literal, ms | ours, ms | times | largest difference, 20x px |")
    print("| --- | --- | --- | --- | --- |")
    pair = at.before.image, at.after.image
    whole = match_fields(pair[1], pair[0])
    apart = np.abs(np.subtract(literal_field(*pair), (whole.dx, whole.dy))).max()
    literal_s = seconds(lambda: literal_field(*pair), options.repeats)
    ours_s = seconds(lambda: match_position(*pair, 0.1, at.pixel_um), options.repeats)
    line("field (literal: whole pixels)", literal_s, ours_s, float(apart))
    print_fine(at, options.repeats)
    print_highres(at, options.repeats)
    literal_s = seconds(lambda: literal_position(at), 1)
    ours_s = seconds(lambda: our_position(at, TRUE_RATIO, -0.5), options.repeats)
    line("the whole position", literal_s, ours_s, None)


if __name__ == "__main__":
    main()
