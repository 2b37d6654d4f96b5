"""Where the LEDs of an array were measured to be: a dated file beside the hardware file."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field

from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.settings import Settings, load_settings
from plsctl.acquire.files.shipped import is_shipped
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.leds.geometry import LedGeometry


class MeasuredLed(Settings):
    """An LED by its number in the array, with its direction cosines.

    `problem` is empty where nothing is wrong with it.
    """

    led: int
    direction: tuple[float, float]
    problem: Literal["", "dead", "dim", "swapped"] = ""


class LedCalibration(Settings):
    """A calibration of the LED array under one objective.

    Parameters
    ----------
    objective
        The objective that was in the light path.
    measured
        When.
    plsctl
        The version that measured it.
    array
        Checksum of the LED table that it belongs to.
    rms
        Root mean square by which direction cosines depart from the pose.
    """

    kind: ClassVar[str] = "leds"

    objective: str
    measured: datetime
    plsctl: str
    array: str
    x_mm: float
    y_mm: float
    height_mm: float
    rotation_deg: float
    tilt_x_deg: float
    tilt_y_deg: float
    rms: float
    leds: tuple[MeasuredLed, ...] = Field(min_length=1)

    @property
    def directions(self) -> dict[int, tuple[float, float]]:
        """Direction cosines by the LED's number."""
        return {led.led: led.direction for led in self.leds}


def table_checksum(geometry: LedGeometry) -> str:
    """What tells one LED table from another."""
    text = ";".join(
        f"{led.led}:{led.direction[0]:.4f},{led.direction[1]:.4f}" for led in geometry.leds
    )
    return f"{zlib.crc32(text.encode()):08x}"


def calibration_file(hardware: Hardware, name: str) -> Path | None:
    """A file beside the hardware file; None for one of the package, which keeps none."""
    if is_shipped(hardware.file):
        return None
    return hardware.file.with_name(f"{hardware.file.stem}.calibration") / name


def read_led_calibration(hardware: Hardware, objective: str) -> LedCalibration | None:
    """The calibration of the array, or None where there is none.

    Raises
    ------
    UserError
        Its file has a mistake, or belongs to another LED table.
    """
    path = calibration_file(hardware, f"{LedCalibration.kind}_{objective}.yaml")
    if path is None or not path.is_file():
        return None
    found = load_settings(path, LedCalibration)
    if found.array != table_checksum(hardware.geometry()):
        raise UserError(
            f"this calibration, measured {found.measured:%Y-%m-%d}, belongs to another LED table "
            "than the one in the hardware file.",
            file=path,
            field="array",
            hint="Measure it anew (plsctl calibrate leds), name the table of then "
            "(led_array.geometry), or move the file away.",
        )
    return found


def write_measured(measured: LedCalibration, hardware: Hardware) -> Path | None:
    """Write the file, in place of the one before; None for a hardware file of the package."""
    path = calibration_file(hardware, f"{measured.kind}_{measured.objective}.yaml")
    if path is None:
        return None
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = measured.model_dump(mode="json")
    write_whole(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return path


def measured_now(hardware: Hardware, objective: str) -> dict[str, Any]:
    """What every file of this kind begins with."""
    return {
        "objective": objective,
        "measured": datetime.now(UTC).replace(microsecond=0),
        "plsctl": version("plsctl"),
        "array": table_checksum(hardware.geometry()),
    }
