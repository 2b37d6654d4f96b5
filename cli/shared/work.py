"""Progress of long work: a bar on a terminal, elsewhere a line from time to time."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from plsctl.acquire.words import counted, duration, plural

if TYPE_CHECKING:
    from rich.console import Console

LINES_S = (1.0, 10.0, 20.0, 30.0)
"""Where there is no terminal: seconds from the begin of a phase to its first line, from there to
the second one, and so on; the last of them holds for all that follow."""


JUST_BEGUN_S = 3.0
"""Work without a count is only named if it took no longer than this."""


class WorkState:
    """State of long work: what is done, how much, how fast, and the time left.

    Parameters
    ----------
    unit
        What is counted, in the singular; "%" for shares of 100, empty for plain numbers.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        description: str,
        total: float | None = None,
        unit: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.begin(description, total, unit)

    def begin(self, description: str, total: float | None, unit: str) -> None:
        """Begin another phase."""
        self.description, self.unit = description, unit
        self.total = total
        self.done = 0.0
        self.note = ""
        self._began_s = self._updated_s = self._clock()
        self._origin: tuple[float, float] | None = None

    def count(self, done: float, *, from_nothing: bool) -> None:
        """Take over how much is done.

        The rate counts from the begin of the phase where it began `from_nothing`; else from the
        first report, for what was done before is not this run's.
        """
        self._updated_s = self._clock()
        self.done = done
        if self._origin is None:
            self._origin = (self._began_s, 0.0) if from_nothing else (self._updated_s, done)

    @property
    def rate(self) -> float | None:
        """Items a second, or None where that is not known yet."""
        if self._origin is None:
            return None
        seconds, items = self._updated_s - self._origin[0], self.done - self._origin[1]
        return items / seconds if seconds > 0 and items > 0 else None

    def text(self) -> str:
        """How far it is, its rate and the time left; the time that has passed, where unknown."""
        parts = [self._amount(), self._pace(), self._left()]
        known = ", ".join(part for part in parts if part)
        return "; ".join(part for part in (known or self._passed(), self.note) if part)

    def line(self) -> str:
        """The whole state in one line."""
        if not self.is_counted and not self.note:
            begun = self._clock() - self._began_s < JUST_BEGUN_S
            return f"{_capital(self.description)} ..." + ("" if begun else f" ({self._passed()})")
        return f"{_capital(self.description)}: {self.text()}"

    @property
    def is_counted(self) -> bool:
        """Whether anything is counted in this phase."""
        return self.total is not None or self.done > 0

    def last_line(self) -> str:
        """What was done, and how long it took."""
        amount = _number(self.done, self.unit) if self.done and self.unit != "%" else "done"
        text = f"{_capital(self.description)}: {amount} in {self._passed()}"
        return f"{text}; {self.note}." if self.note else f"{text}."

    def _amount(self) -> str:
        if self.unit == "%":
            return f"{self.done:.0f} %"
        if self.total is None:
            return _number(self.done, self.unit) if self.done else ""
        return f"{math.floor(self.done)} of {_number(self.total, self.unit)}"

    def _pace(self) -> str:
        rate = self.rate
        if rate is None or self.unit == "%":
            return ""
        if rate >= 1:
            return f"{rate:.1f} {plural(self.unit)}/s" if self.unit else f"{rate:.1f}/s"
        return f"{1 / rate:.1f} s each" if rate > 1 / 90 else f"{duration(1 / rate)} each"

    def _left(self) -> str:
        rate = self.rate
        if rate is None or self.total is None or self.done >= self.total:
            return ""
        waited_s = self._clock() - self._updated_s
        return f"{duration(max(0.0, (self.total - self.done) / rate - waited_s))} left"

    def _passed(self) -> str:
        return duration(self._clock() - self._began_s)


class Display(Protocol):
    """A display of the state of the work."""

    def refresh(self) -> None:
        """The state has changed."""

    def new_phase(self) -> None:
        """The phase has ended, and another one begins."""

    def pause(self) -> None:
        """Hide the display while a person is asked something."""

    def go_on(self) -> None:
        """Show it again."""


