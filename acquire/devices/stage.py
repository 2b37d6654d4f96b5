"""The stage: limits before every movement, the arrival verified after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from plsctl.acquire.devices.camera import attempt
from plsctl.acquire.devices.heights import SIGNS, Heights, ZLimits
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.files.settings import suggest

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.devices.hardware import Hardware

Arrival = TypeVar("Arrival")

HOMING_S = 180.0
"""Longest time a stage may take to find its reference switches."""


class StoppedElsewhere(HardwareError):
    """The stage does not stand where it was sent."""


class Stage:
    """XY and Z stage of a hardware file, in the core; all places are stage micrometres.

    `objective` is the one in the light path, None while that is not known: the limits of z and its
    tolerance are those of this objective.
    """

    def __init__(self, hardware: Hardware, core: CMMCorePlus) -> None:
        self._file = hardware.file
        self._settings = hardware.stage
        self._heights = Heights(hardware)
        self._core = core
        self.objective: str | None = None
        self._prepare_z_speed()

    def _prepare_z_speed(self) -> None:
        """Set the usual speed of z; a run that was killed may have left another."""
        speed, label = self._settings.z_speed, self._settings.z_device
        if speed is None:
            return
        has = attempt("ask for properties", lambda: self._core.hasProperty(label, speed.property))
        if not has:
            raise UserError(
                f"the focus drive '{label}' has no property '{speed.property}'.",
                file=self._file,
                field="stage.z_speed.property",
                hint=suggest(speed.property, self._core.getDevicePropertyNames(label)),
            )
        self._set_z_speed(speed.usual_um_per_s)

    def _set_z_speed(self, um_per_s: float) -> None:
        speed, label, core = self._settings.z_speed, self._settings.z_device, self._core
        if speed is None:
            return
        name, value = speed.property, um_per_s / speed.um_per_s

        def set_it() -> None:
            wanted = value
            if core.hasPropertyLimits(label, name):
                wanted = max(value, core.getPropertyLowerLimit(label, name))
            core.setProperty(label, name, wanted)

        attempt(f"set the speed of z to {um_per_s:.3g} µm/s", set_it, again=True)

    @property
    def xy_um(self) -> tuple[float, float]:
        """Where the stage says it is (x, y)."""
        label = self._settings.xy_device
        x, y = attempt("read the stage", lambda: self._core.getXYPosition(label))
        return _number("x", x), _number("y", y)

    @property
    def z_um(self) -> float:
        """Where the focus drive says it is."""
        label = self._settings.z_device
        return _number("z", attempt("read z", lambda: self._core.getPosition(label)))

    @property
    def position_um(self) -> tuple[float, float, float]:
        """Where the stage says it is (x, y, z)."""
        return (*self.xy_um, self.z_um)

    @property
    def z_limits(self) -> ZLimits:
        """Between which heights z may be sent now."""
        return self._heights.limits(self.objective)

    def check_limits(
        self, x_um: float | None = None, y_um: float | None = None, z_um: float | None = None
    ) -> None:
        """`UserError` when a position lies outside the limits: for z, those of the objective."""
        stage = self._settings
        for axis, value, (low, high) in (("x", x_um, stage.x_um), ("y", y_um, stage.y_um)):
            if value is not None and not (low <= value <= high):
                raise UserError(
                    f"{axis} = {value:.1f} µm lies outside the stage's limits "
                    f"({low:g} to {high:g} µm).",
                    file=self._file,
                    field=f"stage.{axis}_um",
                    hint="Choose a region inside the limits.",
                )
        limits = self.z_limits
        if z_um is not None and not limits.holds(z_um):
            raise UserError(
                f"z = {z_um:.1f} µm lies outside {limits.whose} ({limits.low_um:g} to "
                f"{limits.high_um:g} µm).",
                file=self._file,
                field=limits.field,
                hint=SIGNS,
            )

    def check_standing(self) -> None:
        """`UserError` when the stage stands where it cannot be, as one that was not homed may.

        Outside its limits, or farther on the slide's side of focus than a lens can be.
        """
        stage = self._settings
        limits = self.z_limits
        # A lens may be parked farther from the slide than it is ever sent.
        if self._heights.away < 0:
            z_range = (stage.z_um[0], limits.high_um)
        else:
            z_range = (limits.low_um, stage.z_um[1])
        ranges = (stage.x_um, stage.y_um, z_range)
        fields = ("stage.x_um", "stage.y_um", limits.field)
        for axis, value, (low, high), field in zip(
            "xyz", self.position_um, ranges, fields, strict=True
        ):
            if not low - stage.tolerance_um <= value <= high + stage.tolerance_um:
                raise UserError(
                    f"the stage stands at {axis} = {value:.1f} µm, outside its limits ({low:g} to "
                    f"{high:g} µm).",
                    file=self._file,
                    field=field,
                    hint="Home the stage if it has not been homed since it was switched on "
                    "('stage.homing'), or bring it inside with its joystick or Micro-Manager; or "
                    "correct the limits.",
                )

        if self._heights.is_beyond(self.objective, self.z_um):
            raise UserError(
                f"the lens stands at z = {self.z_um:.1f} µm, on the other side of focus than "
                "'turret.retract_direction' says is away from the slide.",
                file=self._file,
                field="turret.retract_direction",
                hint="Correct the direction or 'focus_z_um', or bring the lens away by hand if the "
                "slide is out.",
            )

    def move_xy(self, x_um: float, y_um: float, straight: bool = False) -> tuple[float, float]:
        """Go to a position and return where the stage arrived (x, y).

        The last stretch is always travelled in the same direction, so that backlash does not
        matter, unless the way is to be `straight`; an arrival out of tolerance is tried once more.

        Raises
        ------
        UserError
            The position lies outside the limits.
        HardwareError
            The stage fails, or stops elsewhere twice.
        """
        self.check_limits(x_um, y_um)
        return _twice(lambda: self._travel(x_um, y_um) if straight else self._approach(x_um, y_um))

    def _approach(self, x_um: float, y_um: float) -> tuple[float, float]:
        stage = self._settings
        if stage.backlash_um > 0:
            before_x, before_y = x_um - stage.backlash_um, y_um - stage.backlash_um
            # Verified as well: from elsewhere the last stretch would go in another direction.
            self._travel(max(before_x, stage.x_um[0]), max(before_y, stage.y_um[0]))
        return self._travel(x_um, y_um)

    def _travel(self, x_um: float, y_um: float) -> tuple[float, float]:
        stage = self._settings
        attempt(
            f"move the stage to ({x_um:.1f}, {y_um:.1f}) µm",
            lambda: self._core.setXYPosition(stage.xy_device, x_um, y_um),
        )
        self.wait(stage.xy_device)
        x, y = self.xy_um
        error_um = math.hypot(x - x_um, y - y_um)
        if not error_um <= stage.tolerance_um:
            raise StoppedElsewhere(
                f"the stage was sent to ({x_um:.1f}, {y_um:.1f}) µm and stopped {error_um:.1f} µm "
                f"away (tolerance {stage.tolerance_um:g} µm).",
                hint="Check that nothing blocks the stage, then run the same command again.",
            )
        return x, y

    def move_z(self, z_um: float, roughly: bool = False) -> None:
        """Go to a height and verify the arrival (errors as `move_xy`).

        It must be met to a fifth of the depth of field of the objective in use; `roughly`, where
        the lens is only to be out of the way, to the tolerance of x and y.
        """
        self.check_limits(z_um=z_um)
        exact_um = self._heights.tolerance_um(self.objective)
        rough_um = max(exact_um, self._settings.tolerance_um)
        under = f" under {self.objective}" if self.objective and not roughly else ""
        _twice(lambda: self._travel_z(z_um, rough_um if roughly else exact_um, under))

    def _travel_z(self, z_um: float, tolerance_um: float, under: str) -> None:
        label = self._settings.z_device
        attempt(f"move z to {z_um:.2f} µm", lambda: self._core.setPosition(label, z_um))
        self.wait(label)
        arrived_um = self.z_um
        if not abs(arrived_um - z_um) <= tolerance_um:
            raise StoppedElsewhere(
                f"z was sent to {z_um:.2f} µm and stopped at {arrived_um:.2f} µm (tolerance"
                f"{under} {tolerance_um:.2g} µm).",
                hint="Check the focus drive, then run the same command again.",
            )

    @property
    def can_look_on_its_way(self) -> bool:
        """Whether z can be sent slowly (`z_on_its_way`)."""
        return self._settings.z_speed is not None

    @contextmanager
    def z_on_its_way(self, z_um: float, um_per_s: float) -> Iterator[None]:
        """Let z be on its way to a height while the block runs, and stands still afterwards.

        Where the block ends sooner, it stops there.
        """
        self.check_limits(z_um=z_um)
        label = self._settings.z_device
        try:
            self._set_z_speed(um_per_s)
            attempt(f"move z to {z_um:.2f} µm", lambda: self._core.setPosition(label, z_um))
            yield
        finally:
            try:
                attempt("stop z", lambda: self._core.stop(label))
                self.wait(label)
            finally:
                speed = self._settings.z_speed
                if speed is not None:
                    self._set_z_speed(speed.usual_um_per_s)

    def home(self) -> None:
        """Let the core home x and y (its `Home`); z stays where it is."""
        label = self._settings.xy_device
        attempt(f"home the stage '{label}'", lambda: self._core.home(label))
        self.wait(label, max(HOMING_S, self._settings.timeout_s))

    def wait(self, label: str, timeout_s: float | None = None) -> None:
        """Wait until a device has arrived; `HardwareError` when that takes too long."""
        self._core.setTimeoutMs(round((timeout_s or self._settings.timeout_s) * 1000))
        attempt(f"wait for '{label}' to arrive", lambda: self._core.waitForDevice(label))


def _twice(move: Callable[[], Arrival]) -> Arrival:
    """Make a move; one that ends elsewhere is made once more."""
    try:
        return move()
    except StoppedElsewhere:
        return move()


def _number(axis: str, value: float) -> float:
    """A position that was read; `HardwareError` for what is no place, such as NaN."""
    if not math.isfinite(value):
        raise HardwareError(
            f"the stage says that it stands at {axis} = {value}.",
            hint="Check the stage's controller and its cable, then run the same command again.",
        )
    return float(value)
