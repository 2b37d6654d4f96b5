"""The clock of a simulated microscope: jumping ahead, or real."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol


class WorldClock(Protocol):
    """A clock that stands still while the simulator makes an image."""

    def now(self) -> float:
        """Seconds since the simulation began."""

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""

    def stopped(self) -> AbstractContextManager[None]:
        """No time passes while the block runs."""


class SimulatedClock:
    """Time passes only when something takes time: it jumps instead of waiting."""

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

    def stopped(self) -> AbstractContextManager[None]:
        """No time passes by itself anyway."""
        return nullcontext()


class RealClock:
    """Real time, less what the simulator spent on making images."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._stopped_at_s: float | None = None
        self._stops = 0
        self._lock = threading.Lock()
        self.lost_s = 0.0
        """How long the clock has stood still."""

    def now(self) -> float:
        """Seconds since the simulation began."""
        with self._lock:
            real = time.perf_counter() if self._stopped_at_s is None else self._stopped_at_s
            return real - self._began_s - self.lost_s

    def sleep(self, seconds: float) -> None:
        """Wait; longer where the clock is stopped meanwhile."""
        until = self.now() + seconds
        while (left := until - self.now()) > 0:
            time.sleep(left)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock while the block runs, for all who read it."""
        with self._lock:
            self._stops += 1
            if self._stopped_at_s is None:
                self._stopped_at_s = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._stops -= 1
                if self._stops == 0 and self._stopped_at_s is not None:
                    self.lost_s += time.perf_counter() - self._stopped_at_s
                    self._stopped_at_s = None
