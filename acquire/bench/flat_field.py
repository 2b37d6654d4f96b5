"""Flat field: how light and sensor depart from an even image, from several places of a slide.

At every place bright field and each bright-field LED are taken. Cells lie elsewhere in every image,
what belongs to microscope and camera does not: over all places each pixel keeps the level of glass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray, Image, RawImage
from plsctl.acquire.bench.bright_field import BenchLight, BrightFieldBench, Seen
from plsctl.acquire.bench.exposures import EVEN, FEWEST, MOST_ODD, other_table
from plsctl.acquire.capture.content import shows_cells
from plsctl.acquire.devices.calibration_kinds import FlatField, FlatSurface
from plsctl.acquire.devices.calibrations import made
from plsctl.acquire.errors import UserError

ACROSS = 5
"""So many places across, and as many down."""

STEP_SHARE = 0.6
"""Places lie apart by this share of a field."""

GLASS_PERCENTILE = 70.0
"""Of the values of one pixel over all places: glass, where cells cover less than half."""

GRID = (12, 16)
"""Rows and columns of the surface that is kept."""

LEAST_SHADE, LEAST_SPECK_PX = 0.015, 12
"""What may be dust lacks this share of the light over all places, on so many pixels."""

LEAST_SURE_SHADE, MOST_PLACES, LEAST_ON_GLASS = 0.02, 0.9, 3
"""Dust takes this share in the middle of the places with glass around it, and half of it in at
least such a share of them, which are at least so many."""

RING_PX, GLASS_SPREAD = 3, 0.04
"""Width of the ring around a speck, and the standard deviation of its level up to which it is
glass."""

DARK_MS = 200.0
"""Exposure of the dark image that shows hot pixels."""

HOT_SHARE, DEAD_SHARE = 0.1, 0.5
"""A hot pixel has this share of full scale in the dark; a dead one less than this share of its
surroundings in the light."""

MOST_ALIKE = 0.5
"""Correlation of two places from which they count as one."""


@dataclass(frozen=True)
class FlatFieldResult:
    """What was measured, and the level of glass in bright field, (y, x, rgb), 1 on average."""

    calibration: FlatField
    level: FloatArray


def measure_flat_field(bench: BrightFieldBench) -> FlatFieldResult:
    """Measure around the place where the bench stands in focus.

    Raises
    ------
    UserError
        All places show the same: the stage does not move; or the slide moves by itself; or the LED
        table is that of another array.
    """
    microscope = bench.microscope
    hardware, name = microscope.hardware, microscope.objective_name
    na = hardware.objective(hardware.low_power).na
    leds = [led for led in microscope.geometry.leds if led.is_within(na)]
    lights = {led.name: bench.light_for([led.led], led.name) for led in leds}
    _check_table(bench, lights)
    places = _places(bench)
    bright: list[Image] = []
    grids: dict[str, list[FloatArray]] = {label: [] for label in lights}
    for count, (x, y) in enumerate(places, 1):
        bench.progress("taking images of glass", count, len(places))
        microscope.move_xy(x, y)
        bright.append(bench.look(f"at x {x:.0f}, y {y:.0f} µm"))
        for label, light in lights.items():
            grids[label].append(_grid(_relative(bench.snap(light))))
    _check_moves(bright)
    bench.check_still()
    level = glass_over_places(bright)
    surfaces = {"brightfield": FlatSurface.pack(_grid(level))}
    for label, found in grids.items():
        grid = np.percentile(np.stack(found), GLASS_PERCENTILE, axis=0)
        surfaces[label] = FlatSurface.pack(_smooth(grid))
    dark = bench.dark(DARK_MS)
    calibration = FlatField.model_validate(
        made(hardware, [name], *microscope.answers)
        | {
            "surfaces": surfaces,
            "vignette": round(float(1 - _grid(level).min()), 4),
            "dust": specks(bright),
            "dead_px": dead_pixels(bright),
            "hot_px": hot_pixels(dark, 2**hardware.camera.bit_depth - 1),
            "places": len(places),
        }
    )
    bench.remember(Seen("level of glass", _shown(level)))
    return FlatFieldResult(calibration, level)


def _check_table(bench: BrightFieldBench, lights: Mapping[str, BenchLight]) -> None:
    """`UserError` where LEDs in bright field by the table leave most of the image dark."""
    odd = 0
    for name, light in lights.items():
        image = bench.snap(light)
        grey = image.mean(axis=2)
        if np.median(grey) <= EVEN * np.percentile(grey, 99.5):
            odd += 1
            bench.remember(Seen(f"under {name}, bright field by the table", image))
    if odd >= FEWEST and odd > MOST_ODD * len(lights):
        raise other_table(bench, True, odd, len(lights))


def glass_over_places(images: Sequence[Image]) -> FloatArray:
    """The level of glass at every pixel, (y, x, rgb), 1 on average, from images of many places."""
    height = images[0].shape[0]
    levels = [np.maximum(np.median(image, axis=(0, 1)), 1.0) for image in images]
    found = np.empty(images[0].shape, np.float32)
    for top in range(0, height, 64):  # all places of a few rows at a time
        rows = np.stack(
            [i[top : top + 64] / level for i, level in zip(images, levels, strict=True)]
        )
        found[top : top + 64] = np.percentile(rows, GLASS_PERCENTILE, axis=0)
    return np.asarray(found / found.mean(axis=(0, 1)), np.float32)


def specks(images: Sequence[Image]) -> list[tuple[float, float, float, float]]:
    """Dust in images of many places: x, y and radius in pixels, and the share that it takes.

    Where all places together lack light, each is asked again: dust takes its share wherever glass
    lies around it, what is left of cells does not.
    """
    level = glass_over_places(images)
    halves = [_shade(glass_over_places(images[start::2])) for start in (0, 1)]
    both, mean = np.minimum(*halves), (halves[0] + halves[1]) / 2
    even = _even(level)
    plain = [np.asarray((_relative(image) / even).mean(axis=2), np.float32) for image in images]
    greys = [np.asarray(cv2.medianBlur(grey, 3), np.float32) for grey in plain]
    count, labels, sizes, middles = cv2.connectedComponentsWithStats(
        (both > LEAST_SHADE / 2).astype(np.uint8)
    )
    found = []
    for index in range(1, count):
        area = int(sizes[index, cv2.CC_STAT_AREA])
        if area < LEAST_SPECK_PX or float(mean[labels == index].max()) < LEAST_SHADE:
            continue
        x, y = (float(value) for value in middles[index])
        radius = math.sqrt(area / math.pi)
        shades = _shades_on_glass(greys, x, y, radius)
        if len(shades) < LEAST_ON_GLASS or np.median(shades) < LEAST_SURE_SHADE:
            continue
        if np.mean(shades > LEAST_SURE_SHADE / 2) >= MOST_PLACES:
            shade = round(float(np.median(shades)), 3)
            found.append((round(x, 1), round(y, 1), round(radius, 1), shade))
    return sorted(found, key=lambda speck: -speck[3])


def _shades_on_glass(
    greys: Sequence[NDArray[np.float32]], x: float, y: float, radius: float
) -> NDArray[np.float64]:
    """What a place of the image lacks against the ring around it, where that shows glass alone."""
    height, width = greys[0].shape
    inner, reach = 1.4 * radius + 1, math.ceil(1.4 * radius + 1 + RING_PX)
    rows = slice(max(0, int(y) - reach), min(height, int(y) + reach + 1))
    columns = slice(max(0, int(x) - reach), min(width, int(x) + reach + 1))
    down, along = np.mgrid[rows, columns]
    distance = np.hypot(down - y, along - x)
    inside, ring = distance <= max(0.7 * radius, 1.5), (distance >= inner) & (distance <= reach)
    parts = [grey[rows, columns] for grey in greys]
    return np.array(
        [
            1 - float(part[inside].mean() / np.median(part[ring]))
            for part in parts
            if part[ring].std() < GLASS_SPREAD
        ]
    )


def _shade(level: FloatArray) -> FloatArray:
    """What each pixel lacks against its surroundings, dead pixels left out, shape (y, x)."""
    height, width = level.shape[:2]
    # Without the vignetting, which would look like dust in the corners.
    grey = _median(np.asarray((level / _even(level)).mean(axis=2), np.float32), 5)
    fine = cv2.GaussianBlur(grey, (0, 0), 1.5)
    # Larger than any speck: a median is not drawn down by one.
    size = (max(8, width // 8), max(8, height // 8))
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    ground = cv2.resize(_median(small, 15), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(1 - fine / np.maximum(ground, 1e-3), np.float32)


def _even(level: FloatArray) -> FloatArray:
    """The smooth surface of a level of glass, (y, x, rgb)."""
    height, width = level.shape[:2]
    surface = cv2.resize(_smooth(_grid(level)), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(surface, np.float32)


def dead_pixels(images: Sequence[Image]) -> list[tuple[int, int]]:
    """Pixels (x, y) that stay dark wherever the slide is."""
    brightest = np.max([image.max(axis=2) for image in images], axis=0).astype(np.float32)
    around = cv2.medianBlur(brightest.astype(np.uint8), 5).astype(np.float32)
    rows, columns = np.nonzero(brightest < DEAD_SHARE * around)
    return [(int(x), int(y)) for x, y in zip(columns, rows, strict=True)]


def hot_pixels(dark: RawImage, full_scale: int) -> list[tuple[int, int]]:
    """Pixels (x, y) that are bright in a dark image, (y, x, rgb) or (y, x)."""
    values = dark.max(axis=2) if dark.ndim == 3 else dark
    rows, columns = np.nonzero(values > np.median(values) + HOT_SHARE * full_scale)
    return [(int(x), int(y)) for x, y in zip(columns, rows, strict=True)]


def _median(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Median over squares, of an image of levels about 1, on 8 bits around them."""
    low, high = 0.7, 1.3
    scaled = np.clip((image - low) / (high - low) * 255, 0, 255)
    middle = cv2.medianBlur(np.rint(scaled).astype(np.uint8), size)
    return np.asarray(middle / 255 * (high - low) + low, np.float32)


