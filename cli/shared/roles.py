"""What a scan gets from outside `acquire`: image analysis, and the person at the keyboard."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import Operator, Roles
from plsctl.cli.shared.output import print_message
from plsctl.process.roles import scan_roles

Paused = Callable[[], AbstractContextManager[None]]

REQUESTS = {
    "unstained": "Put the unstained slide on the stage.",
    "stained": "Stain the slide and put it back as it lay.",
    "highres": "Put a drop of immersion oil on the slide.",
}


class ConsoleOperator:
    """Asks the person at the keyboard; `assume_yes` takes every request as done.

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
                print_message(REQUESTS[pass_name])
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
    """Reports what the backend's own operator does (the simulator's stains the slide itself)."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Let the operator act."""
        if not resumed:
            print_message(f"[simulated operator] {REQUESTS[pass_name]} Done.")
        self._operator.prepare(pass_name, resumed)


def make_roles(
    operator: Operator | None,
    assume_yes: bool,
    paused: Paused = nullcontext,
) -> Roles:
    """The image analysis of `process`, and the backend's operator or the person at the keyboard."""
    return scan_roles(
        ConsoleOperator(assume_yes, paused) if operator is None else AnnouncedOperator(operator)
    )
