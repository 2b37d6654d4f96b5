"""The stack of the place under the objective, in one call and without a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plsctl.acquire.arrays import Images
from plsctl.acquire.capture.stack import TakenFrame
from plsctl.acquire.capture.stack_timing import open_stack
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.files.locations import location
from plsctl.acquire.plans.exposures import load_exposures
from plsctl.acquire.plans.plan import check_camera, frame_records
from plsctl.acquire.plans.recipes import load_recipe
from plsctl.acquire.store.images import develop_mosaic

TAKES = 3
"""How often a frame that does not come is asked for."""


class _Uninterrupted:
    """Nothing comes between two frames (see `Boundary`)."""

    def check(self) -> None:
        pass

    def hold(self) -> bool:
        return False


def take_stack(
    microscope: Microscope, recipe: str | Path = "full", exposures: str | Path | None = None
) -> Images:
    """Take the frames of a recipe where the stage stands, at the height where it stands.

    What a scan does beside that is not done: finding focus, checking each frame, writing it.

    Parameters
    ----------
    recipe
        Name of the recipe, such as "le8deg", or the path of its file.
    exposures
        The exposure table; `exposures_OBJECTIVE.csv` beside the hardware file by default.

    Returns
    -------
    The frames in the recipe's order, (frame, y, x, rgb), uint8, linear. All LEDs are off.

    Raises
    ------
    UserError
        There is no such recipe or table, or the table lacks an LED.
    HardwareError
        A frame did not come.
    """
    hardware = microscope.hardware
    table = (
        hardware.resolve(f"exposures_{microscope.objective_name}.csv")
        if exposures is None
        else location(exposures)
    )
    bright_field_na = hardware.objective(hardware.low_power).na
    frames = frame_records(
        load_recipe(recipe), load_exposures(table), microscope.geometry, bright_field_na
    )
    check_camera(frames, hardware, table)
    taker = open_stack(microscope, frames)
    camera, images = hardware.camera, dict[int | None, np.ndarray]()

    def keep(frame: TakenFrame) -> None:
        full_scale = 2**camera.bit_depth - 1
        images[frame.index] = develop_mosaic(frame.image, camera.bayer, full_scale)

    problems = dict.fromkeys(range(len(frames)), "")
    microscope.leds.forget_state()
    try:
        for _ in range(TAKES):
            wanted = [(index, frames[index]) for index in sorted(problems)]
            problems = taker.take(wanted, keep, _Uninterrupted())
            if not problems:
                break
    finally:
        microscope.leds_off()
    if problems:
        index, reason = next(iter(problems.items()))
        raise HardwareError(
            f"frame '{frames[index].label}' could not be taken: {reason}.",
            hint="Ask the devices: plsctl devices --hardware "
            f"{hardware.file if hardware.file.name else hardware.name}.",
        )
    return np.stack([images[index] for index in range(len(frames))])
