"""Base of every simulated LED controller: LEDs, time, a wire that may fail, sequence engine."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence

from plsctl.acquire.clock import Clock
from plsctl.sim.faults import WireFaults
from plsctl.sim.firmware.sequence import Pattern, SequencePlan, SequenceRun, TriggerSettings

Position = tuple[float, float, float]
Lit = dict[int, float]
Tint = tuple[float, float, float]
"""Shares of red, green and blue in what an LED shines, the strongest 1."""
WHITE: Tint = (1.0, 1.0, 1.0)


class LedBoard:
    """An LED controller without a protocol: subclasses interpret the bytes.

    Parameters
    ----------
    positions_mm
        Place (x, y, z) of every LED relative to the sample.
    clock
        The array's clock.
    on_change
        Called with the time and the lit LEDs (number: brightness 0 to 1) whenever they change.
    on_trigger_output
        Called with the time when the trigger output is pulsed; must return at once.
    round_trip_s
        What a command and its reply take.
    update_s
        Time to shift a pattern into the LED drivers within a sequence.
    resets_on_open
        Whether the board restarts, and prints its boot text, when a port to it is opened.
    """

    def __init__(
        self,
        positions_mm: Sequence[Position],
        clock: Clock,
        *,
        on_change: Callable[[float, Lit], None] | None = None,
        on_trigger_output: Callable[[float], None] | None = None,
        round_trip_s: float = 0.0015,
        update_s: float = 0.0054,
        resets_on_open: bool = True,
    ) -> None:
        self.positions_mm = tuple(positions_mm)
        self.clock = clock
        self.on_change = on_change
        self.on_trigger_output = on_trigger_output
        self.round_trip_s = round_trip_s
        self.update_s = update_s
        self.resets_on_open = resets_on_open
        self.faults = WireFaults()
        self.unplugged = False
        """Whether the cable is pulled, for good."""
        self.plugged_in_at_s = -math.inf
        """Until when it is pulled."""
        self.violations: list[str] = []
        """Commands that a careful host never sends, because the real firmware would misbehave."""
        self._lock = threading.RLock()
        self._values = [0] * self.led_count  # what commands wrote
        self._shown = [0] * self.led_count  # what the LEDs show
        self.sequence_tint: Tint = WHITE  # of the patterns of a sequence
        self._tints = [WHITE] * self.led_count  # in which colour
        self._shown_tints = list(self._tints)
        self._run: SequenceRun | None = None
        self._input_level = False
        self._spoken = b""  # said without being asked
        self.shutter_is_open = True
        """Whether what is written is shown, of boards with such a switch."""
        self.power_on_level = 255
        """Brightness after a restart, of boards that keep one."""
        self.restart()

    # Seen from the microscope -----------------------------------------------------------------

    @property
    def led_count(self) -> int:
        """How many LEDs there are."""
        return len(self.positions_mm)

    @property
    def lit(self) -> Lit:
        """The LEDs that shine now, each with its brightness from 0 to 1."""
        with self._lock:
            self._advance()
            return {led: value / 255 for led, value in enumerate(self._shown) if value}

    @property
    def tints(self) -> dict[int, Tint]:
        """Colour of the LEDs that shine, where it is not white."""
        return {
            led: tint
            for led, tint in enumerate(self._shown_tints)
            if tint != WHITE and self._shown[led]
        }

    @property
    def vanished(self) -> bool:
        """Whether the cable is pulled: ports to it fail."""
        return self.unplugged or self.clock.now() < self.plugged_in_at_s

    @vanished.setter
    def vanished(self, pulled: bool) -> None:
        self.unplugged = pulled

    def pass_time(self) -> None:
        """Carry out everything due by now."""
        with self._lock:
            self._advance()

    @property
    def is_running(self) -> bool:
        """Whether a sequence runs."""
        return self._run is not None

    def trigger(self, level: bool) -> None:
        """The camera's exposure output rises or falls."""
        with self._lock:
            self._advance()
            self._input_level = level
            if self._run is not None:
                self._run.input_level = level
            self._advance()

    # Seen from the wire -----------------------------------------------------------------------

    @property
    def next_event(self) -> float | None:
        """Time of the board's next own action."""
        return self._run.next_event if self._run is not None else None

    def connect(self) -> bytes:
        """A host opens the port: what it finds waiting there."""
        with self._lock:
            if not self.resets_on_open:
                return b""
            self._run = None
            self._values = [0] * self.led_count
            self._show(self.clock.now())
            self.restart()
            return self.boot_text().encode("ascii")

    def feed(self, burst: bytes) -> bytes:
        """Bytes that arrive in one burst, and what the board says to them."""
        with self._lock:
            self._advance()
            if burst and (fault := self.faults.pulls_cable()):
                self.plugged_in_at_s = self.clock.now() + fault.seconds
            if burst and (fault := self.faults.restarts()):
                self._restart_unseen(fault.level)
            if not burst or self.vanished or self.faults.swallows_command(self.clock.now()):
                return self.poll()
            return self.poll() + self.faults.spoil(self.receive(burst).encode("latin-1"))

    def _restart_unseen(self, level: int) -> None:
        """Restart as behind a serial adapter, whose port stays open: nothing is said."""
        self._run = None
        self.clear()
        self.update()
        self.power_on_level = level
        self.restart()

    def poll(self) -> bytes:
        """The board's unrequested output: the end of a sequence."""
        with self._lock:
            self._advance()
            spoken, self._spoken = self._spoken, b""
            return spoken

    # For the languages ------------------------------------------------------------------------

    def restart(self) -> None:
        """Reset the firmware's own state to power-on."""

    def boot_text(self) -> str:
        """What the firmware prints when it starts."""
        return ""

    def receive(self, burst: bytes) -> str:
        """Act on a burst and return the reply."""
        raise NotImplementedError

    def sequence_ended(self, outcome: str) -> str:
        """The firmware's report when a sequence has ended by itself."""
        return outcome

    def timed(self, action: Callable[[], str]) -> str:
        """Carry out a command in the middle of its duration."""
        self.clock.sleep(self.round_trip_s / 2)
        reply = action()
        self.clock.sleep(self.round_trip_s / 2)
        return reply

    def set_led(self, led: int, value: int, tint: Tint = WHITE) -> None:
        """Write one LED's value; -1 is every LED, and nothing stops other wrong numbers."""
        if led == -1:
            self._values = [value] * self.led_count
            self._tints = [tint if value else WHITE] * self.led_count
        elif 0 <= led < self.led_count:
            self._values[led] = value
            self._tints[led] = tint if value else WHITE
        else:
            self.violations.append(f"LED {led} of {self.led_count}")

    def clear(self) -> None:
        """Write 0 to every LED."""
        self.set_led(-1, 0)

    def update(self) -> None:
        """Show what was written."""
        self._show(self.clock.now())

    def start(self, plan: SequencePlan, triggers: TriggerSettings) -> None:
        """Let a sequence run."""

        def show(time: float, pattern: Pattern) -> None:
            self.clear()
            for led, value in pattern:
                self.set_led(led, value, self.sequence_tint)
            self._show(time)

        self.clear()
        self.update()
        self._run = SequenceRun(plan, triggers, show, self._pulse, self.clock.now())
        self._run.input_level = self._input_level

    def abort(self) -> bool:
        """End a running sequence, all LEDs off; tells whether it stood waiting for the camera."""
        waited = self._run is not None and self._run.awaits_input
        self._run = None
        self.clear()
        self.update()
        return waited

    def _pulse(self, time: float) -> None:
        if self.on_trigger_output is not None:
            self.on_trigger_output(time)

    def _show(self, time: float) -> None:
        visible = self._values if self.shutter_is_open else [0] * self.led_count
        if self._shown == visible and self._shown_tints == self._tints:
            return
        self._shown, self._shown_tints = list(visible), list(self._tints)
        if self.on_change is not None:
            lit = {led: value / 255 for led, value in enumerate(self._shown) if value}
            self.on_change(time, lit)

    def _advance(self) -> None:
        run = self._run
        if run is None:
            return
        run.advance(self.clock.now())
        if run.outcome is not None and self._run is run:
            self._run = None
            self.clear()
            self._show(run.time)
            said = self.sequence_ended(run.outcome).encode("ascii")
            self._spoken += self.faults.spoil(said)


