"""The objective turret: which objective is in the light path, and turning to another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plsctl.acquire.devices.camera import attempt
from plsctl.acquire.devices.micromanager import check_objective_labels
from plsctl.acquire.errors import HardwareError, UserError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.devices.hardware import Hardware

Turner = Callable[[str], None]
"""Asks a person to turn the turret to an objective; raises where nobody does."""


class Turret:
    """The turret of a hardware file: moved by the core, turned by a person, or one fixed lens.

    Raises
    ------
    UserError
        It stands where the hardware file knows no objective, or has not the places it names.
    """

    def __init__(self, hardware: Hardware, core: CMMCorePlus, wait: Callable[[str], None]) -> None:
        self._hardware = hardware
        self._core = core
        self._wait = wait
        self._objectives = hardware.turret.objectives
        self._device = hardware.turret.device
        self._by_hand = hardware.turret.manual and len(self._objectives) > 1
        self._name: str | None = None if self._by_hand else next(iter(self._objectives))
        # The device of a turret that is turned by hand only tells where it stands.
        if self._device is not None:
            labels = core.getStateLabels(self._device)
            check_objective_labels(hardware, [str(label) for label in labels])
            self.recognise()

    @property
    def objective(self) -> str | None:
        """The objective in the light path, as it was last known; None if a person must tell."""
        return self._name

    def recognise(self) -> str | None:
        """Ask the turret where it stands; `UserError` when that is no place of the file."""
        if self._device is not None:
            self._name = self._at_place(self._label(self._device))
        return self._name

    def _at_place(self, label: str) -> str:
        for name, objective in self._objectives.items():
            if str(objective.label) == label:
                return name
        known = ", ".join(f"{o.label} ({name})" for name, o in self._objectives.items())
        where = f"at '{label}'" if label else "between two places"
        raise UserError(
            f"the turret '{self._device}' stands {where}, and the hardware file knows no objective "
            "there.",
            file=self._hardware.file,
            field="turret.objectives",
            hint=f"Turn it to one that the file names: {known}; or list the one there too.",
        )

    def turn(self, name: str, turner: Turner | None) -> None:
        """Bring an objective into the light path; the lens is away from the slide.

        Raises
        ------
        UserError
            Nobody has turned a turret that is turned by hand.
        HardwareError
            The turret fails or stands elsewhere.
        """
        device, label = self._device, str(self._objectives[name].label)
        if self._by_hand:
            # Whatever comes of it, where it stood is no longer known.
            self._name = None
            if turner is None:
                raise UserError(
                    f"the turret is turned by hand, and nobody can be asked to turn it to {name}.",
                    file=self._hardware.file,
                    field="turret.manual",
                    hint="Set `lens.turner` of the microscope to what asks a person.",
                )
            turner(name)
            if device is not None and self.recognise() != name:
                raise UserError(
                    f"the turret was to be turned to {name} and stands at {self._name}.",
                    file=self._hardware.file,
                    field=f"turret.objectives.{name}.label",
                    hint="Turn it, then run the same command again; or correct the labels.",
                )
        elif device is not None:
            attempt(f"turn the turret to '{name}'", lambda: self._core.setStateLabel(device, label))
            self._wait(device)
            if (stands := self._label(device)) != label:
                raise HardwareError(
                    f"the turret was sent to '{label}' and stands at '{stands}'.",
                    hint="Check the turret, then run the same command again.",
                )
        self._name = name

    def _label(self, device: str) -> str:
        return str(attempt("read the turret", lambda: self._core.getStateLabel(device)))
