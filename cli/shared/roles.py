"""Who judges and acts during a scan: the processing methods, and the person at the keyboard."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import Operator, Roles
from plsctl.cli.shared.output import say
from plsctl.process.cells.field_judge import BrightfieldJudge
from plsctl.process.cells.finder import StainedCellFinder
from plsctl.process.focus.sharpness import GradientFocusJudge
from plsctl.process.matching.shifts import EdgeShiftFinder
from plsctl.process.matching.slide_registration import CoarseRegistrar

Paused = Callable[[], AbstractContextManager[None]]

REQUESTS = {
    "unstained": "Put the unstained slide on the stage.",
    "stained": "Stain the slide and put it back as it lay.",
    "highres": "Put a drop of immersion oil on the slide.",
}


class ConsoleOperator:
    """Asks the person at the keyboard; with `assume_yes` everything asked for is taken as done.

    Inside `paused` nothing else is written to the terminal.
    """

    def __init__(
        self, assume_yes: bool, paused: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._assume_yes = assume_yes
        self._paused = paused

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Ask for the slide in the state the pass needs."""
        if resumed or self._assume_yes:
            return
        import typer

        try:
            with self._paused():
                say(REQUESTS[pass_name])
                done = typer.confirm("Done?", default=True, err=True)
        except typer.Abort:
            raise UserError(
                f"nobody said that the slide is ready; the pass '{pass_name}' was not started.",
                hint="Run the same command when it is, with --yes where nobody can be asked.",
            ) from None
        if not done:
            raise UserError(
                f"the pass '{pass_name}' was not started.",
                hint="Run the same command when the slide is ready.",
            )


class AnnouncedOperator:
    """Says what the backend's own operator does (the simulator's stains the slide itself)."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Let the operator act."""
        if not resumed:
            say(f"[simulated operator] {REQUESTS[pass_name]} Done.")
        self._operator.prepare(pass_name, resumed)


def make_roles(
    operator: Operator | None,
    assume_yes: bool,
    paused: Paused = nullcontext,
) -> Roles:
    """The judges of `process`, and the backend's operator or the person at the keyboard."""
    return Roles(
        focus=GradientFocusJudge(),
        field=BrightfieldJudge(),
        registrar=CoarseRegistrar(),
        cells=StainedCellFinder(),
        operator=ConsoleOperator(assume_yes, paused)
        if operator is None
        else AnnouncedOperator(operator),
        shifts=EdgeShiftFinder(),
    )
