"""Cell neighbourhoods rendered one by one, without scanning the fields around them.

The same world as the simulated microscope's, with a sensor just large enough for one cell: what
comes out is what a scan would have cut from its images, at a small part of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.store.records import FrameRecord
from plsctl.sim.smear.cells import Cell
from plsctl.sim.world.settings import SimulatorSettings
from plsctl.sim.world.world import World

Image = NDArray[np.uint8]

TINTS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
"""Shares of red, green and blue in coloured light."""


@dataclass(frozen=True)
class RenderedCell:
    """One white cell, in the middle of all its images.

    `stack` has the shape (frame, y, x, rgb), `stained` (y, x, rgb), and `highres` the same scene
    as `stained` with the ratio of the objectives' magnifications as many pixels each way.
    """

    cell: Cell
    stack: Image
    stained: Image
    highres: Image


def render_cells(
    hardware: Hardware,
    settings: SimulatorSettings,
    frames: Sequence[FrameRecord],
    highres_frame: FrameRecord,
    count: int,
    crop_px: int,
) -> Iterator[RenderedCell]:
    """White cells of the slide's monolayer, in the order in which tiles of it are visited.

    Objectives are taken as nominal (no scale error, no rotation against each other), and every cell
    lies where a perfect match would put it, before and after staining. The sensor has no flaws in
    fixed places, because each cell would show the same ones. Its vignette dims a cell's 20x images
    as it would at some place of the field: a network that never saw that would take the dimness of
    a frame's corners for stain.
    """
    low_name = hardware.low_power
    high_name = max(
        hardware.turret.objectives, key=lambda name: hardware.objective(name).magnification
    )
    ratio = round(
        hardware.objective(high_name).magnification / hardware.objective(low_name).magnification
    )
    flawless = settings.sensor.model_copy(
        update={"dead_pixels": 0, "dust_specks": 0, "vignette": 0.0}
    )
    nominal = settings.model_copy(update={"objectives": {}, "sensor": flawless})
    low = World(_with_sensor(hardware, crop_px), nominal)
    high = World(_with_sensor(hardware, crop_px * ratio), nominal)
    high.turn_to(str(hardware.objective(high_name).label))
    high.stained = high.oil = True
    for cell in _white_cells(low, count):
        low.stained = False
        low.look_at(cell.x_um, cell.y_um)
        light = 1 - settings.sensor.vignette * _distance_2(cell, hardware.camera.size_px)
        stack = np.stack([_expose(low, frame, light) for frame in frames])
        low.stained = True
        x, y = cell.position(stained=True)
        low.look_at(x, y)
        high.look_at(x, y)
        stained = _expose(low, frames[0], light)
        yield RenderedCell(cell, stack, stained, _expose(high, highres_frame))


def _distance_2(cell: Cell, size_px: tuple[int, int]) -> float:
    """Squared distance of a random place of the field from its middle, in half diagonals."""
    x, y = np.random.default_rng(cell.id).uniform(-0.5, 0.5, 2) * size_px
    return float((x**2 + y**2) / (np.hypot(*size_px) / 2) ** 2)


def _with_sensor(hardware: Hardware, size_px: int) -> Hardware:
    camera = hardware.camera.model_copy(update={"size_px": (size_px, size_px), "bayer": None})
    return hardware.model_copy(update={"camera": camera})


def _expose(world: World, frame: FrameRecord, light: float = 1.0) -> Image:
    """An image of the scene with a share of its light."""
    world.lit = dict.fromkeys(frame.leds, frame.brightness)
    tint = TINTS.get(frame.colour)
    world.tints = {} if tint is None else dict.fromkeys(frame.leds, tint)
    image = world.expose(frame.exposure_ms * light, frame.gain)
    shift = world.hardware.camera.bit_depth - 8
    return (image >> shift).astype(np.uint8)


def _white_cells(world: World, count: int) -> Iterator[Cell]:
    """White cells that staining leaves in place, from one end of the monolayer to the other."""
    smear = world.settings.smear
    margin_um, step_um = 1000.0, 500.0
    (x_low, x_high), (y_low, y_high) = smear.monolayer_x_um, smear.smear_y_um
    found = 0
    for x in np.arange(x_low + margin_um, x_high - margin_um, step_um):
        for y in np.arange(y_low + margin_um, y_high - margin_um, step_um):
            for cell in world.smear.cells(x, y, x + step_um, y + step_um):
                if cell.is_white and not cell.lost:
                    yield cell
                    found += 1
                    if found == count:
                        return