class Work:
    """Long work with a display; call it to report progress."""

    def __init__(self, state: WorkState, display: Display) -> None:
        self._state = state
        self._display = display

    def __call__(
        self,
        items: float = 1,
        *,
        completed: float | None = None,
        total: float | None = None,
        description: str | None = None,
        unit: str | None = None,
        note: str | None = None,
    ) -> None:
        """Report progress.

        Parameters
        ----------
        items
            So many more are done; where nothing else is given.
        completed
            So many are done in all.
        total
            So many are to be done.
        description, unit
            What is done now, and what is counted. Another description begins a phase of its own.
        note
            An additional text, such as the loss.
        """
        state = self._state
        if description is not None and description != state.description:
            self._display.new_phase()
            state.begin(description, total, state.unit if unit is None else unit)
        state.total = state.total if total is None else total
        state.unit = state.unit if unit is None else unit
        state.note = state.note if note is None else note
        if completed is not None:
            state.count(completed, from_nothing=False)
        elif total is None and description is None and unit is None and note is None:
            state.count(state.done + items, from_nothing=True)
        self._display.refresh()

    def steps(self, what: str, done: int, total: int) -> None:
        """Take the reports of a scan: what is done, how much of it, of how much (0: unknown)."""
        unit = {"finding focus": "place"}.get(what, "position")
        self(description=what, unit=unit)
        if total:
            self(completed=done, total=total)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the display while the block runs, in which a person is asked something."""
        self._display.pause()
        try:
            yield
        finally:
            self._display.go_on()


class Lines:
    """Prints a line from time to time, and one at the end of a phase that has had lines.

    Of a phase in which nothing is counted the first line says enough, unless it takes long.
    """

    def __init__(self, state: WorkState, write: Callable[[str], None]) -> None:
        self._state = state
        self._write = write
        self._woken = threading.Event()
        self._ended = self._hidden = False
        self._said = 0
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> "Lines":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._ended = True
        self._woken.set()
        self._thread.join()
        if kind is None:
            self._conclude()

    def _run(self) -> None:
        while not self._ended:
            if self._woken.wait(LINES_S[min(self._said, len(LINES_S) - 1)]):
                self._woken.clear()
            elif not self._hidden:
                self._write(self._state.line())
                self._said += 1

    def _conclude(self) -> None:
        if self._said > (0 if self._state.is_counted else 1):
            self._write(self._state.last_line())
        self._said = 0

    def refresh(self) -> None:
        """Lines are printed by time."""

    def new_phase(self) -> None:
        """Print how the last phase ended, and wait for the first line of the next."""
        self._conclude()
        self._woken.set()

    def pause(self) -> None:
        """Print nothing."""
        self._hidden = True

    def go_on(self) -> None:
        """Print again."""
        self._hidden = False


class Bar:
    """A bar with what is done, how far it is, the rate and the time left."""

    def __init__(self, state: WorkState, console: "Console") -> None:
        from rich import progress as bars
        from rich.text import Text

        class StateColumn(bars.ProgressColumn):
            """The state in words, up to date at every refresh."""

            def render(self, task: bars.Task) -> Text:
                return Text(state.text())

        self._state = state
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            StateColumn(),
            console=console,
        )
        self._task = self._bar.add_task(_capital(state.description), total=state.total)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def refresh(self) -> None:
        """Move the bar."""
        state = self._state
        self._bar.tasks[0].total = state.total
        self._bar.update(self._task, completed=state.done, description=_capital(state.description))

    def new_phase(self) -> None:
        """The same bar shows the next phase."""

    def pause(self) -> None:
        """Hide the bar."""
        self._bar.stop()

    def go_on(self) -> None:
        """Show the bar again."""
        self._bar.start()


def _number(value: float, unit: str) -> str:
    return counted(round(value), unit) if unit else f"{value:.0f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
