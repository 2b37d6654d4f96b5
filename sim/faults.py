"""What goes wrong at the simulated microscope, when, and how often: for tests of what then happens.

Every kind counts its own occasions since the microscope was opened: exposures, moves, settings,
bursts of bytes on the serial line. A fault happens from occasion `at` on, `times` times.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from plsctl.acquire.config import Settings

log = logging.getLogger(__name__)

FaultKind = Literal[
    "serial_silent",
    "serial_garbage",
    "serial_lost_command",
    "serial_lost_reply",
    "serial_half_reply",
    "serial_unplugged",
    "dark_led",
    "camera_timeout",
    "camera_error",
    "dark_frame",
    "dropped_frame",
    "repeated_frame",
    "swapped_frames",
    "reordered_frames",
    "missed_trigger",
    "extra_trigger",
    "setting_fails",
    "stage_stalls",
    "stage_overshoots",
    "stage_error",
    "z_stalls",
    "turret_sticks",
]


class Fault(Settings):
    """One fault, with which occasion it begins and how many occasions it lasts."""

    kind: FaultKind
    at: int = Field(default=0, ge=0)
    times: int = Field(default=1, ge=1)
    led: int | None = None
    """The LED that stays dark (`dark_led`)."""
    seconds: float = Field(default=2.0, ge=0)
    """How long the line is silent (`serial_silent`)."""


class FaultCounter:
    """Tells at every occasion whether a fault happens now."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = tuple(faults)
        self._occasions: Counter[FaultKind] = Counter()

    def now(self, kind: FaultKind) -> Fault | None:
        """Count an occasion for this kind; the fault, if it happens at it."""
        occasion = self._occasions[kind]
        self._occasions[kind] += 1
        for fault in self._faults:
            if fault.kind == kind and fault.at <= occasion < fault.at + fault.times:
                log.debug("fault: %s, occasion %d", kind, occasion)
                return fault
        return None

    @property
    def dark_leds(self) -> frozenset[int]:
        """LEDs that do not shine, whatever they are told."""
        return frozenset(f.led for f in self._faults if f.kind == "dark_led" and f.led is not None)
