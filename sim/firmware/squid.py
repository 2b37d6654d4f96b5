"""The Squid controller's firmware, its LED matrix only: eight bytes in, 24 every 10 ms out.

Its quirks: a command takes effect without a reply of its own; codes it does not know count as done;
a wrong checksum empties its input; a lost byte spoils the following command; switching off
switches only the chosen source off; the watchdog bites once and must then be set anew. Motion is
left out: positions stay zero. Facts: its public sources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plsctl.acquire.clock import Clock
from plsctl.sim.firmware.board import LedBoard, Lit, Position, tint_of

COMMAND_BYTES = 8
INTERVAL_S = 0.01
LED_COUNT = 128
INTENSITY_MAX = 100
WATCHDOG_DEFAULT_MS, WATCHDOG_MAX_MS = 5000, 3_600_000
# The round matrix has twelve columns, whose LEDs are numbered down and up in turn.
COLUMN_HEIGHTS = (8, 8, 12, 12, 12, 12, 12, 12, 12, 12, 8, 8)
# fmt: off
LOW_NA = (45, 46, 56, 57, 58, 59, 68, 69, 70, 71, 81, 82)
DOTS = ((3, 4, 11, 12), (115, 116, 123, 124))
# fmt: on


class SquidFirmware(LedBoard):
    """The controller with its round matrix of 128 LEDs (see `LedBoard` for the parameters)."""

    version = "1.7"

    def __init__(
        self,
        positions_mm: Sequence[Position],
        clock: Clock,
        *,
        on_change: Callable[[float, Lit], None] | None = None,
        round_trip_s: float = 0.0002,
        version: str = "1.7",
    ) -> None:
        self.version = version
        super().__init__(
            positions_mm,
            clock,
            on_change=on_change,
            round_trip_s=round_trip_s,
            resets_on_open=False,
        )

    def restart(self) -> None:
        """Power-on state."""
        self._input = bytearray()
        self._command_number = 0
        self._checksum_failed = False
        self._source = 0
        self._colour = (0, 0, 0)
        self._is_on = False
        self._watchdog_s: float | None = None
        self._last_message_s = self.clock.now()
        self._next_status_s = self.clock.now()
        self.heartbeats = 0
        self._codes: dict[int, Callable[[bytes], None]] = {
            10: lambda _: self._turn_on(),
            11: lambda _: self._turn_off(),
            13: self._set_pattern,
            40: self._set_watchdog,
            42: lambda _: self._count_heartbeat(),
        }
        if self._release < (1, 1):
            del self._codes[40], self._codes[42]

    @property
    def _release(self) -> tuple[int, int]:
        major, minor = (int(part) for part in self.version.split("."))
        return major, minor

    # Wire -------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """It sends statuses without being asked."""
        return True

    @property
    def next_event(self) -> float | None:
        """When it next sends a status."""
        return self._next_status_s

    def connect(self) -> bytes:
        """A host opens the port; the controller does not notice, and may be amid a status."""
        with self._lock:
            self._advance()
            self._next_status_s = self.clock.now() + INTERVAL_S
            return self._status()[9:]

    def feed(self, burst: bytes) -> bytes:
        """Bytes from the host; only later statuses show their result."""
        with self._lock:
            self._advance()
            if burst and not self.faults.swallows_command(self.clock.now()):
                self.clock.sleep(self.round_trip_s)
                self._take(burst)
            return self.poll()

    def poll(self) -> bytes:
        """The statuses since the last call; those of more than a second ago were lost."""
        with self._lock:
            self._advance()
            now = self.clock.now()
            self._next_status_s = max(self._next_status_s, now - 1)
            said = b""
            while self._next_status_s <= now:
                self._next_status_s += INTERVAL_S
                said += self.faults.spoil(self._status())
            return said

    def _status(self) -> bytes:
        packet = bytearray(23)
        packet[0] = self._command_number
        packet[1] = 2 if self._checksum_failed else 0
        major, minor = self._release
        packet[22] = major << 4 | minor
        return bytes([*packet, crc8(packet)])

    def _take(self, burst: bytes) -> None:
        for place, byte in enumerate(burst):
            self._input.append(byte)
            if len(self._input) < COMMAND_BYTES:
                continue
            command, self._input = bytes(self._input), bytearray()
            self._command_number = command[0]
            self._checksum_failed = crc8(command[:-1]) != command[-1]
            if self._checksum_failed:  # and the rest is thrown away
                if burst[place + 1 :]:
                    self.violations.append("bytes behind a spoilt command")
                return
            self._last_message_s = self.clock.now()
            action = self._codes.get(command[1])
            if action is not None:  # codes it does not know count as done
                action(command[2:6])
            elif command[1] not in (40, 42):
                self.violations.append(f"code {command[1]}")

    # Light ------------------------------------------------------------------------------------

    def _set_pattern(self, parameters: bytes) -> None:
        self._source, green, red, blue = parameters
        self._colour = (red, green, blue)
        if not 0 <= self._source <= 8:
            self.violations.append(f"pattern {self._source}")
        if self._is_on:
            self._turn_on()

    def _turn_on(self) -> None:
        self._is_on = True
        drive = max(int(value / 255 * INTENSITY_MAX) for value in self._colour)
        self.clear()
        for led in pattern(self._source):
            self.set_led(led, round(drive * 255 / INTENSITY_MAX), tint_of(*self._colour))
        self.update()

    def _turn_off(self) -> None:
        if self._source <= 8:  # another source is another lamp: the matrix keeps its light
            self.clear()
            self.update()
        self._is_on = False

    # Watchdog ---------------------------------------------------------------------------------

    def _set_watchdog(self, parameters: bytes) -> None:
        requested = min(int.from_bytes(parameters, "big"), WATCHDOG_MAX_MS)
        self._watchdog_s = (requested or WATCHDOG_DEFAULT_MS) / 1000

    def _count_heartbeat(self) -> None:
        self.heartbeats += 1

    def _advance(self) -> None:
        limit = self._watchdog_s
        if limit is not None and self.clock.now() - self._last_message_s > limit:
            self._watchdog_s = None
            self._is_on = False
            self.clear()
            self.update()


def pattern(source: int) -> list[int]:
    """The LEDs of one of the firmware's patterns."""
    every = range(LED_COUNT)
    if source == 4:
        return list(LOW_NA)
    if source in (5, 6):
        return list(DOTS[source - 5])
    if source in (7, 8):
        return [led for led in every if _is_top(led) == (source == 7)]
    halves = {1: every[: LED_COUNT // 2], 2: every[LED_COUNT // 2 :]}
    return list(halves.get(source, every if source in (0, 3) else range(0)))


def _is_top(led: int) -> bool:
    """Whether an LED is in the upper half: its columns run down and up in turn."""
    start = 0
    for column, height in enumerate(COLUMN_HEIGHTS):
        if led < start + height:
            first_half = led - start < height // 2
            return first_half == (column % 2 == 0)
        start += height
    return False


def matrix_positions(spacing_mm: float = 4.0, height_mm: float = 80.0) -> list[Position]:
    """Places of the matrix's LEDs in a plane below the sample, in the order of their numbers."""
    places: list[Position] = []
    for column, height in enumerate(COLUMN_HEIGHTS):
        rows = [row - (height - 1) / 2 for row in range(height)]
        x = (column - (len(COLUMN_HEIGHTS) - 1) / 2) * spacing_mm
        ordered = rows if column % 2 == 0 else rows[::-1]
        places += [(x, row * spacing_mm, -height_mm) for row in ordered]
    return places


def crc8(message: bytes | bytearray) -> int:
    """CRC-8, bit by bit (polynomial 7, start 0)."""
    value = 0
    for byte in message:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
    return value
