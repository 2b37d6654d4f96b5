"""Stopping on request: Ctrl-C and signals are heard at once and obeyed at a frame's boundary."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from plsctl.acquire.errors import InterruptedScan

# Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StopRequest:
    """Remembers that somebody asked to stop."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def set(self, reason: str) -> None:
        """Ask to stop; the first reason is kept."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """Raise `InterruptedScan` if a stop was asked for."""
        if self._reason is not None:
            raise InterruptedScan(
                f"stopped by {self._reason}; the positions finished so far are kept.",
                hint="Run the same command again: it goes on where it stopped.",
            )


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn signals into a `StopRequest` while the block runs; a second Ctrl-C breaks off hard."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        # Signals reach the main thread only; elsewhere the owner of the thread calls `set`.
        yield request
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if request._reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.set(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
