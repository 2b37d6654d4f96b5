"""How the camera stands against the stage, measured: the stage moves, the image shifts.

A camera that is mirrored or turned unlike its description sends the stage to the wrong place as
soon as a returned slide lies elsewhere than before, and nothing else shows it.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.devices.calibration_kinds import PixelSize
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import ShiftFinder

MOVE_SHARE = 0.2
"""The stage moves by this share of the field's shorter side."""

REACH_SHARE = 0.5
"""Shifts up to this share of it are looked for: pixels may be twice as small as the file says."""

SAME_PIXEL = 0.05
SAME_ROTATION_DEG = 3.0
STAGE_ERROR = 0.75
"""A move may be wrong by this share of the tolerance to which the stage arrives."""

Look = Callable[[float, float], Image | None]
"""Takes a bright-field image at a place (micrometres); None where the stage cannot go."""

Pair = tuple[float, float]


@dataclass(frozen=True)
class CameraAxes:
    """What two moves of the stage showed of the camera.

    `misfit` is how far the shifts depart from those of any camera, as a share of them.
    """

    orientation: CameraOrientation
    pixel_um: float
    misfit: float


def axes_from_shifts(moves_um: Sequence[Pair], shifts_px: Sequence[Pair]) -> CameraAxes | None:
    """The camera under which moves of the stage shift the image so; None where it stood still.

    Parameters
    ----------
    moves_um
        Moves of the stage (x, y), at least two in different directions.
    shifts_px
        How the content moved in the image (x, y) with each.
    """
    moves = [complex(*move) for move in moves_um]
    shifts = [complex(*shift) for shift in shifts_px]
    # The content moves against the stage. With x + iy: shift = -move / pixel, turned back by the
    # rotation; in a mirrored image -x + iy, the negative conjugate of it.
    plain = sum(-s / m for m, s in zip(moves, shifts, strict=True)) / len(moves)
    mirror = sum((s / m.conjugate()).conjugate() for m, s in zip(moves, shifts, strict=True))
    mirror /= len(moves)
    mirrored = abs(mirror) > abs(plain)
    factor = mirror if mirrored else plain
    if abs(factor) < 1e-9:
        return None
    expected = [-m * factor for m in moves]
    if mirrored:
        expected = [-e.conjugate() for e in expected]
    off = math.hypot(*(abs(e - s) for e, s in zip(expected, shifts, strict=True)))
    misfit = off / math.hypot(*(abs(s) for s in shifts))
    rotation_deg = -math.degrees(cmath.phase(factor))
    return CameraAxes(CameraOrientation(rotation_deg, mirrored), 1 / abs(factor), misfit)


def mean_axes(one: CameraAxes, other: CameraAxes) -> CameraAxes | None:
    """The mean of what was measured at two places; None where they do not show one camera."""
    turn_deg = one.orientation.turn_to(other.orientation)
    ratio = other.pixel_um / one.pixel_um
    mirrored = one.orientation.mirrored
    if mirrored != other.orientation.mirrored or abs(turn_deg) > 10 or not 0.8 < ratio < 1.25:
        return None
    return CameraAxes(
        CameraOrientation(one.orientation.rotation_deg + turn_deg / 2, mirrored),
        (one.pixel_um + other.pixel_um) / 2,
        max(one.misfit, other.misfit),
    )


@dataclass(frozen=True)
class AxesCheck:
    """Compares the camera under an objective with what the hardware file says of it."""

    hardware: Hardware
    objective: str
    finder: ShiftFinder

    @property
    def move_um(self) -> float:
        """How far the stage moves, in x and in y."""
        return MOVE_SHARE * min(self.hardware.camera.size_px) * self._pixel_um

    @property
    def _pixel_um(self) -> float:
        return self.hardware.pixel_um(self.objective)

    def measure(
        self, look: Look, place: Pair, towards: Pair
    ) -> tuple[Image | None, CameraAxes | None]:
        """The image at a place, and what two moves from there tell; None where they do not.

        Moves go `towards` a place, so that they stay inside the region.
        """
        image = look(*place)
        if image is None:
            return None, None
        moves = [
            (math.copysign(self.move_um, towards[0] - place[0]), 0.0),
            (0.0, math.copysign(self.move_um, towards[1] - place[1])),
        ]
        shifts = []
        for dx, dy in moves:
            moved = look(place[0] + dx, place[1] + dy)
            reach_px = REACH_SHARE * min(image.shape[:2])
            shift = None if moved is None else self.finder.shift(image, moved, reach_px)
            if shift is None:
                return image, None
            shifts.append(shift)
        return image, axes_from_shifts(moves, shifts)

    def contradiction(self, found: CameraAxes) -> UserError | None:
        """What is wrong with the hardware file, if that is what the camera is."""
        camera, pixel_um = self.hardware.camera, self._pixel_um
        slack = STAGE_ERROR * self.hardware.stage.tolerance_um / self.move_um
        if found.misfit > max(SAME_PIXEL, 2 * slack):
            return UserError(
                f"moves of the stage by {self.move_um:.1f} µm in x and in y do not shift the image "
                "equally far and at right angles, as they do under every camera "
                f"(misfit {found.misfit:.0%}).",
                file=self.hardware.file,
                field="stage.xy_device",
                hint="Check the stage's step size in x and in y, that the slide lies firmly, and "
                "`stage.backlash_um`.",
            )
        said, is_now = self.hardware.orientation(self.objective), found.orientation
        wrong: dict[str, str] = {}
        turned = abs(said.turn_to(is_now)) > max(SAME_ROTATION_DEG, math.degrees(slack))
        if said.mirrored != is_now.mirrored:
            wrong["mirrored"] = str(is_now.mirrored).lower()
        if turned:
            wrong["rotation_deg"] = f"{is_now.rotation_deg:.1f}"
        if abs(found.pixel_um / pixel_um - 1) > max(SAME_PIXEL, slack):
            magnification = self.hardware.objective(self.objective).magnification
            wrong["pixel_pitch_um"] = f"{found.pixel_um * magnification / camera.binning:.3g}"
        if not wrong:
            return None
        values = ", ".join(f"{name}: {value}" for name, value in wrong.items())
        remedy = f"Write camera: {{{values}}} into the hardware file{_about_pixels(wrong)}"
        if any(isinstance(each, PixelSize) for each in self.hardware.calibrations):
            remedy = "Measure it anew (plsctl calibrate pixel-size)"
        return UserError(
            f"the file says {_described(said, pixel_um)}; but moves of the stage by "
            f"{self.move_um:.1f} µm in x and in y shift the image as under a camera that is "
            f"{_described(is_now, found.pixel_um)}.",
            file=self.hardware.file,
            field=f"camera.{next(iter(wrong))}",
            hint=f"{remedy}, or put the camera back as it was. Nothing of this pass was taken.",
        )


def _described(orientation: CameraOrientation, pixel_um: float) -> str:
    mirrored = "mirrored" if orientation.mirrored else "not mirrored"
    turned = f"turned by {orientation.rotation_deg:.1f} deg"
    return f"{mirrored}, {turned}, with pixels of {pixel_um:.3f} µm"


def _about_pixels(wrong: dict[str, str]) -> str:
    if "pixel_pitch_um" not in wrong:
        return ""
    return " (or correct the objective's magnification, or the camera's binning)"
