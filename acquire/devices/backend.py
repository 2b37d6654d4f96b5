"""From a hardware file to a live Micro-Manager core: a `.cfg`, or a backend of Python devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from plsctl.acquire.clock import Clock, WallClock
from plsctl.acquire.devices.micromanager import (
    check_configuration,
    load_configuration,
    searching_quietly,
)
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import suggest
from plsctl.acquire.roles import Operator

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.devices.hardware import Hardware


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Backend:
    """A core with its devices loaded, their clock, and the operator."""

    core: CMMCorePlus
    clock: Clock = field(default_factory=WallClock)
    operator: Operator | None = None
    close: Callable[[], None] = _nothing


def open_backend(hardware: Hardware) -> Backend:
    """Load the devices a hardware file names.

    Raises
    ------
    UserError
        The backend or the Micro-Manager configuration does not exist.
    HardwareError
        A device did not load or initialise.
    """
    if hardware.core.endswith(".cfg"):
        return _open_micromanager(hardware)
    backend: Backend = _opener(hardware)(hardware)
    return backend


def check_backend(hardware: Hardware) -> None:
    """`UserError` where a hardware file's devices cannot be as it says; nothing is loaded.

    Of a Micro-Manager configuration the labels are read; whether its devices answer is not known
    before they are loaded.
    """
    if hardware.core.endswith(".cfg"):
        check_configuration(hardware)
        return
    check = getattr(_opener(hardware), "check", None)
    if check is not None:
        check(hardware)


def _opener(hardware: Hardware) -> Any:
    backends = {entry.name: entry for entry in entry_points(group="plsctl.backends")}
    if hardware.core not in backends:
        raise UserError(
            f"there is no backend '{hardware.core}'.",
            file=hardware.file,
            field="core",
            hint=suggest(hardware.core, backends) + " Or name a Micro-Manager .cfg file.",
        )
    return backends[hardware.core].load()


def _open_micromanager(hardware: Hardware) -> Backend:
    from pymmcore_plus import CMMCorePlus

    with searching_quietly():
        core = CMMCorePlus()
    try:
        load_configuration(core, hardware)
    except BaseException:
        # Devices that did load would keep their ports.
        close_core(core)
        raise
    return Backend(core=core, close=lambda: close_core(core))


def close_core(core: CMMCorePlus) -> None:
    """Release all devices, and the core's thread: it must not outlive the interpreter."""
    from pymmcore_plus import CMMCorePlus as Core

    try:
        core.unloadAllDevices()
    finally:
        # pymmcore-plus does this when the core is deleted, but an error's trace keeps it alive.
        super(Core, core).registerCallback(None)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
