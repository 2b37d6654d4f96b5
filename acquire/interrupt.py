"""Stopping and pausing on request: noted at once, carried out between two frames."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from plsctl.acquire.errors import InterruptedScan

# Windows has no SIGHUP; SIGBREAK is its Ctrl-Break, and a console that is closed.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]

# Windows has neither.
_PAUSE, _GO_ON = getattr(signal, "SIGTSTP", None), getattr(signal, "SIGCONT", None)

LOOK_S = 0.05
"""Polling interval of everything that waits, for a stop or the end of a pause."""


POSITIONS_KEPT = "the positions finished so far are kept"


class StopRequest:
    """Remembers that somebody asked to stop or to pause.

    Parameters
    ----------
    outcome
        What becomes of the work that is stopped, for the message.
    """

    def __init__(self, outcome: str = POSITIONS_KEPT) -> None:
        self._outcome = outcome
        self._reason: str | None = None
        self._paused = False
        self._at_once = False

    @property
    def is_paused(self) -> bool:
        """Whether a pause was asked for and not ended."""
        return self._paused

    def pause(self) -> None:
        """Ask for a pause."""
        self._paused = True

    def go_on(self) -> None:
        """End the pause."""
        self._paused = False

    def wait(self) -> None:
        """Wait for the end of a pause; `InterruptedScan` if a stop is asked for meanwhile."""
        while self._paused:
            self.check()
            time.sleep(LOOK_S)

    def set(self, reason: str) -> None:
        """Ask to stop; the first reason is kept."""
        self._reason = self._reason or reason

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._reason is not None

    def check(self) -> None:
        """Raise `InterruptedScan` if a stop was asked for."""
        if self._reason is not None:
            goes_on = ": it goes on where it stopped" if self._outcome == POSITIONS_KEPT else ""
            raise InterruptedScan(
                f"stopped by {self._reason}; {self._outcome}.",
                hint=f"Run the same command again{goes_on}.",
            )

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While the block runs a signal interrupts it, for code that does not check for a stop.

        Not around devices: their core calls back, and wraps what is raised in there.
        """
        self.check()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def hear(self, reason: str) -> None:
        """Take note of a signal; the first one inside `at_once` raises."""
        is_first = not self.is_set
        self.set(reason)
        if self._at_once and is_first:
            self.check()


@contextmanager
def stop_on_signals(outcome: str = POSITIONS_KEPT) -> Iterator[StopRequest]:
    """Turn signals into a `StopRequest` while the block runs; a second Ctrl-C ends the program.

    SIGTSTP (Ctrl-Z) pauses instead of freezing the process with an LED lit; SIGCONT goes on.
    `outcome` as for `StopRequest`.
    """
    request = StopRequest(outcome)
    if threading.current_thread() is not threading.main_thread():
        # Signals reach the main thread only; elsewhere the owner of the thread calls `set`.
        yield request
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == _PAUSE:
            request.pause()
        elif number == _GO_ON:
            request.go_on()
        elif request.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            request.hear(signal.Signals(number).name)

    heard = [*_SIGNALS, *(number for number in (_PAUSE, _GO_ON) if number is not None)]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
