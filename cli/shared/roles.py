"""What a scan gets from outside `acquire`: image analysis, and the person at the keyboard."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import BenchNeed, Operator, Roles
from plsctl.cli.shared.output import print_message
from plsctl.process.roles import scan_roles

Paused = Callable[[], AbstractContextManager[None]]

REQUESTS = {
    "unstained": "Put the unstained slide on the stage.",
    "stained": "Stain the slide and put it back as it lay.",
    "highres": "Put a drop of immersion oil on the slide.",
}

NEEDS: dict[BenchNeed, str] = {
    "stained smear": "Put a stained smear on the stage.",
    "oil": "Put a drop of immersion oil on the slide.",
    "empty slide": "Put an empty slide on the stage, or one with a clean place.",
}

TURN = "Turn the turret to {objective} (or leave it, if it stands there); the lens is drawn back."

HOME = "Home x, y and z of the stage, if that was not done since it was switched on."

HOME_BY_CORE = (
    "The stage is going to its reference switches in x and y. See that nothing is in its way, and "
    "that z is right: it is not homed."
)


class ConsoleOperator:
    """Asks the person at the keyboard; `assume_yes` takes every request as done but a turret's.

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
        if not self._ask(
            REQUESTS[pass_name],
            f"nobody said that the slide is ready; the pass '{pass_name}' was not started.",
            "Run the same command when it is, with --yes where nobody can be asked.",
        ):
            raise UserError(
                f"the pass '{pass_name}' was not started.",
                hint="Run the same command when the slide is ready.",
            )

    def bring(self, need: BenchNeed) -> None:
        """Ask for a slide, or for oil."""
        if self._assume_yes:
            return
        nobody = f"nobody said that there is what this calibration needs: {need}."
        again = "Run the same command when there is, with --yes where nobody can be asked."
        if not self._ask(NEEDS[need], nobody, again):
            raise UserError(f"the calibration was not begun: it needs {need}.", hint=again)

    def turn_turret(self, objective: str) -> None:
        """Ask for another objective; `--yes` turns no turret."""
        if self._assume_yes:
            raise UserError(
                f"the turret is turned by hand (turret.manual), and with --yes nobody is asked to "
                f"turn it to {objective}.",
                hint="Run the same command without --yes, at the microscope.",
            )
        nobody = f"nobody turned the turret to {objective}."
        again = "Run the same command at the microscope, where somebody can answer."
        if not self._ask(TURN.format(objective=objective), nobody, again):
            raise UserError(nobody, hint="Run the same command when it can be turned.")

    def home_stage(self, by_core: bool) -> None:
        """Ask whether the stage has been homed, or may be homed now."""
        if self._assume_yes:
            return
        nobody = "nobody said that the stage is homed; its limits hold only then."
        again = "Home it, then run the same command, with --yes where nobody can be asked."
        if not self._ask(HOME_BY_CORE if by_core else HOME, nobody, again):
            raise UserError("the stage is not homed; its limits hold only then.", hint=again)

    def _ask(self, request: str, nobody: str, hint: str) -> bool:
        """Whether the person says that it is done; `UserError` where nobody answers."""
        import typer

        try:
            with self._paused():
                print_message(request)
                return typer.confirm("Done?", default=True, err=True)
        except typer.Abort:
            raise UserError(nobody, hint=hint) from None


class AnnouncedOperator:
    """Reports what the backend's own operator does (the simulator's stains the slide itself)."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Let the operator act."""
        if not resumed:
            print_message(f"[simulated operator] {REQUESTS[pass_name]} Done.")
        self._operator.prepare(pass_name, resumed)

    def bring(self, need: BenchNeed) -> None:
        """Let the operator act."""
        print_message(f"[simulated operator] {NEEDS[need]} Done.")
        self._operator.bring(need)

    def turn_turret(self, objective: str) -> None:
        """Let the operator turn the turret."""
        print_message(f"[simulated operator] {TURN.format(objective=objective)} Done.")
        self._operator.turn_turret(objective)

    def home_stage(self, by_core: bool) -> None:
        """Let the operator see to the stage."""
        print_message(f"[simulated operator] {HOME_BY_CORE if by_core else HOME} Done.")
        self._operator.home_stage(by_core)


def make_operator(
    operator: Operator | None, assume_yes: bool, paused: Paused = nullcontext
) -> Operator:
    """The backend's own operator, or the person at the keyboard."""
    if operator is None:
        return ConsoleOperator(assume_yes, paused)
    return AnnouncedOperator(operator)


def make_roles(
    operator: Operator | None,
    assume_yes: bool,
    paused: Paused = nullcontext,
) -> Roles:
    """The image analysis of `process`, and the backend's operator or the person at the keyboard."""
    return scan_roles(make_operator(operator, assume_yes, paused))
