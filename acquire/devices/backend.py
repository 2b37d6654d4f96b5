"""From a hardware file to a live Micro-Manager core: a `.cfg`, or a backend of Python devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from plsctl.acquire.clock import Clock, WallClock
from plsctl.acquire.errors import HardwareError, UserError
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
    backends = {entry.name: entry for entry in entry_points(group="plsctl.backends")}
    if hardware.core not in backends:
        raise UserError(
            f"there is no backend '{hardware.core}'.",
            file=hardware.file,
            field="core",
            hint=suggest(hardware.core, backends) + " Or name a Micro-Manager .cfg file.",
        )
    opener = backends[hardware.core].load()
    backend: Backend = opener(hardware)
    return backend


def _open_micromanager(hardware: Hardware) -> Backend:
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    path = hardware.resolve(hardware.core)
    # A bare name that is no file of ours is looked up in Micro-Manager's own folder.
    name = path if path.is_file() else Path(hardware.core)
    try:
        _load(core, name, hardware)
    except BaseException:
        # Devices that did load would keep their ports.
        close_core(core)
        raise
    return Backend(core=core, close=lambda: close_core(core))


def _load(core: CMMCorePlus, name: Path, hardware: Hardware) -> None:
    try:
        core.loadSystemConfiguration(str(name))
    except FileNotFoundError:
        raise UserError(
            f"there is no Micro-Manager configuration '{hardware.core}'.",
            file=hardware.file,
            field="core",
            hint="Give the path of the .cfg file that Micro-Manager's wizard wrote.",
        ) from None
    except (RuntimeError, OSError) as error:
        # The first line of the error is the line of the .cfg, the second says what is wrong there.
        told = ": ".join(line.strip() for line in str(error).strip().splitlines())
        raise HardwareError(
            f"Micro-Manager could not load '{hardware.core}': {told.rstrip('.')}.",
            file=hardware.file,
            field="core",
            hint="Check that every device is switched on and not used by another program.",
        ) from None


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
