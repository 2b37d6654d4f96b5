"""Where the LEDs of an array were measured to be: a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from plsctl.acquire.devices.calibration_kinds import Calibration
from plsctl.acquire.files.settings import Settings


class MeasuredLed(Settings):
    """An LED by its number in the array, with its direction cosines.

    `problem` is empty where nothing is wrong with it.
    """

    led: int
    direction: tuple[float, float]
    problem: Literal["", "dead", "dim", "swapped"] = ""


class LedDirections(Calibration):
    """How the LED array stands against its table, and the direction of each LED.

    It changes nothing of the hardware: what a recipe lights as bright or dark field follows from
    the table. `Hardware.measured_directions` gives what was measured.

    Parameters
    ----------
    x_mm, y_mm, height_mm, rotation_deg, tilt_x_deg, tilt_y_deg
        The pose (`acquire.leds.pose.ArrayPose`).
    rms
        Root mean square by which direction cosines depart from the pose.
    leds
        Every LED of the table.
    """

    kind: ClassVar[str] = "leds"

    x_mm: float
    y_mm: float
    height_mm: float
    rotation_deg: float
    tilt_x_deg: float
    tilt_y_deg: float
    rms: float
    leds: tuple[MeasuredLed, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _names_its_hardware(cls, content: Any) -> Any:
        if isinstance(content, dict) and "array" in content and "hardware" not in content:
            raise ValueError(
                "this calibration was measured by an earlier plsctl and does not say with which "
                "camera and LED array. Delete the file and measure anew: plsctl calibrate leds"
            )
        return content

    @property
    def directions(self) -> Mapping[int, tuple[float, float]]:
        """Direction cosines by the LED's number."""
        return {led.led: led.direction for led in self.leds}
