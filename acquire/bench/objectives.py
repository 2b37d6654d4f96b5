"""Two objectives compared: the heights of focus, the places they show, scale and rotation.

One image is taken under the lower objective, and in the middle of what it shows a mosaic of
overlapping images under the other. The mosaic is found in the low image as a whole: its scale and
rotation rest on images alone, the offset on the stage, averaged over all images of the mosaic.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import cv2
import numpy as np

from plsctl.acquire.arrays import Image
from plsctl.acquire.bench.bright_field import BrightFieldBench, Seen
from plsctl.acquire.bench.rough_scale import check_objective
from plsctl.acquire.coordinates import ImageAxes
from plsctl.acquire.devices.calibration_kinds import ObjectiveOffsets
from plsctl.acquire.devices.calibrations import made
from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import HighPowerFinder, HighPowerPlace, Operator, ShiftFinder

STEP_SHARE = 0.55
"""Images of the mosaic lie apart by this share of their width and height."""

MOST_ACROSS = 7
"""So many images make a row or column of the mosaic, if they lie in the low image."""

SPAN = 0.9
"""The mosaic spans at most this share of the low image."""

REACH_SHARE = 1.3
"""Steps are looked for up to this share of what they should be."""

FINE_UM, FINE_STEP_UM = 3.0, 0.5
"""Focus under an objective of high power is searched again so finely."""

OTHER_OBJECTIVE = 0.15
"""A scale that differs by more than this share from the file's is that of another objective."""


@dataclass(frozen=True)
class ObjectivesResult:
    """What was measured, and the images it rests on.

    `outline_px` are the corners of the mosaic in the low image, (x, y).
    """

    calibration: ObjectiveOffsets
    low: Image
    mosaic: Image
    outline_px: tuple[tuple[float, float], ...]


_Cell = tuple[int, int]
"""Row and column of an image in the mosaic."""


@dataclass(frozen=True)
class _Tile:
    image: Image
    stage_um: tuple[float, float]
    corner_px: complex
    """Of the image in the mosaic."""


def measure_objectives(
    bench: BrightFieldBench,
    operator: Operator,
    reference: str,
    objective: str,
    at_um: tuple[float, float],
    shifts: ShiftFinder,
    finder: HighPowerFinder,
) -> ObjectivesResult:
    """Compare an objective with a lower one, `reference`, at a place of a stained smear.

    `at_um` is the stage position that centres the place under the low-power objective.

    Raises
    ------
    UserError
        The place shows too little, what the objectives show does not fit together, or the file
        names another objective. `bench.seen` shows why.
    """
    microscope = bench.microscope
    microscope.set_objective(reference)
    bench.settle(*at_um)
    check_objective(bench, shifts)
    low_z_um = bench.find_focus(FINE_UM, FINE_STEP_UM)
    low = bench.look(f"under {reference}")
    axes = _axes(bench)
    microscope.to_loading()
    if microscope.hardware.objective(objective).immersion != "air":
        operator.bring("oil")
    microscope.set_objective(objective)
    # A field of high power may show glass where the lower one shows enough to focus on.
    x, y = axes.to_um(*_fullest(low, axes.pixel_um / microscope.pixel_um))
    low_x, low_y = axes.centre_um
    high_x, high_y = microscope.to_stage(*at_um)
    microscope.travel(high_x + x - low_x, high_y + y - low_y)
    offset_um = (
        microscope.objective.offset_z_um - microscope.hardware.objective(reference).offset_z_um
    )
    microscope.move_z(low_z_um + offset_um)
    bench.measure_light()
    bench.find_focus(20.0)
    high_z_um = bench.find_focus(FINE_UM, FINE_STEP_UM)
    bench.mark()
    ratio = axes.pixel_um / microscope.pixel_um
    tiles = _tiles(bench, at_um, ratio, axes.size_px, shifts)
    bench.check_still()
    mosaic, middles = _mosaic(tiles)
    bench.remember(Seen(f"mosaic of {len(tiles)} images under {objective}", mosaic))
    place = finder.find(low, mosaic, ratio)
    if place is None:
        raise UserError(
            f"what {objective} shows cannot be found in what {reference} shows.",
            field="--at",
            hint="Name a place of a stained smear with cells all over by --at X Y, in focus under "
            "both; check that each objective is the one that the file names.",
        )
    _check_objective(bench, objective, abs(place.factor), ratio)
    return _result(
        bench, reference, objective, axes, place, tiles, middles, low, mosaic, high_z_um - low_z_um
    )


