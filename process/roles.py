"""The judges of a scan: what `acquire` asks of processing, put together (`acquire/roles.py`)."""

from __future__ import annotations

from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import BenchNeed, Operator, Roles
from plsctl.process.cells.field_inspector import BrightfieldInspector
from plsctl.process.cells.finder import StainedCellFinder
from plsctl.process.focus.sharpness import GradientFocusMeasure
from plsctl.process.matching.parallax import CorrelationParallax
from plsctl.process.matching.shifts import EdgeShiftFinder
from plsctl.process.matching.slide_registration import CoarseRegistrar
from plsctl.process.self_check.background import BackgroundMonitor


class ReadySlide:
    """An operator for a slide that lies on the stage as the pass needs it."""

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Nothing is left to do."""

    def bring(self, need: BenchNeed) -> None:
        """It is there."""

    def turn_turret(self, objective: str) -> None:
        """Nobody is there to turn a turret."""
        raise UserError(
            f"the turret is turned by hand, and nobody can be asked to turn it to {objective}.",
            field="turret.manual",
            hint="Give the scan an operator who can (plsctl.acquire.roles.Operator).",
        )

    def home_stage(self, by_core: bool) -> None:
        """The stage is as ready as the slide."""


def scan_roles(operator: Operator | None = None) -> Roles:
    """Who judges and acts during a scan.

    Parameters
    ----------
    operator
        Who brings the slide into the state that a pass needs; by default it is in that state.
    """
    return Roles(
        focus=GradientFocusMeasure(),
        field=BrightfieldInspector(),
        registrar=CoarseRegistrar(),
        cells=StainedCellFinder(),
        operator=operator or ReadySlide(),
        shifts=EdgeShiftFinder(),
        parallax=CorrelationParallax(),
        monitor=BackgroundMonitor(),
    )
