"""A data set of cells rendered one by one: connects the simulator and the data set's writer."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from plsctl.acquire.devices.hardware import Hardware, find_file
from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.crops import CROP_PX
from plsctl.acquire.plans.exposures import load_exposures
from plsctl.acquire.plans.plan import frame_records
from plsctl.acquire.plans.recipes import load_recipe
from plsctl.process.dataset.splits import assign_splits
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.sim.backend import open_world
from plsctl.sim.world.single_cells import RenderedCell, render_cells


def write_dataset(
    hardware: Hardware,
    out: Path,
    count: int,
    recipe: str,
    seed: int,
    advance: Callable[[], None],
    margin_px: int = 0,
    exposures: Path | None = None,
) -> int:
    """Render `count` white cells into a data set with 20x and 100x targets; the number written.

    Stacks reach `margin_px` farther on every side than the targets.
    """
    if hardware.core != "simulator":
        raise UserError(
            f"'{hardware.name}' is not a simulated microscope.",
            file=hardware.file,
            field="core",
            hint="Name one whose core is 'simulator', such as simulator_small.",
        )
    world = open_world(hardware)
    settings, orientation = world.settings, world.camera_orientation
    beside = [find_file(f"exposures_{name}.csv", hardware.file.parent) for name in ("20x", "100x")]
    tables = [load_exposures(path) for path in (exposures or beside[0], beside[1])]
    described = load_recipe(recipe)
    low = hardware.low_power
    geometry, na = hardware.geometry(), hardware.objective(low).na
    frames = frame_records(described, tables[0], geometry, na)
    highres = frame_records("brightfield", tables[1], geometry, na)[0]
    writer = DatasetWriter(
        out,
        frames,
        recipe=described.name,
        pixel_um=hardware.pixel_um(low),
        crop_px=CROP_PX,
        margin_px=margin_px,
        targets=("20x", "100x"),
        attributes={
            "slides": ["simulated"],
            "black_level": hardware.camera.black_level,
            "full_scale": 255,
            "camera_rotation_deg": orientation.rotation_deg,
            "camera_mirrored": orientation.mirrored,
        },
    )
    with writer:
        side = CROP_PX + 2 * margin_px
        for cell in render_cells(hardware, settings, frames, highres, count, side):
            _append(writer, cell, margin_px)
            advance()
        table = writer.table
        writer.finish(assign_splits(table, (8, 1, 1), seed))
    return len(table)


def _append(writer: DatasetWriter, rendered: RenderedCell, margin_px: int) -> None:
    inner = slice(margin_px, margin_px + CROP_PX)
    side = len(rendered.stained)
    high = cv2.resize(rendered.highres, (side, side), interpolation=cv2.INTER_AREA)
    cell = rendered.cell
    row = {
        "slide": "simulated",
        "patient": "simulated",
        "stain": "simulated",
        "position": f"{cell.id}",
        "x_um": cell.x_um,
        "y_um": cell.y_um,
        "type": cell.type,
        "flags": "",
    }
    writer.append(
        _channels_first(rendered.stack)[None],
        {
            "20x": _channels_first(rendered.stained[inner, inner])[None],
            "100x": _channels_first(np.asarray(high)[inner, inner])[None],
        },
        pd.DataFrame([row]),
    )


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(images, -1, -3))
