"""A pattern sequence inside an LED controller: light, pulse the camera, wait for it, next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

Pattern = Sequence[tuple[int, int]]
"""LED numbers, each with its value from 0 to 255."""
TOO_SHORT, TIMED_OUT = "too short", "timed out"


@dataclass
class TriggerSettings:
    """Trigger set-up of a controller.

    Modes: 0 never, n > 0 every n patterns, -1 once per repeat, -2 once at the start.
    """

    input_mode: int = 0
    output_mode: int = 0
    pulse_width_s: float = 500e-6
    start_delay_s: float = 0.0
    input_timeout_s: float = 60.0


@dataclass(frozen=True)
class Wait:
    """The controller waits until a time, or for a level of its trigger input up to that time."""

    until: float
    level: bool | None = None


@dataclass(frozen=True)
class SequencePlan:
    """What to run, the shortest time of each pattern, and how often."""

    patterns: Sequence[Pattern]
    delay_s: float
    repeats: int
    update_s: float


class SequenceRun:
    """One run of a sequence, moved on by the passing of time and by the trigger input.

    Parameters
    ----------
    plan, triggers
        What to run and how it talks to the camera.
    show
        Called with the time and the pattern when it lights up.
    pulse
        Called with the time when the trigger output is pulsed; must return at once.
    started
        Time at which the run command arrived.
    """

    def __init__(
        self,
        plan: SequencePlan,
        triggers: TriggerSettings,
        show: Callable[[float, Pattern], None],
        pulse: Callable[[float], None],
        started: float,
    ) -> None:
        self._plan = plan
        self._triggers = triggers
        self._show = show
        self._pulse = pulse
        self.time = started
        self.input_level = False
        self.outcome: str | None = None
        """Empty once it has ended well, `TOO_SHORT` or `TIMED_OUT` otherwise."""
        self._advancing = False
        self._steps = self._run()
        self._wait = next(self._steps, Wait(started))  # without patterns it ends at once

    @property
    def awaits_input(self) -> bool:
        """Whether it stands waiting for the camera."""
        return self._wait.level is not None

    @property
    def next_event(self) -> float:
        """When it moves on at the latest."""
        return self._wait.until

    def advance(self, now: float) -> None:
        """Move on as far as the time and `input_level` allow."""
        if self._advancing:  # called from within `pulse`: the level is read after the pulse
            return
        self._advancing = True
        try:
            while self.outcome is None and self._step(now):
                pass
        finally:
            self._advancing = False

    def _step(self, now: float) -> bool:
        wait = self._wait
        met = wait.level is not None and wait.level == self.input_level
        if not met and now < wait.until:
            return False
        self.time = max(self.time, min(now, wait.until))
        try:
            self._wait = self._steps.send(met)
        except StopIteration as end:
            self.outcome = end.value or ""  # None of a run without patterns
        return True

    def _run(self) -> Generator[Wait, bool, str]:
        plan, triggers = self._plan, self._triggers
        for repeat in range(plan.repeats):
            for index, pattern in enumerate(plan.patterns):
                begun = self.time
                yield Wait(begun + plan.update_s)
                self._show(self.time, pattern)
                if 0 < plan.delay_s < plan.update_s:
                    return TOO_SHORT
                if _applies(triggers.output_mode, index, repeat):
                    self._pulse(self.time)
                    # The controller is deaf while it pulses: a short exposure goes by unseen.
                    yield Wait(self.time + triggers.pulse_width_s + triggers.start_delay_s)
                handshake = triggers.input_mode > 0 and index % triggers.input_mode == 0
                if handshake and not (yield self._input(True)):
                    return TIMED_OUT
                yield Wait(begun + plan.delay_s)
                if handshake and not (yield self._input(False)):
                    return TIMED_OUT
        return ""

    def _input(self, level: bool) -> Wait:
        return Wait(self.time + self._triggers.input_timeout_s, level)


def _applies(mode: int, index: int, repeat: int) -> bool:
    if mode > 0:
        return index % mode == 0
    return (mode == -1 and index == 0) or (mode == -2 and index == 0 and repeat == 0)
