"""What a person does at the microscope; the lens is drawn back before anybody is asked."""

from __future__ import annotations

from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.roles import Operator


def make_ready(microscope: Microscope, operator: Operator, stop: StopRequest) -> None:
    """Draw the lens back, have the stage homed where it needs that, and see where it stands.

    From then on the operator is asked to turn a turret that has no motor.

    Raises
    ------
    UserError
        The operator has not done what was asked, or the stage stands outside its limits.
    """

    def turn(objective: str) -> None:
        with stop.at_once():
            operator.turn_turret(objective)

    lens = microscope.lens
    lens.turner = turn
    if not lens.needs_homing:
        # Before anything is moved: where limits or directions are wrong, so is every move.
        lens.stage.check_standing()
    lens.retract()
    if lens.needs_homing:
        with stop.at_once():  # a question to a person waits for as long as it takes
            operator.home_stage(microscope.hardware.stage.homing == "core")
        lens.home()
        lens.stage.check_standing()


def let_handle_slide(
    microscope: Microscope, operator: Operator, stop: StopRequest, pass_name: str, resumed: bool
) -> None:
    """Go to the loading position and have the slide brought into the state that a pass needs."""
    if not resumed:
        microscope.to_loading()
    with stop.at_once():
        operator.prepare(pass_name, resumed)
