"""Simulated time: it passes when something takes time, and never by itself."""

from __future__ import annotations

import threading


class SimulatedClock:
    """A clock that jumps ahead instead of waiting."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds since the simulation began."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let that much time pass at once."""
        with self._lock:
            self._now_s += max(0.0, seconds)
