"""The judges of a scan: what `acquire` asks of processing, put together (`acquire/roles.py`)."""

from __future__ import annotations

from plsctl.acquire.roles import Operator, Roles
from plsctl.process.cells.field_inspector import BrightfieldInspector
from plsctl.process.cells.finder import StainedCellFinder
from plsctl.process.focus.sharpness import GradientFocusMeasure
from plsctl.process.matching.shifts import EdgeShiftFinder
from plsctl.process.matching.slide_registration import CoarseRegistrar


class ReadySlide:
    """An operator for a slide that lies on the stage as the pass needs it."""

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Nothing is left to do."""


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
    )
