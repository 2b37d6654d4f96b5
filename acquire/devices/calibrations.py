"""What was measured at a microscope: dated files beside its hardware file, used by scans.

Beside `lab/microscope.yaml` they lie in `lab/microscope.calibration/`, one file for each kind and
objective. Each names the hardware that it was measured with and is refused under any other.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml

from plsctl.acquire.devices.calibration_kinds import (
    ArrayMark,
    Calibration,
    CameraMark,
    FlatField,
    LedLight,
    Marks,
    ObjectiveMark,
    ObjectiveOffsets,
    PixelSize,
)
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.devices.led_directions import LedDirections
from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.settings import load_settings
from plsctl.acquire.files.shipped import is_shipped
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.words import command_line

FOLDER = ".calibration"

KINDS: tuple[type[Calibration], ...] = (
    LedLight,
    PixelSize,
    LedDirections,
    ObjectiveOffsets,
    FlatField,
)
"""In this order they are applied: each rests on those before it."""


def calibration_folder(hardware: Hardware) -> Path:
    """Where the calibrations of a microscope lie; the folder need not be there."""
    return hardware.file.with_name(hardware.file.stem + FOLDER)


def has_folder(hardware: Hardware) -> bool:
    """Whether calibrations can be kept: those of a file of the package cannot."""
    return not is_shipped(hardware.file)


class ForeignCalibration(UserError):
    """A calibration that belongs to other hardware."""

    def __init__(
        self, message: str, calibration: Calibration, *, file: Path, field: str, hint: str
    ) -> None:
        super().__init__(message, file=file, field=field, hint=hint)
        self.calibration = calibration


def read_calibrations(hardware: Hardware) -> tuple[Calibration, ...]:
    """The calibrations of the objectives of a microscope, whether or not they fit it now.

    Raises
    ------
    UserError
        A file cannot be read, or has a mistake.
    """
    folder = calibration_folder(hardware)
    if not has_folder(hardware) or not folder.is_dir():
        return ()
    found = [
        load_settings(path, model)
        for model in KINDS
        for path in sorted(folder.glob(f"{model.kind}_*.yaml"))
    ]
    return tuple(sorted((e for e in found if e.objective in hardware.turret.objectives), key=order))


def order(calibration: Calibration) -> tuple[int, float, str]:
    """By this calibrations are sorted before they are applied."""
    magnification = calibration.hardware.objectives[calibration.objective].magnification
    return KINDS.index(type(calibration)), magnification, calibration.objective


def write_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write a calibration's file, in place of the one before."""
    path = folder / calibration.file_name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    content = calibration.model_dump(mode="json")
    write_whole(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return path


def calibrated(hardware: Hardware, calibrations: Iterable[Calibration]) -> Hardware:
    """A microscope with what was measured in place of what its file says.

    Raises
    ------
    UserError
        A calibration belongs to other hardware.
    """
    described = hardware.described
    used = tuple(calibrations)
    found = described
    for each in used:
        if (problem := foreign(each, described)) is not None:
            raise problem
        found = each.apply(found)
    found = found.model_copy()
    found._described, found._calibrations = described, used
    return found


def marks(
    hardware: Hardware,
    objectives: Sequence[str],
    camera: str = "",
    array: str | None = None,
    with_directions: bool = False,
) -> Marks:
    """What tells this microscope from others.

    Parameters
    ----------
    camera, array
        What the devices say of themselves; without an array the calibration holds for any.
    with_directions
        It holds only while the LED table says the same directions.
    """
    described = hardware.described
    seen = described.camera
    return Marks(
        camera=CameraMark(
            device=seen.device,
            pixel_pitch_um=seen.pixel_pitch_um,
            binning=seen.binning,
            size_px=seen.size_px,
            bayer=seen.bayer,
            answers=camera,
        ),
        objectives={
            name: ObjectiveMark(
                label=str(found.label),
                magnification=found.magnification,
                na=found.na,
                immersion=found.immersion,
            )
            for name in objectives
            for found in (described.objective(name),)
        },
        array=None if array is None else _array_mark(described, array, with_directions),
    )


def made(
    hardware: Hardware,
    objectives: Sequence[str],
    camera: str,
    array: str | None,
    with_directions: bool = False,
) -> dict[str, object]:
    """The fields that every calibration has, for one that is measured now."""
    return {
        "objective": objectives[-1],
        "measured": datetime.now(UTC).replace(microsecond=0),
        "plsctl": version("plsctl"),
        "hardware": marks(hardware, objectives, camera, array, with_directions),
    }


def foreign(
    calibration: Calibration, hardware: Hardware, camera: str = "", array: str = ""
) -> ForeignCalibration | None:
    """Why a calibration belongs to another microscope; None where it belongs to this one.

    What the devices say of themselves counts where it is known, now and then.
    """
    before = calibration.hardware
    now = marks(
        hardware,
        [name for name in before.objectives if name in hardware.turret.objectives],
        camera or before.camera.answers,
        None if before.array is None else array or before.array.answers,
        before.array is not None and before.array.directions is not None,
    )
    old, new = (_flat(each.model_dump(mode="json")) for each in (before, now))
    differs = next((name for name in old if old[name] != new.get(name)), None)
    if differs is None or (differs.endswith(".answers") and not old[differs]):
        return None
    name = differs.replace("objectives.", "turret.objectives.").replace("array.", "led_array.")
    again = command_line("calibrate", calibration.kind, "--hardware", hardware.file.name)
    change = f"{name} was {_shown(old[differs])} and is now {_shown(new.get(differs))}"
    if differs in _OF_TABLE:
        name = "led_array.geometry"
        change = f"{name} is {hardware.led_array.geometry}, with other {_OF_TABLE[differs]}"
    return ForeignCalibration(
        f"this calibration ({calibration.title}, {age(calibration)}) belongs to other hardware: "
        f"{change}.",
        calibration,
        file=calibration_folder(hardware) / calibration.file_name,
        field=name,
        hint=f"Measure it anew ({again}), put the hardware back, or move the file away.",
    )


def age(calibration: Calibration, now: datetime | None = None) -> str:
    """How old it is, in words: `measured 3 days ago`."""
    hours = ((now or datetime.now(UTC)) - calibration.measured).total_seconds() / 3600
    if hours < 1:
        return "measured within the hour"
    count, unit = (hours, "hour") if hours < 48 else (hours / 24, "day")
    return f"measured {count:.0f} {unit}{'' if round(count) == 1 else 's'} ago"


def in_use(hardware: Hardware) -> tuple[str, ...]:
    """The calibrations that a microscope uses, in words."""
    return tuple(f"{each.title} ({age(each)})" for each in hardware.calibrations)


_OF_TABLE = {
    "array.leds": "LEDs than the table that was measured",
    "array.directions": "places of LEDs than the table that was measured",
}
"""Marks that are checksums of the LED table, and what it means when they differ."""


def _array_mark(hardware: Hardware, answers: str, with_directions: bool) -> ArrayMark:
    leds = hardware.geometry().leds
    places = (f"{led.led}:{led.direction[0]:.4f},{led.direction[1]:.4f}" for led in leds)
    return ArrayMark(
        driver=hardware.led_array.driver,
        leds=_checksum(f"{led.led}:{led.name}" for led in leds),
        directions=_checksum(places) if with_directions else None,
        answers=answers,
    )


def _checksum(parts: Iterable[str]) -> str:
    return f"{zlib.crc32(';'.join(parts).encode()):08x}"


def _flat(content: dict[str, object], head: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{head}{name}.")
        else:
            found[head + name] = value
    return found


def _shown(value: object) -> str:
    if value is None:
        return "not there"
    if isinstance(value, list):
        return " x ".join(str(item) for item in value)
    return str(value)