def _places(bench: BrightFieldBench) -> list[tuple[float, float]]:
    microscope = bench.microscope
    x, y, _ = microscope.position_um
    side = STEP_SHARE * microscope.pixel_um
    width, height = (side * px for px in microscope.hardware.camera.size_px)
    steps = np.arange(ACROSS) - (ACROSS - 1) / 2
    return [(x + float(i) * width, y + float(j) * height) for j in steps for i in steps]


def _relative(image: Image) -> FloatArray:
    return np.asarray(image / np.maximum(np.median(image, axis=(0, 1)), 1.0), np.float32)


def _grid(level: FloatArray) -> FloatArray:
    """The levels of glass in parts of an image, (row, column, rgb), 1 on average."""
    height, width = level.shape[:2]
    rows = np.linspace(0, height, GRID[0] + 1).astype(int)
    columns = np.linspace(0, width, GRID[1] + 1).astype(int)
    found = np.empty((*GRID, 3), np.float32)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            part = level[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
            found[row, column] = np.median(part, axis=(0, 1))
    return np.asarray(found / found.mean(axis=(0, 1)), np.float32)


def _smooth(grid: NDArray[np.floating[Any]]) -> FloatArray:
    """The surface of second order through levels, 1 on average: one LED shades every cell."""
    y, x = np.mgrid[-1 : 1 : grid.shape[0] * 1j, -1 : 1 : grid.shape[1] * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    fitted = terms @ np.linalg.lstsq(terms, grid.reshape(-1, 3), rcond=None)[0]
    found = fitted.reshape(grid.shape)
    return np.asarray(found / found.mean(axis=(0, 1)), np.float32)


def _check_moves(images: Sequence[Image]) -> None:
    one, other = (
        image[..., 1].astype(np.float32) - cv2.GaussianBlur(image[..., 1], (0, 0), 8.0)
        for image in (images[0], images[-1])
    )
    alike = float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    if shows_cells(images[0]) and alike > MOST_ALIKE:
        raise UserError(
            f"two places of the slide look alike (correlation {alike:.2f}): the stage or the slide "
            "does not move.",
            hint="Check the stage, and that the slide lies in its holder. Nothing was written.",
        )


def _shown(level: FloatArray) -> Image:
    return np.asarray(np.clip(level * 190, 0, 255), np.uint8)