def tint_of(red: float, green: float, blue: float) -> Tint:
    """The colour of three drives, whatever their strength."""
    strongest = max(red, green, blue)
    return (red / strongest, green / strongest, blue / strongest) if strongest else WHITE


def ring_positions(count: int, spacing_mm: float = 4.0, height_mm: float = 80.0) -> list[Position]:
    """Places of LEDs on concentric rings in a plane below the sample, filled from the centre."""
    places: list[Position] = [(0.0, 0.0, -height_mm)]
    ring = 0
    while len(places) < count:
        ring += 1
        places += [
            (
                ring * spacing_mm * math.cos(math.tau * k / (6 * ring)),
                ring * spacing_mm * math.sin(math.tau * k / (6 * ring)),
                -height_mm,
            )
            for k in range(6 * ring)
        ]
    return places[:count]


def atoi(word: str) -> int:
    """C's `atoi`: the leading number, 0 where there is none."""
    found = re.match(r"\s*[+-]?\d+", word)
    return int(found.group()) if found else 0


def c_number(word: str) -> int:
    """C's `strtoul` with base 0, cut to 16 bits: `abc` is 0, `-1` is -1, `010` is 8."""
    found = re.match(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|\d+)", word)
    if not found:
        return 0
    digits = found.group(2)
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    value = int(digits, base) * (-1 if found.group(1) == "-" else 1)
    return (value + 0x8000) % 0x10000 - 0x8000
