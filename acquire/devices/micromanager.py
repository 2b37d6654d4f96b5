"""Micro-Manager's core: its configuration files and its device adapters, and what is wrong there.

The core comes with plsctl; adapters, one library for each kind of device, come with Micro-Manager
and fit only a core of the same device interface (docs/installing.md).
"""

from __future__ import annotations

import csv
import ctypes
import io
import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.files.locations import location
from plsctl.acquire.files.settings import suggest
from plsctl.acquire.files.texts import read_text

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.devices.hardware import Hardware

_ADAPTER = re.compile(r"adapter|module|interface version", re.IGNORECASE)
"""In what the core says when it lacks a library, or has one that does not fit."""


@contextmanager
def searching_quietly() -> Iterator[None]:
    """Keep pymmcore-plus from logging that it finds no adapters: Python devices need none.

    Where they are needed, `adapters_hint` says so.
    """
    log = logging.getLogger("pymmcore-plus")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def load_configuration(core: CMMCorePlus, hardware: Hardware) -> None:
    """Load the devices of the configuration that a hardware file names.

    Raises
    ------
    UserError
        There is no such file.
    HardwareError
        A device did not load or initialise.
    """
    try:
        core.loadSystemConfiguration(str(_place(hardware)))
    except FileNotFoundError:
        raise _missing(hardware) from None
    except (RuntimeError, OSError) as error:
        # The first line of the error is the line of the .cfg, the second says what is wrong there.
        told = ": ".join(line.strip() for line in str(error).strip().splitlines())
        hint = "Check that every device is switched on and not used by another program."
        if _ADAPTER.search(told):
            hint = adapters_hint(core)
        raise HardwareError(
            f"Micro-Manager could not load '{hardware.core}': {told.rstrip('.')}.",
            file=hardware.file,
            field="core",
            hint=hint,
        ) from None


def device_interface(core: CMMCorePlus) -> str:
    """The device interface that adapters for this core must have, such as 75."""
    found = re.search(r"Device API version (\d+)", core.getAPIVersionInfo())
    return found[1] if found else "unknown"


def adapters_hint(core: CMMCorePlus) -> str:
    """Which adapters there are, which fit, and how those are installed."""
    from pymmcore_plus import find_micromanager

    needed = device_interface(core)
    sought = [place for place in core.getDeviceAdapterSearchPaths() if place]
    places = dict.fromkeys([*sought, *(find_micromanager(return_first=False) or ())])
    there = []
    for place in places:
        found = interface_of_adapters(Path(place))
        fits = "none" if found is None else f"interface {found}"
        there.append(f"{place} ({fits})")
    return (
        f"Adapters must have device interface {needed}; found: {', '.join(there) or 'none'}. "
        "`mmcore install` gets those that fit; or set MICROMANAGER_PATH to the folder of a "
        f"Micro-Manager with interface {needed} (docs/installing.md)."
    )


def interface_of_adapters(folder: Path) -> int | None:
    """The device interface of the adapters in a folder; None where there is none that loads."""
    for library in sorted(folder.glob("*mmgr_dal_*")):
        try:
            return int(ctypes.CDLL(str(library)).GetDeviceInterfaceVersion())
        except (OSError, AttributeError):
            continue  # of another system, or not an adapter
    return None


def check_labels(hardware: Hardware, labels: Collection[str]) -> None:
    """`UserError` when a device that the hardware file names is not among the core's."""
    camera, stage, turret = hardware.camera, hardware.stage, hardware.turret
    wanted = {
        "camera.device": camera.device,
        "camera.shutter": camera.shutter,
        "stage.xy_device": stage.xy_device,
        "stage.z_device": stage.z_device,
        "turret.device": turret.device,
    }
    known = sorted(set(labels) - {"Core"})
    for field, label in wanted.items():
        if label is None or label in known:
            continue
        alike = next((name for name in known if name.lower() == label.lower()), None)
        guess = f"Did you mean '{alike}'? " if alike else ""
        raise UserError(
            f"{field} = '{label}': the core has no such device.",
            file=hardware.file,
            field=field,
            hint=f"{guess}It has: {', '.join(known)}.",
        )


def check_objective_labels(hardware: Hardware, labels: Collection[str]) -> None:
    """`UserError` when the turret has no place labelled as an objective says."""
    for name, objective in hardware.turret.objectives.items():
        if str(objective.label) not in labels:
            raise UserError(
                f"the turret '{hardware.turret.device}' has no place labelled '{objective.label}'.",
                file=hardware.file,
                field=f"turret.objectives.{name}.label",
                hint=suggest(str(objective.label), labels),
            )


def check_configuration(hardware: Hardware) -> None:
    """`UserError` when the configuration is missing or has not the devices the file names.

    Nothing is loaded: labels are read from the file.
    """
    path = _place(hardware)
    if not path.is_file():
        path = _shipped_with_adapters(path)
    if not path.is_file():
        raise _missing(hardware)
    devices: set[str] = set()
    places: dict[str, set[str]] = {}
    for row in csv.reader(io.StringIO(read_text(path).replace("#py ", ""))):
        words = [word.strip() for word in row]
        if words[0:1] in (["Device"], ["pyDevice"]) and len(words) >= 4:
            devices.add(words[1])
        elif words[0:1] == ["Label"] and len(words) >= 4:
            places.setdefault(words[1], set()).add(words[3])
    check_labels(hardware, devices)
    device = hardware.turret.device
    if device is not None and device in places:
        check_objective_labels(hardware, places[device])


def _place(hardware: Hardware) -> Path:
    path = hardware.resolve(hardware.core)
    # A bare name that is no file of ours is looked up in Micro-Manager's own folder.
    return path if path.is_file() else location(hardware.core)


def _shipped_with_adapters(name: Path) -> Path:
    from pymmcore_plus import find_micromanager

    with searching_quietly():
        folder = find_micromanager()
    return Path(folder) / name if folder else name


def _missing(hardware: Hardware) -> UserError:
    return UserError(
        f"there is no Micro-Manager configuration '{hardware.core}', neither at "
        f"{hardware.resolve(hardware.core)} nor among Micro-Manager's own.",
        file=hardware.file,
        field="core",
        hint="Give the path of the .cfg file that Micro-Manager's wizard wrote; it starts at the "
        "hardware file's folder. Micro-Manager's own files come with its adapters: "
        "`mmcore install` (docs/installing.md).",
    )