def _fullest(low: Image, ratio: float) -> tuple[float, float]:
    """The pixel (x, y) of a low image around which a field of high power shows most."""
    height, width = low.shape[:2]
    size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    green = low[..., 1].astype(np.float32)
    mean, squares = (cv2.blur(image, size) for image in (green, green**2))
    spread = squares - mean**2
    # Near the middle, where the mosaic is taken.
    top, left = height // 4, width // 4
    inner = spread[top : height - top, left : width - left]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return float(left + column), float(top + row)


def _axes(bench: BrightFieldBench) -> ImageAxes:
    microscope = bench.microscope
    hardware, name = microscope.hardware, microscope.objective_name
    return ImageAxes(
        microscope.position_um[:2],
        hardware.camera.size_px,
        hardware.pixel_um(name),
        hardware.orientation(name),
    )


def _tiles(
    bench: BrightFieldBench,
    at_um: tuple[float, float],
    ratio: float,
    low_px: tuple[int, int],
    shifts: ShiftFinder,
) -> list[_Tile]:
    """Images over the middle of the low image, each linked to its neighbour by what both show."""
    microscope = bench.microscope
    hardware, name = microscope.hardware, microscope.objective_name
    width, height = hardware.camera.size_px
    counts = [_count(low, high / ratio) for low, high in zip(low_px, (width, height), strict=True)]
    steps = (STEP_SHARE * width, STEP_SHARE * height)
    orientation = hardware.orientation(name)
    centre = microscope.to_stage(*at_um)
    taken: dict[_Cell, tuple[Image, tuple[float, float]]] = {}
    for row in range(counts[1]):
        for column in range(counts[0]):
            bench.progress("taking a mosaic", row * counts[0] + column + 1, math.prod(counts))
            dx_px = (column - (counts[0] - 1) / 2) * steps[0]
            dy_px = (row - (counts[1] - 1) / 2) * steps[1]
            dx, dy = orientation.to_stage(dx_px * microscope.pixel_um, dy_px * microscope.pixel_um)
            arrived = microscope.move_xy(centre[0] + dx, centre[1] + dy)
            image = bench.look(f"under {name}, row {row + 1}, image {column + 1}")
            taken[row, column] = image, arrived
    linked = _linked(taken, steps, shifts)
    if len(linked) * 2 <= math.prod(counts):
        raise UserError(
            f"{math.prod(counts) - len(linked)} of {math.prod(counts)} overlapping images under "
            f"{name} do not show what their neighbours show.",
            field="--at",
            hint="Name a place of a stained smear with cells all over by --at X Y, and see that "
            "the slide lies firmly and in focus.",
        )
    return [_Tile(*taken[cell], corner) for cell, corner in linked.items()]


def _count(low_px: float, high_px: float) -> int:
    fitting = math.floor((SPAN * low_px / high_px - 1) / STEP_SHARE + 1)
    return min(max(fitting, 1), MOST_ACROSS)


def _linked(
    taken: dict[_Cell, tuple[Image, tuple[float, float]]],
    steps: tuple[float, float],
    shifts: ShiftFinder,
) -> dict[_Cell, complex]:
    """Where images lie in the mosaic: the most that hang together by what neighbours show."""
    best: dict[_Cell, complex] = {}
    for start in taken:
        # What hangs together with one already tried need not be tried again.
        if start not in best and len(best) * 2 <= len(taken):
            found = _linked_to(start, taken, steps, shifts)
            best = max(best, found, key=len)
    return best


