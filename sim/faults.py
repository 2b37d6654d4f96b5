"""Faults of the simulated microscope: which, when, and how often; for tests of error handling.

Every kind counts its own occasions since the microscope was opened: exposures, moves, settings,
bursts of bytes on the serial line. A fault happens from occasion `at` on, `times` times.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from plsctl.acquire.files.settings import Settings

log = logging.getLogger(__name__)

FaultKind = Literal[
    "serial_silent",
    "serial_garbage",
    "serial_lost_command",
    "serial_lost_reply",
    "serial_half_reply",
    "serial_unplugged",
    "controller_restarts",
    "dark_led",
    "light_steps",
    "led_dims",
    "camera_turns",
    "focus_jumps",
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
    """What happens."""
    at: int = Field(default=0, ge=0)
    """The occasion of its kind, counted from 0, at which it begins."""
    times: int = Field(default=1, ge=1)
    """How many occasions it lasts."""
    led: int | None = None
    """The LED that stays dark (`dark_led`), or dims (`led_dims`)."""
    seconds: float = Field(default=2.0, ge=0)
    """How long the line is silent (`serial_silent`)."""
    level: int = Field(default=128, ge=0, le=255)
    """Brightness that the controller has after its restart (`controller_restarts`)."""
    factor: float = Field(default=0.5, ge=0)
    """What becomes of all light (`light_steps`), or of an LED's (`led_dims`)."""
    amount: float = 0.0
    """Degrees by which the camera is turned (`camera_turns`), or micrometres by which the slide
    comes to lie higher (`focus_jumps`)."""


class FaultCounter:
    """Decides at every occasion whether a fault happens."""

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
        """LEDs that stay dark, whatever the command."""
        return frozenset(f.led for f in self._faults if f.kind == "dark_led" and f.led is not None)


@dataclass
class WireFaults:
    """Faults on the wire: each number is how many times a fault will still happen.

    `counter` adds faults that happen at a given burst (see `FaultCounter`).
    """

    lost_commands: int = 0
    lost_replies: int = 0
    garbled_replies: int = 0
    half_replies: int = 0
    counter: FaultCounter | None = None
    silent_until_s: float = -math.inf

    def swallows_command(self, now_s: float) -> bool:
        """Whether the burst that was sent now never arrives."""
        if self._happens("serial_lost_command"):
            self.lost_commands += 1
        if fault := self._happens("serial_silent"):
            self.silent_until_s = now_s + fault.seconds
        if now_s < self.silent_until_s:
            return True
        if self.lost_commands == 0:
            return False
        self.lost_commands -= 1
        return True

    def spoil(self, reply: bytes) -> bytes:
        """The reply as it reaches the host."""
        self.lost_replies += self._happens("serial_lost_reply") is not None
        self.garbled_replies += self._happens("serial_garbage") is not None
        self.half_replies += self._happens("serial_half_reply") is not None
        if self.lost_replies > 0:
            self.lost_replies -= 1
            return b""
        if self.garbled_replies > 0:
            self.garbled_replies -= 1
            return bytes(byte ^ 0xA5 for byte in reply)
        if self.half_replies > 0:
            self.half_replies -= 1
            return reply[: len(reply) // 2]
        return reply

    def pulls_cable(self) -> Fault | None:
        """Whether the cable is pulled now."""
        return self._happens("serial_unplugged")

    def restarts(self) -> Fault | None:
        """Whether the controller restarts now, before it reads what was sent."""
        return self._happens("controller_restarts")

    def _happens(self, kind: FaultKind) -> Fault | None:
        return None if self.counter is None else self.counter.now(kind)
