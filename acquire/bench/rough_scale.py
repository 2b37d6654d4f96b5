"""Whether the objective is the one that the file names: moves of the stage tell its pixels."""

from __future__ import annotations

from collections.abc import Callable

from plsctl.acquire.arrays import Image
from plsctl.acquire.bench.bright_field import BrightFieldBench
from plsctl.acquire.bench.camera_axes import CameraAxes, Pair, axes_from_shifts
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.roles import ShiftFinder

MOVE_SHARE, REACH_SHARE = 0.15, 0.6
"""How far the stage moves, and how far its image is looked for, as shares of the shorter side."""

OTHER_OBJECTIVE = 0.15
"""Pixels that differ by more than this share from the file's are those of another objective."""


def check_objective(bench: BrightFieldBench, finder: ShiftFinder) -> None:
    """See, where the bench stands in focus, whether the stage's moves show the file's pixels.

    On bare glass nothing can be seen.

    Raises
    ------
    UserError
        The images do not show the moves, or the pixels are those of another objective.
    """
    if not bench.is_marked:
        return
    microscope = bench.microscope
    start = microscope.position_um[:2]

    def look(place_um: Pair) -> Image:
        bench.progress("checking the objective", 0, 0)
        microscope.move_xy(*place_um)
        return bench.look(f"at x {place_um[0]:.0f}, y {place_um[1]:.0f} µm")

    check_pixels(bench, rough_axes(bench, finder, start, look(start), look))
    microscope.move_xy(*start)


def rough_axes(
    bench: BrightFieldBench,
    finder: ShiftFinder,
    start: Pair,
    here: Image,
    look: Callable[[Pair], Image],
) -> CameraAxes:
    """Size and orientation of the pixels from two short moves.

    Parameters
    ----------
    start, here
        Where the stage stands (micrometres), and the image there.
    look
        Goes to a place and takes an image.
    """
    microscope = bench.microscope
    step_um = MOVE_SHARE * min(microscope.hardware.camera.size_px) * microscope.pixel_um
    moves = [(step_um, 0.0), (0.0, step_um)]
    shifts = [
        recognised_shift(bench, finder, here, look((start[0] + dx, start[1] + dy)), (dx, dy))
        for dx, dy in moves
    ]
    found = axes_from_shifts(moves, shifts)
    if found is None:
        raise HardwareError(
            "the image does not move with the stage.",
            hint="Check the stage, and that the slide lies on it.",
        )
    return found


def recognised_shift(
    bench: BrightFieldBench, finder: ShiftFinder, before: Image, after: Image, move_um: Pair
) -> Pair:
    """How far the content has moved, in pixels; `UserError` where that cannot be recognised."""
    hardware = bench.microscope.hardware
    found = finder.shift(before, after, REACH_SHARE * min(hardware.camera.size_px))
    if found is None:
        raise UserError(
            f"a move of the stage by ({move_um[0]:.0f}, {move_um[1]:.0f}) µm cannot be "
            "recognised in the image: the two do not show the same cells.",
            file=hardware.file,
            hint="See that the slide lies firmly and in focus, with cells all over, that the "
            "stage moves, and that the objective and pixel pitch in the file are right; or "
            "name another place by --at X Y.",
        )
    return found


def check_pixels(bench: BrightFieldBench, found: CameraAxes) -> None:
    """`UserError` where pixels are those of another objective than the file's."""
    microscope = bench.microscope
    name, described = microscope.objective_name, microscope.hardware.described
    said_um = described.pixel_um(name)
    if abs(found.pixel_um / said_um - 1) <= OTHER_OBJECTIVE:
        return
    magnification = described.objective(name).magnification * said_um / found.pixel_um
    raise UserError(
        f"the image shows pixels of {found.pixel_um:.3f} µm, and those of {name} are "
        f"{said_um:.3f} µm by the file: it looks like an objective of {magnification:.3g}x.",
        file=described.file,
        field=f"turret.objectives.{name}.magnification",
        hint="Turn the objective in that the file names; or correct its magnification, "
        "camera.pixel_pitch_um or camera.binning. Nothing was written.",
    )