def _linked_to(
    start: _Cell,
    taken: dict[_Cell, tuple[Image, tuple[float, float]]],
    steps: tuple[float, float],
    shifts: ShiftFinder,
) -> dict[_Cell, complex]:
    linked = {start: 0j}
    waiting = [start]
    while waiting:
        row, column = here = waiting.pop(0)
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            there = (row + down, column + right)
            if there in linked or there not in taken:
                continue
            reach = REACH_SHARE * (steps[0] if right else steps[1])
            shift = shifts.shift(taken[here][0], taken[there][0], reach)
            if shift is not None:
                linked[there] = linked[here] - complex(*shift)
                waiting.append(there)
    return linked


def _mosaic(tiles: list[_Tile]) -> tuple[Image, list[complex]]:
    """The images in one, (y, x, rgb), and where the middle of each lies in it."""
    height, width = tiles[0].image.shape[:2]
    corners = np.array([tile.corner_px for tile in tiles])
    origin = complex(corners.real.min(), corners.imag.min())
    size = (
        math.ceil(np.ptp(corners.imag)) + height + 1,
        math.ceil(np.ptp(corners.real)) + width + 1,
    )
    # What no image shows is as bright as glass.
    mosaic = np.full((*size, 3), np.median(tiles[0].image, axis=(0, 1)), dtype=np.uint8)
    middles = []
    for tile in tiles:
        at = tile.corner_px - origin
        left, top = round(at.real), round(at.imag)
        mosaic[top : top + height, left : left + width] = tile.image
        middles.append(at + complex((width - 1) / 2, (height - 1) / 2))
    return mosaic, middles


def _check_objective(
    bench: BrightFieldBench, objective: str, found: float, expected: float
) -> None:
    if abs(found / expected - 1) <= OTHER_OBJECTIVE:
        return
    hardware = bench.microscope.hardware
    raise UserError(
        f"{objective} magnifies {found:.3g} times as much as the lower objective, and by the file "
        f"{expected:.3g} times.",
        file=hardware.file,
        field=f"turret.objectives.{objective}.magnification",
        hint="Turn the objective in that the file names, or correct its magnification. Nothing was "
        "written.",
    )


def _result(
    bench: BrightFieldBench,
    reference: str,
    objective: str,
    axes: ImageAxes,
    place: HighPowerPlace,
    tiles: list[_Tile],
    middles: list[complex],
    low: Image,
    mosaic: Image,
    offset_z_um: float,
) -> ObjectivesResult:
    hardware = bench.microscope.hardware
    offsets = []
    for tile, middle in zip(tiles, middles, strict=True):
        x, y = axes.to_um(*place.in_low(middle.real, middle.imag))
        offsets.append((tile.stage_um[0] - x, tile.stage_um[1] - y))
    spread = np.array(offsets)
    offset, scatter = spread.mean(axis=0), spread.std(axis=0, ddof=1)
    turned = math.degrees(cmath.phase(place.factor))
    fields = made(hardware, [reference, objective], bench.microscope.answers[0], None)
    calibration = ObjectiveOffsets.model_validate(
        {
            **fields,
            "reference": reference,
            "offset_um": [round(float(v), 3) for v in (*offset, offset_z_um)],
            # The image under the lower objective is one: its place has the whole scatter.
            "offset_um_error": [
                round(float(v) * math.sqrt(1 + 1 / len(tiles)), 3) for v in scatter
            ],
            "scale": round(abs(place.factor), 6),
            "scale_error": round(abs(place.factor) * place.scale_error, 6),
            "rotation_deg": round(-axes.orientation.turn_in_image(turned), 4),
            "rotation_deg_error": round(math.degrees(place.scale_error), 4),
            "fields": len(tiles),
        }
    )
    height, width = mosaic.shape[:2]
    corners = ((0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1))
    return ObjectivesResult(
        calibration, low, mosaic, tuple(place.in_low(float(x), float(y)) for x, y in corners)
    )
