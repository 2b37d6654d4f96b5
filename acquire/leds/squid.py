"""Driver for the LED matrix of the Squid microscope controller (Cephla): fixed patterns only.

A command is eight bytes: its number, its code, four parameters, one in reserve and a checksum
(CRC-8, polynomial 7). The controller says nothing in return; every 10 ms it sends a status of 24
bytes that names the command it saw last and how that went. It takes codes it does not know for
done. Its watchdog (since version 1.1) switches the light off when the computer falls silent. Facts:
the controller's public sources.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType

from pydantic import Field

from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.files.openers import checked_by
from plsctl.acquire.files.settings import Settings
from plsctl.acquire.leds.array import Capabilities, Identity, LedArraySettings, driver_options
from plsctl.acquire.leds.base import PlainArray, colour_drive
from plsctl.acquire.leds.serial_line import Garbled, LineFault, NoAnswer, Refused, shorten
from plsctl.acquire.leds.squid_status import STATUS_BYTES, STATUS_INTERVAL_S, crc8, statuses

log = logging.getLogger(__name__)

LED_COUNT = 128
STEPS = 100
"""The firmware scales 0 to 255 down to 0 to 100 and cuts off: 100 steps, and 2 is darkness."""

TURN_ON, TURN_OFF, SET_PATTERN = 10, 11, 13
SET_WATCHDOG, HEARTBEAT = 40, 42
DONE, IN_PROGRESS, BAD_CHECKSUM = 0, 1, 2
WATCHDOG_MAX_S = 3600.0

LOW_NA = (45, 46, 56, 57, 58, 59, 68, 69, 70, 71, 81, 82)
LEFT_DOT, RIGHT_DOT = (3, 4, 11, 12), (115, 116, 123, 124)
TOP = (
    *range(4), *range(12, 22), *range(34, 46), *range(58, 70), *range(82, 94), *range(106, 116),
    *range(124, 128),
)  # fmt: skip
PATTERNS: Mapping[frozenset[int], tuple[int, str]] = MappingProxyType(
    {
        frozenset(range(LED_COUNT)): (0, "all"),
        frozenset(range(LED_COUNT // 2)): (1, "the left half (0 to 63)"),
        frozenset(range(LED_COUNT // 2, LED_COUNT)): (2, "the right half (64 to 127)"),
        frozenset(LOW_NA): (4, "low NA (12 LEDs in the middle)"),
        frozenset(LEFT_DOT): (5, "the left dot (4 LEDs)"),
        frozenset(RIGHT_DOT): (6, "the right dot (4 LEDs)"),
        frozenset(TOP): (7, "the top half"),
        frozenset(range(LED_COUNT)) - frozenset(TOP): (8, "the bottom half"),
    }
)
"""The sets of LEDs that the firmware can light, with its code and a name. Its pattern 3, left blue
and right red, has two colours at once and is not offered."""


class SquidOptions(Settings):
    """The `options` of the driver `squid`.

    Parameters
    ----------
    colour
        Drive of red, green and blue at full brightness, each 0 to 1.
    watchdog_s
        The controller switches the light off when it has heard nothing for so long; the driver
        gives a sign of life three times as often.
    """

    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    watchdog_s: float = Field(default=5.0, ge=0.1, le=WATCHDOG_MAX_S)


PATTERNS_ONLY = Capabilities(single=False, several=False, brightness=True, colour=True)


class SquidArray(PlainArray):
    """An opened controller. Made by `open_squid`."""

    def __init__(self, settings: LedArraySettings, options: SquidOptions) -> None:
        self._options = options
        self._number = 0
        self._version = (0, 0)
        self._heard_of_us_s = time.monotonic()
        self._closing = threading.Event()
        super().__init__(settings, PATTERNS_ONLY, STEPS)
        self._heart: threading.Thread | None = None
        if self._has_watchdog:
            self.capabilities = Capabilities(
                single=False, several=False, brightness=True, watchdog=True, colour=True
            )
            self._heart = threading.Thread(target=self._live, name="led-heartbeat", daemon=True)
            self._heart.start()

    # The wire ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Discard old statuses; to send anything would throw the controller out of step."""
        self._line.write(b"")

    def _send(self, code: int, *parameters: int) -> str:
        """Number a command and write it; returns it for messages."""
        self._number = self._number % 255 + 1
        body = bytes([self._number, code, *parameters]).ljust(7, b"\0")
        self._line.write(body + bytes([crc8(body)]))
        self._heard_of_us_s = time.monotonic()
        return f"code {code}, parameters {parameters}" if parameters else f"code {code}"

    def _command(self, code: int, *parameters: int) -> None:
        """Send a command and wait until a status says that it is done."""
        command = self._send(code, *parameters)
        patience = max(3, round(self._settings.timeout_s / STATUS_INTERVAL_S))

        def done(raw: bytes) -> bool:
            for status in statuses(raw, self._number):
                if status.version != self._version or status.state == IN_PROGRESS:
                    continue
                if status.state == BAD_CHECKSUM:
                    raise Garbled(command, raw[-STATUS_BYTES:])
                if status.state != DONE:
                    raise Refused(command, f"status {status.state}")
                return True
            if len(raw) >= patience * STATUS_BYTES:
                raise Unacknowledged(command, len(raw) // STATUS_BYTES)
            return False

        self._line.receive(command, done)

    # The array --------------------------------------------------------------------------------

    def _introduce(self) -> Identity:
        """Send a heartbeat and find the statuses that name it: nothing else marks their start."""
        command = self._send(HEARTBEAT)
        try:
            raw = self._line.receive(command, lambda got: len(got) >= 6 * STATUS_BYTES)
        except NoAnswer:
            raise Unheard(self._settings.timeout_s) from None
        versions = {status.version for status in statuses(raw, self._number)}
        if len(versions) != 1:
            raise Unreadable(raw[:STATUS_BYTES])
        major, minor = versions.pop()
        if major != 1:
            raise HardwareError(
                f"the Squid controller at {self._line.port} has firmware {major}.{minor}; this "
                "driver is for 1.0 and later 1.x.",
                hint="Load firmware 1.x onto it.",
            )
        self._version = (major, minor)
        return Identity("squid", "Squid controller", f"{major}.{minor}", LED_COUNT)

    @property
    def _has_watchdog(self) -> bool:
        return self._version >= (1, 1)

    def _prepare(self) -> None:
        """Off twice: the firmware switches off only the source that is chosen."""
        self._dark()
        self._command(SET_PATTERN, 0, 0, 0, 0)
        self._dark()
        self._set_watchdog(self._options.watchdog_s)

    def _set_watchdog(self, seconds: float) -> None:
        if self._has_watchdog:
            self._command(SET_WATCHDOG, *round(seconds * 1000).to_bytes(4, "big"))

    def _dark(self) -> None:
        self._command(TURN_OFF)

    def _check(self, leds: tuple[int, ...]) -> None:
        if frozenset(leds) not in PATTERNS:
            names = ", ".join(name for _, name in PATTERNS.values())
            which = "LED" if len(leds) == 1 else "LEDs together:"
            raise UserError(
                f"the Squid controller cannot light the {which} {_in_words(leds)}.",
                hint=f"Its firmware has fixed patterns only: {names}.",
            )

    def _light(self, leds: tuple[int, ...], level: int) -> None:
        code, _ = PATTERNS[frozenset(leds)]
        drives = colour_drive(self._options.colour, self._colour)
        red, green, blue = (math.ceil(255 * level * drive / STEPS) for drive in drives)
        self._command(SET_PATTERN, code, green, red, blue)
        self._command(TURN_ON)

    # Signs of life ----------------------------------------------------------------------------

    def _live(self) -> None:
        while not self._closing.wait(self._options.watchdog_s / 3):
            try:
                with self._lock:
                    self._beat()
            except LineFault as fault:  # the next command finds it too, and mends or tells it
                log.warning("%s: no sign of life: %s", self._line, fault)

    def _beat(self) -> None:
        """Send a heartbeat; a watchdog that has fired must be set again."""
        if time.monotonic() - self._heard_of_us_s > self._options.watchdog_s:
            log.warning("%s was not heard of for too long: its light is off", self._line)
            self._set_watchdog(self._options.watchdog_s)
        else:
            self._send(HEARTBEAT)

    def _stop_living(self) -> None:
        self._closing.set()
        if self._heart is not None:
            self._heart.join(timeout=2)

    def close(self) -> None:
        """All LEDs off, then the port is closed. Never raises."""
        self._stop_living()
        super().close()

    def release(self) -> None:
        """Close the port and leave the LEDs lit, for an hour where there is a watchdog.

        It cannot be switched off once it is set. Never raises.
        """
        self._stop_living()
        try:
            self._perform(lambda: self._set_watchdog(WATCHDOG_MAX_S))
        except PlsctlError as error:
            log.warning("the light will go out by itself: %s", error)
        super().release()


class Unheard(NoAnswer):
    """The controller sends no statuses."""

    def __init__(self, waited_s: float) -> None:
        LineFault.__init__(self, f"no status came within {waited_s:g} s, and it sends 100 a second")


class Unreadable(Garbled):
    """The input is no status, or none about the command."""

    def __init__(self, got: bytes) -> None:
        LineFault.__init__(
            self, f"no status of a Squid controller is about what was sent: {shorten(got)}"
        )


class Unacknowledged(NoAnswer):
    """Statuses come, none of which is about the command."""

    def __init__(self, command: str, seen: int) -> None:
        LineFault.__init__(
            self, f"`{command}` was sent and none of the {seen} statuses after it was about it"
        )


def _in_words(leds: tuple[int, ...]) -> str:
    shown = ", ".join(str(led) for led in leds[:5])
    return shown if len(leds) <= 5 else f"{shown}, ... ({len(leds)} in all)"


def check_squid(settings: LedArraySettings) -> Capabilities:
    """What the controller will be able to do; `UserError` for an option that is wrong."""
    driver_options(settings, SquidOptions)
    return PATTERNS_ONLY


@checked_by(check_squid)
def open_squid(settings: LedArraySettings) -> SquidArray:
    """Open a Squid controller; the LED matrix is off afterwards.

    Raises
    ------
    UserError
        The port cannot be opened, or an option is wrong.
    HardwareError
        Nothing is heard, or something other than a Squid controller of version 1.x.
    """
    return SquidArray(settings, driver_options(settings, SquidOptions))
