"""Stopping and pausing on request: noted at once, carried out between two frames."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from plsctl.acquire.errors import InterruptedScan

# Windows has neither SIGHUP nor SIGQUIT (Ctrl-\); SIGBREAK is its Ctrl-Break, and a console that
# is closed.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
    if hasattr(signal, name)
]

# Windows has neither.
_PAUSE, _GO_ON = getattr(signal, "SIGTSTP", None), getattr(signal, "SIGCONT", None)

GIVE_UP_S = 10.0
"""After a second Ctrl-C the program may take so long to go dark and close its files: a disk that
hangs gives no answer."""

LATE_S = 2.0
"""A Ctrl-C that comes so soon after the work has been stopped meant the work."""

INTERRUPTED = 130
"""Exit code."""

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

    It is a `KeyboardInterrupt`, and further ones change nothing: the LEDs must be switched off.
    What hangs then is left behind.
    SIGTSTP (Ctrl-Z) pauses instead of freezing the process with an LED lit; SIGCONT goes on.
    `outcome` as for `StopRequest`.
    """
    request = StopRequest(outcome)
    if threading.current_thread() is not threading.main_thread():
        # Signals reach the main thread only; elsewhere the owner of the thread calls `set`.
        yield request
        return

    giving_up = threading.Timer(GIVE_UP_S, _give_up)
    giving_up.daemon = True
    is_ending = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal is_ending
        if is_ending:
            return
        if number == _PAUSE:
            request.pause()
        elif number == _GO_ON:
            request.go_on()
        elif request.is_set and number == signal.SIGINT:
            is_ending = True
            giving_up.start()
            raise KeyboardInterrupt
        else:
            request.hear(signal.Signals(number).name)

    heard = [*_SIGNALS, *(number for number in (_PAUSE, _GO_ON) if number is not None)]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield request
    finally:
        giving_up.cancel()
        for number, handler in before.items():
            if number == signal.SIGINT and request.is_set:
                _ignore_late(handler)
            else:
                signal.signal(number, handler)


def _give_up() -> None:
    """End although something hangs; nothing that could hang as well."""
    text = (
        "error: Interrupted; a disk or a device gave no answer and was not waited for. At a "
        "microscope: LEDs may still be lit and the lens stand at the slide; draw it back by hand.\n"
    )
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
    os._exit(INTERRUPTED)


def _ignore_late(handler: Callable[[int, FrameType | None], Any] | int | None) -> None:
    """Let SIGINT do nothing for a moment: the program says why it stopped, and ends."""
    until_s = time.monotonic() + LATE_S

    def late(number: int, frame: FrameType | None) -> None:
        if time.monotonic() < until_s:
            return
        signal.signal(signal.SIGINT, handler)
        if callable(handler):
            handler(number, frame)

    signal.signal(signal.SIGINT, late)
