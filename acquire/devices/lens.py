"""Lens and slide: every move of the stage and every turn of the turret passes through here.

Near the slide the lens travels only short ways inside the scanned region; before everything else, a
turn of the turret or a person's hand, it is drawn back (`turret.retract_z_um`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

from plsctl.acquire.devices.backend import first_line
from plsctl.acquire.devices.heights import SIGNS, Heights
from plsctl.acquire.devices.stage import Stage
from plsctl.acquire.devices.turret import Turner, Turret
from plsctl.acquire.errors import HardwareError, PlsctlError, UserError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.devices.hardware import Hardware
    from plsctl.acquire.devices.hardware_parts import Objective, Range


class Lens:
    """The objective in the light path, and how near it is to the slide."""

    def __init__(self, hardware: Hardware, core: CMMCorePlus) -> None:
        self.hardware = hardware
        self.stage = Stage(hardware, core)
        self.turner: Turner | None = None
        """Asks the person who turns a turret without a motor."""
        self._heights = Heights(hardware)
        self._turret = Turret(hardware, core, self.stage.wait)
        self.stage.objective = self._turret.objective
        self._stands: Literal["anywhere", "near", "away"] = "anywhere"
        self._region: tuple[Range, Range] | None = None
        self._homed = hardware.stage.homing == "none"

    # Stage -----------------------------------------------------------------------------------

    @property
    def is_near(self) -> bool:
        """Whether the lens was sent to a height at the slide and not drawn back since."""
        return self._stands == "near"

    def stay_within(self, x_um: Range, y_um: Range) -> None:
        """Name the part of the stage over which the lens may travel while it is near the slide."""
        self._region = (x_um, y_um)

    def move_xy(self, x_um: float, y_um: float, straight: bool = False) -> tuple[float, float]:
        """Go to a stage position and return where the stage arrived (see `Stage.move_xy`).

        Before a long way, and before one that leaves or enters the region of `stay_within`, the
        lens is drawn back, and stays so: `move_z` brings it to the slide again.
        """
        self.stage.check_limits(x_um, y_um)
        if self._stands != "near" or not self._may_stay_near(x_um, y_um):
            self.retract()
            # A dry lens is drawn back as far as its limits allow; under others there is oil.
            if self._turret.objective is None or self._objective.immersion != "air":
                self._check_away("travels")
        return self.stage.move_xy(x_um, y_um, straight)

    def _may_stay_near(self, x_um: float, y_um: float) -> bool:
        """Whether the lens need not be drawn back on the way to a place; no slide is quite flat."""
        here, there = self.stage.xy_um, (x_um, y_um)
        if math.dist(here, there) > self.hardware.turret.long_travel_um:
            return False
        return self._region is None or all(
            low <= value <= high
            for place in (here, there)
            for value, (low, high) in zip(place, self._region, strict=True)
        )

    def move_z(self, z_um: float) -> None:
        """Go to a height within the objective's limits, micrometres, and verify the arrival."""
        self.stage.check_limits(z_um=z_um)
        self._stands = "near"
        self.stage.move_z(z_um)

    def z_on_its_way(self, z_um: float, um_per_s: float) -> AbstractContextManager[None]:
        """Move slowly to a height, while the block runs (see `Stage.z_on_its_way`)."""
        self.stage.check_limits(z_um=z_um)
        self._stands = "near"
        return self.stage.z_on_its_way(z_um, um_per_s)

    def retract(self) -> None:
        """Draw the lens back from the slide, as far as the z limits allow."""
        if self._stands == "away":
            return
        name, before = self._turret.objective, self.stage.z_um
        wanted = self._heights.drawn_back_um(name, before, was_sent=self.is_near)
        z = self.stage.z_limits.nearest(wanted)
        # It may stand farther away than that: the way there would bring it nearer.
        if self._heights.away * (z - before) > 0:
            self.stage.move_z(z, roughly=True)
        self._stands = "away"

    def _check_away(self, what: str) -> None:
        """`UserError` when the z limits have left no room to draw the lens back."""
        name, z = self._turret.objective, self.stage.z_um
        if self._heights.is_away(name, z):
            return
        limits, turret = self.stage.z_limits, self.hardware.turret
        raise UserError(
            f"before it {what}, the lens must be {turret.retract_z_um:g} µm "
            f"{turret.retract_direction} from focus (focus_z_um {self.hardware.focus_z_um:g}); it "
            f"was drawn back to z = {z:.1f} µm, and {limits.whose} are {limits.low_um:g} to "
            f"{limits.high_um:g} µm.",
            file=self.hardware.file,
            field=limits.field,
            hint="Widen them on that side if the microscope allows it, or correct "
            "'turret.retract_z_um', 'turret.retract_direction' or 'focus_z_um'.",
        )

    def leave(self) -> None:
        """Draw a lens back that was brought near the slide.

        Raises
        ------
        HardwareError
            That failed: the lens stands near the slide.
        """
        if self._stands != "near":
            return
        try:
            try:
                self.retract()
            except KeyboardInterrupt:
                # Whoever presses Ctrl-C again and again wants to go, not to leave the lens there.
                self.retract()
                raise
        except Exception as error:
            why = error.message.rstrip(".") if isinstance(error, PlsctlError) else first_line(error)
            raise HardwareError(
                f"The lens could not be drawn back from the slide: {why}.",
                hint="Draw it back by hand before you touch the slide or the turret.",
            ) from error

    def to_loading(self) -> None:
        """Draw the lens back and go to the loading position: a person will touch the slide."""
        self.retract()
        loading = self.hardware.stage.loading_um
        if loading is None:
            return
        if len(loading) == 3 and self._heights.away * (loading[2] - self.stage.z_um) > 0:
            self.stage.move_z(loading[2], roughly=True)
        self.move_xy(loading[0], loading[1])

    @property
    def needs_homing(self) -> bool:
        """Whether it is not known that the stage has been homed since it was switched on."""
        return not self._homed

    def home(self) -> None:
        """Home x and y where the core does that; else take it as done by a person."""
        if self.hardware.stage.homing == "core":
            self.retract()
            self.stage.home()
        self._homed = True

    # Turret ----------------------------------------------------------------------------------

    @property
    def objective_name(self) -> str:
        """The objective in the light path; `UserError` while a person must tell."""
        name = self._turret.objective
        if name is None:
            raise UserError(
                "the turret is turned by hand, and which objective is in the light path is not "
                "known yet.",
                file=self.hardware.file,
                field="turret.manual",
                hint="Name one with `set_objective`: a person is then asked to turn to it.",
            )
        return name

    def recognise(self) -> str | None:
        """The objective in the light path, asked of the turret; None while a person must tell."""
        self.stage.objective = self._turret.recognise()
        return self.stage.objective

    @property
    def _objective(self) -> Objective:
        return self.hardware.objective(self.objective_name)

    def set_objective(self, name: str) -> None:
        """Turn the turret, or let it be turned by hand, with the lens drawn back.

        A lens that was brought near the slide before comes near it again, by the parfocal offset;
        one that was away stays so.

        Raises
        ------
        UserError
            Focus under that objective would be outside its limits, the turret stands at a place
            that the hardware file does not know, or nobody turns it by hand.
        HardwareError
            The turret or z fails.
        """
        target = self.hardware.objective(name)
        before = self.recognise()
        if before == name:
            return
        heights = [self._heights.focus_um(name)]
        if self._stands == "near" and before is not None:
            offset_um = target.offset_z_um - self.hardware.objective(before).offset_z_um
            heights.append(self.stage.z_um + offset_um)
        returns = len(heights) > 1
        self._check_parfocal(name, heights)
        self.retract()
        self._check_away("turns")
        try:
            self._turret.turn(name, self.turner)
        finally:
            self.stage.objective = self._turret.objective
        if returns:
            self.move_z(heights[-1])

    def _check_parfocal(self, name: str, heights_um: Sequence[float]) -> None:
        """`UserError` when an objective would have to leave its limits to be in focus."""
        limits = self._heights.limits(name)
        for z_um in heights_um:
            if not limits.holds(z_um):
                raise UserError(
                    f"under {name} focus is expected at z = {z_um:.1f} µm, outside {limits.whose} "
                    f"({limits.low_um:g} to {limits.high_um:g} µm); the turret was not turned.",
                    file=self.hardware.file,
                    field=f"turret.objectives.{name}.offset_z_um",
                    hint=SIGNS,
                )
