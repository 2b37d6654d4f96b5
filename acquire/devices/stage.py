"""The stage: limits before every movement, the arrival verified after it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from plsctl.acquire.devices.camera import attempt
from plsctl.acquire.errors import HardwareError, UserError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.devices.hardware import Hardware


class StoppedElsewhere(HardwareError):
    """The stage does not stand where it was sent."""


class Stage:
    """XY and Z stage of a hardware file, in the core; all places are stage micrometres."""

    def __init__(self, hardware: Hardware, core: CMMCorePlus) -> None:
        self._file = hardware.file
        self._settings = hardware.stage
        self._core = core

    @property
    def position_um(self) -> tuple[float, float, float]:
        """Where the stage says it is (x, y, z)."""
        stage = self._settings
        x, y = attempt("read the stage", lambda: self._core.getXYPosition(stage.xy_device))
        return x, y, attempt("read z", lambda: self._core.getPosition(stage.z_device))

    def check_limits(
        self, x_um: float | None = None, y_um: float | None = None, z_um: float | None = None
    ) -> None:
        """`UserError` when a position lies outside the stage's limits."""
        stage = self._settings
        for axis, value, (low, high) in (
            ("x", x_um, stage.x_um),
            ("y", y_um, stage.y_um),
            ("z", z_um, stage.z_um),
        ):
            if value is not None and not (low <= value <= high):
                raise UserError(
                    f"{axis} = {value:.1f} µm lies outside the stage's limits "
                    f"({low:g} to {high:g} µm).",
                    file=self._file,
                    field=f"stage.{axis}_um",
                    hint="Choose a region inside the limits."
                    if axis != "z"
                    else "Check 'focus_z_um' and the objectives' offsets in the hardware file.",
                )

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Go to a position and return where the stage arrived (x, y).

        The last stretch is always travelled in the same direction, so that backlash does not
        matter; an arrival out of tolerance is tried once more.

        Raises
        ------
        UserError
            The position lies outside the limits.
        HardwareError
            The stage fails, or stops elsewhere twice.
        """
        self.check_limits(x_um, y_um)
        try:
            return self._approach(x_um, y_um)
        except StoppedElsewhere:
            return self._approach(x_um, y_um)

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
        x, y, _ = self.position_um
        error_um = math.hypot(x - x_um, y - y_um)
        if error_um > stage.tolerance_um:
            raise StoppedElsewhere(
                f"the stage was sent to ({x_um:.1f}, {y_um:.1f}) µm and stopped {error_um:.1f} µm "
                f"away (tolerance {stage.tolerance_um:g} µm).",
                hint="Check that nothing blocks the stage, then run the same command again.",
            )
        return x, y

    def move_z(self, z_um: float) -> None:
        """Go to a height and verify the arrival (errors as `move_xy`)."""
        stage = self._settings
        self.check_limits(z_um=z_um)
        attempt(f"move z to {z_um:.2f} µm", lambda: self._core.setPosition(stage.z_device, z_um))
        self.wait(stage.z_device)
        arrived = self.position_um[2]
        if abs(arrived - z_um) > stage.tolerance_um:
            raise HardwareError(
                f"z was sent to {z_um:.2f} µm and stopped at {arrived:.2f} µm.",
                hint="Check the focus drive, then run the same command again.",
            )

    def wait(self, label: str) -> None:
        """Wait until a device has arrived; `HardwareError` when that takes too long."""
        self._core.setTimeoutMs(round(self._settings.timeout_s * 1000))
        attempt(f"wait for '{label}' to arrive", lambda: self._core.waitForDevice(label))
