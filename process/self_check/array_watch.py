"""When the LED array is looked at during a pass: what is wrong counts once two fields show it."""

from __future__ import annotations

import time

from plsctl.acquire.capture.content import shows_cells
from plsctl.acquire.errors import PlsctlError
from plsctl.acquire.leds.geometry import LedGeometry
from plsctl.acquire.store.reader import PassReader
from plsctl.process.self_check.array import (
    ArrayState,
    Finding,
    array_optics,
    can_tell,
    look_at_array,
)
from plsctl.process.self_check.light import LedLevels, SingleLed

EVERY, REST_S = 10, 60.0
"""The array is looked at again after so many positions, and not before so many seconds."""

AGAIN = 3
"""Where LEDs seem to have changed, it is not looked again before so many positions."""

TRIES = 3
"""Fields in a row that tell nothing of the array before dimmed LEDs are told without it."""


class ArrayWatch:
    """The array over a pass: a look takes seconds, so that few positions are looked at.

    Parameters
    ----------
    names
        The positions taken so far, in their order; the caller adds to them.
    levels
        Of the LEDs: where single ones change, the array is looked at again.
    """

    def __init__(
        self,
        reader: PassReader,
        leds: tuple[SingleLed, ...],
        geometry: LedGeometry,
        names: list[str],
        levels: LedLevels,
    ) -> None:
        self._reader = reader
        self._leds = leds
        self._names = names
        self._levels = levels
        self.optics = array_optics(reader, leds, geometry)
        self.states: list[ArrayState] = []
        """The array at the positions that told it."""
        self.look_s = 10.0
        """How long the last look took."""
        self.blind_reason = "no field shows cells"
        """Why it cannot be told, where it cannot."""
        self._blind = 0
        self.suspect: ArrayState | None = None
        """What one position shows, and no second one has confirmed yet."""
        self._next = 0
        self._looked_at: set[str] = set()
        self._looked_s = -REST_S

    @property
    def awaits_look(self) -> bool:
        """Whether it is not known yet how the array stands, and may still be."""
        return can_tell(self._leds) and not self.states and self._blind < TRIES

    def due(self) -> str | None:
        """The position at which to look now; None where at none."""
        if not can_tell(self._leds):
            return None
        has_rested = time.monotonic() - self._looked_s >= REST_S
        has_changed = self._may_have_changed()
        if not (self.awaits_look or self.suspect is not None or has_rested or has_changed):
            return None
        if has_changed:
            self._next = min(self._next, len(self._names) - 1)
        while self._next < len(self._names):
            if self._is_telling(self._names[self._next]):
                return self._names[self._next]
            self._next += 1
        return None

    def last_due(self) -> str | None:
        """The same once the pass is over: a long pass's end is looked at, and a doubt settled."""
        if not can_tell(self._leds) or self._blind >= TRIES:
            return None
        is_settled = bool(self.states) and self.suspect is None and not self._may_have_changed()
        if is_settled and self._since_look() < EVERY:
            return None
        return next((name for name in reversed(self._names) if self._is_telling(name)), None)

    def _since_look(self) -> int:
        """How many positions have been taken since the one that told the array last."""
        return len(self._names) - 1 - self._names.index(self.states[-1].position)

    def _may_have_changed(self) -> bool:
        """Whether single LEDs show otherwise than before, and nobody has looked since."""
        if not self.states or self.suspect is not None or self._since_look() < AGAIN:
            return False
        return self._levels.has_changed()

    def _is_telling(self, name: str) -> bool:
        return name not in self._looked_at and shows_cells(self._reader.brightfield(name))

    def look(self, name: str) -> tuple[ArrayState, frozenset[Finding]] | None:
        """Look at the array at a position; the one before, and what both show to be wrong."""
        began_s = time.monotonic()
        self._looked_at.add(name)
        try:
            state = look_at_array(self._reader, name, self._leds, self.optics)
        except PlsctlError as error:
            self._blind, self.blind_reason = self._blind + 1, error.message.rstrip(".")
            self._next = self._names.index(name) + (1 if self._blind < TRIES else EVERY)
            return None
        finally:
            self._looked_s = time.monotonic()
            self.look_s = self._looked_s - began_s
        self._blind = 0
        before, self.suspect = self.suspect, None
        known = self.states[-1].findings if self.states else frozenset()
        if state.findings - known:
            self.suspect = state
        self.states.append(state)
        self._next = self._names.index(name) + (EVERY if self.suspect is None else 1)
        sure = state.findings & before.findings if before is not None else frozenset()
        return (before, sure) if before is not None and sure else None
