"""Watches the objective in every test: what the core is told to move, not what moves it.

It wraps the core of each microscope that is opened in the test's process, and knows from the
simulated world (elsewhere from the hardware file) which objective is in the light path and where
focus is. Near the slide a lens may travel short ways inside the scanned region, at focus; it is
away (`turret.retract_z_um`) before everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from plsctl.acquire.bench import handling
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.devices.hardware_parts import Objective
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.roles import Operator, Roles
from plsctl.acquire.scanning import pass_run
from plsctl.acquire.scanning.scan import Scan

AWAY_SHARE = 0.95
"""Focus lies so much nearer than the hardware file lets expect, at most, as a share of the way."""

NEAR_UM = 60.0
"""A lens near the slide is in focus, or on the search for it."""


class Watched:
    """One opened microscope, seen from its core."""

    def __init__(self, watch: ObjectiveWatch, hardware: Hardware, core: Any) -> None:
        self.watch = watch
        self.hardware = hardware
        self.core = core
        camera = getattr(core, "_camera", None)
        self.world: Any = getattr(camera, "_world", None)
        self.told: str | None = None
        self.came_near = False
        stage, turret = hardware.stage, hardware.turret
        self._before("setPosition", stage.z_device, lambda z: self.before_z(z))
        self._before("setXYPosition", stage.xy_device, lambda x, y: self.before_xy(x, y))
        self._before("home", stage.xy_device, lambda: self.must_be_away("the stage was homed"))
        self._before("home", stage.z_device, lambda: None)
        for name in ("setStateLabel", "setState", "setProperty"):
            self._before(name, turret.device, lambda *_: self.must_be_away("the turret was turned"))
        unload = core.unloadAllDevices

        def unload_after_a_look() -> None:
            if self.came_near:
                self.must_be_away("the microscope was closed")
            watch.opened.remove(self)
            unload()

        core.unloadAllDevices = unload_after_a_look

    def _before(self, name: str, device: str | None, look: Callable[..., None]) -> None:
        command = getattr(self.core, name)

        def watched(*arguments: Any) -> Any:
            if arguments[0] == device:
                look(*arguments[1:])
            return command(*arguments)

        setattr(self.core, name, watched)

    # What is true ----------------------------------------------------------------------------

    @property
    def objective(self) -> str | None:
        """In the light path; None where only a person knows."""
        turret = self.hardware.turret
        if self.world is not None:
            return str(self.world.objective_name)
        if turret.device is None:
            return self.told or (None if turret.manual else next(iter(turret.objectives)))
        label = self.core.getStateLabel(turret.device)
        return next((n for n, o in turret.objectives.items() if str(o.label) == label), None)

    def described(self) -> list[Objective]:
        """The objective in the light path; all of them where it is not known."""
        objectives = self.hardware.turret.objectives
        return [objectives[self.objective]] if self.objective else list(objectives.values())

    @property
    def z_um(self) -> float:
        return float(self.core.getPosition(self.hardware.stage.z_device))

    def focus_um(self, objective: Objective) -> float:
        if self.world is not None:
            return float(self.world.z_um - self.world.defocus_um())
        return self.hardware.focus_z_um + objective.offset_z_um

    def is_away(self) -> bool:
        turret = self.hardware.turret
        sign = -1.0 if turret.retract_direction == "down" else 1.0
        return all(
            sign * (self.z_um - self.focus_um(objective)) >= AWAY_SHARE * turret.retract_z_um
            for objective in self.described()
        )

    # The rules -------------------------------------------------------------------------------

    def must_be_away(self, what: str) -> None:
        if not self.is_away():
            self.watch.note(f"{what} while the lens was at z = {self.z_um:.1f} µm")

    def before_z(self, z_um: float) -> None:
        self.came_near = True
        for objective in self.described():
            low, high = objective.z_um or self.hardware.stage.z_um
            if not low <= z_um <= high:
                self.watch.note(f"z was sent to {z_um:.1f} µm, past {self.objective}'s limit")

    def before_xy(self, x_um: float, y_um: float) -> None:
        if self.is_away():
            return
        here = self.core.getXYPosition(self.hardware.stage.xy_device)
        there = (x_um, y_um)
        stage, turret = self.hardware.stage, self.hardware.turret
        way = f"from ({here[0]:.0f}, {here[1]:.0f}) to ({x_um:.0f}, {y_um:.0f}) µm"
        if math.dist(here, there) > turret.long_travel_um + 2 * stage.backlash_um:
            self.watch.note(f"a long way {way} with the lens near the slide")
        if not (self._is_scanned(here) and self._is_scanned(there)):
            self.watch.note(f"outside the region {way} with the lens near the slide")
        off_um = min(abs(self.z_um - self.focus_um(o)) for o in self.described())
        if off_um > NEAR_UM:
            self.watch.note(f"{off_um:.0f} µm off the focus surface {way}")

    def _is_scanned(self, place: tuple[float, float]) -> bool:
        """Whether a stage position lies in what is scanned, or half a field beside it."""
        scan = self.watch.scan
        if scan is None:
            return True
        region, objective = scan.slide.region, self.described()[0]
        width, height = scan.planner.field_um(self.hardware.low_power)
        reach = 2 * self.hardware.stage.backlash_um + self.hardware.stage.tolerance_um
        x, y = place[0] - objective.offset_x_um, place[1] - objective.offset_y_um
        places = [(x, y)]
        if self.world is not None:
            places.append(self.world.transform.invert(x, y))
        elif (transform := scan.transform()) is not None:
            places.append(transform.invert(x, y))
        return any(
            region.x_um[0] - width / 2 - reach <= x <= region.x_um[1] + width / 2 + reach
            and region.y_um[0] - height / 2 - reach <= y <= region.y_um[1] + height / 2 + reach
            for x, y in places
        )


class WatchedOperator:
    """An operator whom nobody asks anything while a lens is near the slide."""

    def __init__(self, watch: ObjectiveWatch, operator: Operator) -> None:
        self._watch = watch
        self._operator = operator

    def prepare(self, pass_name: str, resumed: bool) -> None:
        self._watch.person_is_asked("for the slide")
        self._operator.prepare(pass_name, resumed)

    def turn_turret(self, objective: str) -> None:
        self._watch.person_is_asked(f"to turn the turret to {objective}")
        self._operator.turn_turret(objective)
        for opened in self._watch.opened:
            opened.told = objective

    def home_stage(self, by_core: bool) -> None:
        self._watch.person_is_asked("to home the stage")
        self._operator.home_stage(by_core)


class ObjectiveWatch:
    """What was done with a lens near the slide that must not be; empty at the end of a test."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.opened: list[Watched] = []
        self.scan: Scan | None = None

    def begin(self) -> None:
        self.violations = []
        self.opened = []
        self.scan = None

    def note(self, what: str) -> None:
        self.violations.append(what)

    def person_is_asked(self, for_what: str) -> None:
        for opened in self.opened:
            opened.must_be_away(f"a person was asked {for_what}")

    def install(self, patch: Callable[[Any, str, Any], None]) -> None:
        """Put the watch between the package and its cores and operators."""
        open_it, fill = Microscope.__init__, Roles.__init__
        run, make_ready = pass_run._run_locked, handling.make_ready

        def opened(microscope: Microscope, hardware: Hardware, backend: Any, leds: Any) -> None:
            self.opened.append(Watched(self, hardware, backend.core))
            open_it(microscope, hardware, backend, leds)

        def filled(roles: Roles, *arguments: Any, **named: Any) -> None:
            fill(roles, *arguments, **named)
            object.__setattr__(roles, "operator", WatchedOperator(self, roles.operator))

        def running(scan: Scan, *arguments: Any) -> Any:
            self.scan = scan
            try:
                return run(scan, *arguments)
            finally:
                self.scan = None

        def made_ready(microscope: Microscope, operator: Operator, *others: Any) -> None:
            make_ready(microscope, WatchedOperator(self, operator), *others)

        patch(Microscope, "__init__", opened)
        patch(Roles, "__init__", filled)
        patch(pass_run, "_run_locked", running)
        patch(handling, "make_ready", made_ready)
