"""The Illuminate 2.32 firmware as a state machine: bytes in, bytes out, LEDs lit.

It answers as the controller does, its quirks included: indices are not checked, `l.abc` is LED 0
and `l.-1` every LED, a line must come in one burst, refusals lack the end mark, any byte ends a
running sequence. Time is the injected clock's. Facts: the firmware's public sources.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from plsctl.sim.firmware.board import WHITE, LedBoard, Tint, atoi, c_number, tint_of
from plsctl.sim.firmware.illuminate_pages import na_xy, positions_page, properties_page, values_page
from plsctl.sim.firmware.sequence import TIMED_OUT, TOO_SHORT, SequencePlan, TriggerSettings

ERRORS = {
    1: "Command not implemented.",
    2: "Wrong number of arguments.",
    8: "Invalid argument.",
    9: "Command not supported by this device.",
    10: "Invalid argument range.",
    13: "Sequence period was shorter than LED update rate.",
    14: "Trigger timeout.",
    15: "Command interrupted.",
    16: "Invalid command.",
    18: "Command too long.",
    19: "Sequence is full.",
}
# fmt: off
NOT_EMULATED = frozenset([
    "license", "store", "recall", "autoload", "ssc", "cos", "scf", "scb", "scd", "sseq",
    "ch", "spo", "delay", "mc", "mce", "disco", "demo", "water", "sbr", "sgs", "pwrs",
    "pwrv", "ha", "dq", "cdf", "cdpc", "dpc", "an", "rdpc", "trt", "trinputmode",
    "troutputmode",
])
# fmt: on
"""Real commands whose effect plays no part here."""
ARGUMENTS_MAX = 300
DELAY_MIN_MS, DELAY_MAX_MS = 5, 2000
END = "-==-\n"


class Refusal(Exception):
    """A command ends with an error number, perhaps after some text."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.text = text


class IlluminateFirmware(LedBoard):
    """An array under Illuminate 2.32 (see `LedBoard` for its parameters).

    An LED's brightness is that of its strongest colour; after power-on a board of three colours
    drives each of them with a third.
    """

    version = "2.32"
    device_name = "plsctl-sim"
    colour_channels = 1

    def restart(self) -> None:
        """Power-on state."""
        self._line = bytearray()
        self._is_broken = False
        self._hangs = False
        self._speaks_short = True
        self._clears_first = True
        self._brightness = self.power_on_level
        self._colour = [255 // self.colour_channels] * self.colour_channels
        self.shutter_is_open = True
        self.input_polarity = self.output_polarity = 1
        self._debug = 0
        self._na, self._inner_na = 0.25, 0.0
        self._capacity = 0
        self._patterns: list[tuple[int, ...]] = []
        self._triggers = TriggerSettings()
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "about": lambda _: self.boot_text(),
            "version": lambda _: f"{self.version}\n",
            "reset": self._reset,
            "machine": lambda _: self._speak(True),
            "human": lambda _: self._speak(False),
            "ac": self._auto_clear,
            "na": self._set_na,
            "nai": self._set_inner_na,
            "sb": self._set_brightness,
            "sc": self._set_colour,
            "gs": self._set_shutter,
            "debug": self._set_debug,
            "trinputpolarity": lambda words: self._set_polarity("input", words),
            "troutputpolarity": lambda words: self._set_polarity("output", words),
            "l": self._light,
            "x": lambda _: self._draw(lambda na: False),
            "ff": self._fill,
            "bf": lambda _: self._draw(lambda na: self._inner_na <= na <= self._na),
            "df": lambda _: self._draw(lambda na: self._na <= na <= 1),
            "ssl": self._set_sequence_length,
            "ssv": self._append_pattern,
            "pseq": lambda _: "".join(f"{self._listed(p)}\n" for p in self._patterns),
            "xseq": lambda _: self._draw(lambda na: False),
            "rseq": self._run_sequence,
            "tr": self._pulse_once,
            "trs": self._set_triggers,
            "trinputtimeout": self._set_input_timeout,
            "pprops": lambda _: properties_page(
                self.device_name, self.led_count, self.version, self.colour_channels
            ),
            "pledpos": lambda _: positions_page("cartesian", self.positions_mm, 2),
            "pledposna": lambda _: positions_page("na", [na_xy(p) for p in self.positions_mm], 3),
            "pvals": lambda _: values_page(self._values),
            "sn": lambda _: self._reply("SN.00001", "Serial number is: 00001"),
            "pn": lambda _: self._reply("PN.00043", "Part number is: 00043"),
        }

    def boot_text(self) -> str:
        """The page that is also `about`."""
        rule = "=" * 100 + "\n"
        return (
            f"{rule}  {self.device_name} LED Array Controller \n"
            f"  Illuminate r{self.version} | Serial Number: 0001 | Part Number: 0043 | "
            f"Teensy MAC address: 04:e9:e5:00:00:01\n  For help, type ? \n{rule}"
        )

    # Wire -------------------------------------------------------------------------------------

    def receive(self, burst: bytes) -> str:
        """Act on a burst: a whole line is a command, half a line is soon broken."""
        said = ""
        if self.is_running:
            waited = self.abort()
            if waited:  # the loop that waits for the trigger empties the buffer
                return (
                    "WARNING (LedArray::wait_for_trigger_state): Cancelling on pin 0 due to "
                    "serial interrupt \n" + _refusal(14)
                )
            said, burst = _refusal(15), burst[1:]
        for piece in re.findall(rb"[^\r\n]*[\r\n]|[^\r\n]+", burst):
            self._line += piece.rstrip(b"\r\n")
            if piece[-1:] not in b"\r\n":
                # The read loop does not wait for bytes: it takes 0xFF until its buffer is full.
                self._is_broken = True
                self.violations.append("a line that came in pieces")
            else:
                said += self.timed(self._command)
            if self.is_running:  # it empties the buffer before it begins
                break
        return said

    def _command(self) -> str:
        line, self._line = bytes(self._line), bytearray()
        broken, self._is_broken = self._is_broken, False
        if self._hangs or not line:
            return ""
        words = [word for word in line.decode("latin-1").split(".") if word]
        if broken or len(words) > ARGUMENTS_MAX:
            return _refusal(18)
        if not words:
            return END
        try:
            return self._commands.get(words[0], self._unknown)(words) + self._end
        except Refusal as refusal:
            return refusal.text + _refusal(refusal.code)

    @property
    def _end(self) -> str:
        return "" if self.is_running or self._hangs else END

    def sequence_ended(self, outcome: str) -> str:
        """The late reply to `rseq`."""
        if outcome == TOO_SHORT:
            return "Error - delay too short!\n" + _refusal(13)
        if outcome == TIMED_OUT:
            seconds = self._triggers.input_timeout_s
            return (
                "WARNING (LedArray::wait_for_trigger_state): Exceeding max delay for trigger "
                f"input 0 ({seconds:.2f} sec.) \n" + _refusal(14)
            )
        return "\n" + END

    def _unknown(self, words: list[str]) -> str:
        raise Refusal(1 if words[0] in NOT_EMULATED else 16)

    def _reply(self, short: str, long: str) -> str:
        return f"{short if self._speaks_short else long}\n"

    # Light ------------------------------------------------------------------------------------

    def _light(self, words: list[str]) -> str:
        if self._clears_first:
            self.clear()
            self.update()
        if len(words) == 1:  # LED 0 is written and not shown
            self.set_led(0, self._value, self._tint)
            return ""
        for word in words[1:]:
            self.set_led(c_number(word), self._value, self._tint)
        self.update()
        return ""

    def _draw(self, inside: Callable[[float], bool]) -> str:
        self.clear()
        for led in range(self.led_count):
            if inside(math.hypot(*self._na_xy(led))):
                self.set_led(led, self._value, self._tint)
        self.update()
        return ""

    def _fill(self, words: list[str]) -> str:
        self._draw(lambda na: True)
        return "Filled Array\n" if self._debug else ""

    @property
    def _value(self) -> int:
        """What is written to the strongest colour of an LED."""
        if self.colour_channels == 1:
            return self._brightness
        return math.ceil(max(self._colour) / 255 * self._brightness)

    @property
    def _tint(self) -> Tint:
        return tint_of(*self._colour) if self.colour_channels == 3 else WHITE

    def _set_colour(self, words: list[str]) -> str:
        if self.colour_channels == 1:
            raise Refusal(9)
        if len(words) not in (1, 1 + self.colour_channels):
            raise Refusal(8)
        if len(words) > 1:
            drives = [c_number(word) % 256 for word in words[1:]]
            self._colour = [round(255 * drive / max(1, *drives)) for drive in drives]
        listed = ".".join(str(drive) for drive in self._colour)
        return self._reply(f"CO.{listed}", f"Current color balance values are {listed}")

    def _set_shutter(self, words: list[str]) -> str:
        if len(words) > 1:
            self.shutter_is_open = atoi(words[1]) != 0
            self.update()
        is_open = self.shutter_is_open
        state = "open" if is_open else "closed"
        return self._reply(f"GS.{int(is_open)}", f"Current global shutter state: {state}")

    def _set_debug(self, words: list[str]) -> str:
        if len(words) > 2:
            raise Refusal(2)
        self._debug = atoi(words[1]) if len(words) > 1 else self._debug
        return self._reply(f"DBG.{self._debug}", f"Debug level: {self._debug}")

    def _set_polarity(self, which: str, words: list[str]) -> str:
        if len(words) > 3:
            raise Refusal(2)
        name = f"{which}_polarity"
        if len(words) > 1:
            setattr(self, name, int(atoi(words[-1]) != 0))
        now = getattr(self, name)
        return self._reply(
            f"TR{which.upper()}POLARITY.{now}", f"Current trigger {which} polarity is {now}."
        )

    def trigger(self, level: bool) -> None:
        """The camera's exposure output rises or falls; how it counts depends on the polarity."""
        super().trigger(level if self.input_polarity else not level)

    def _set_brightness(self, words: list[str]) -> str:
        named = {"max": 255, "min": 1, "half": 127, "quarter": 63}
        if len(words) > 1:
            self._brightness = named.get(words[1], c_number(words[1]) % 256)
        value = self._brightness
        return self._reply(f"SB.{value}", f"Current brightness value is {value}.")

    def _auto_clear(self, words: list[str]) -> str:
        self._clears_first = c_number(words[1]) > 0 if len(words) > 1 else not self._clears_first
        flag = int(self._clears_first)
        return self._reply(f"AC.{flag}", f"Auto clear bit is now {flag}")

    def _set_na(self, words: list[str]) -> str:
        self._na = _na(words, self._na)
        return self._reply(f"NA.{self._na * 100:02.0f}", f"Current NA is {self._na:.2f}")

    def _set_inner_na(self, words: list[str]) -> str:
        self._inner_na = _na(words, self._inner_na)
        na = self._inner_na
        return self._reply(f"NAI.{na * 100:02.0f}", f"Current Inner NA is {na:.2f}")

    # Sequences and triggers -------------------------------------------------------------------

    def _set_sequence_length(self, words: list[str]) -> str:
        if len(words) != 2:
            raise Refusal(2)
        self._capacity, self._patterns = c_number(words[1]), []
        return self._reply(
            f"SEQ_LEN.{self._capacity}", f"Sequence length is now: {self._capacity}."
        )

    def _append_pattern(self, words: list[str]) -> str:
        if len(words) < 2:
            raise Refusal(2)
        numbers = [c_number(word) for word in words[1:]]
        if words[1] == "all":
            leds = tuple(range(self.led_count))
        elif words[1] == "none":
            leds = ()
        elif words[1] == "range":
            leds = tuple(range(*numbers[1:3]))
        elif words[1] == "na_range":
            low, high = numbers[1] / 100, numbers[2] / 100
            leds = tuple(
                led for led in range(self.led_count) if low < math.hypot(*self._na_xy(led)) < high
            )
        else:
            leds = tuple(numbers)
        if len(self._patterns) >= self._capacity:
            raise Refusal(19)
        self._patterns.append(leds)
        return self._listed(leds) + "\n"

    def _listed(self, leds: tuple[int, ...]) -> str:
        return ".".join(str(led) for led in leds)

    def _run_sequence(self, words: list[str]) -> str:
        if len(words) > 3:
            raise Refusal(8)
        delay_ms = c_number(words[1]) if len(words) > 1 else 500
        repeats = c_number(words[2]) if len(words) > 2 else 1
        if 0 < delay_ms < DELAY_MIN_MS:
            bound = f"shorter than MIN_SEQUENCE_DELAY ({DELAY_MIN_MS}ms)"
            raise Refusal(13, f"ERROR: Sequance delay ({delay_ms}ms) was {bound}.\n")
        if delay_ms > DELAY_MAX_MS:
            bound = f"greater than MAX_SEQUENCE_DELAY ({DELAY_MAX_MS}ms)"
            raise Refusal(13, f"ERROR: Sequance delay ({delay_ms}ms) was {bound}.\n")
        self.sequence_tint = self._tint
        patterns = [[(led, self._value) for led in leds] for leds in self._patterns]
        self.start(SequencePlan(patterns, delay_ms / 1000, repeats, self.update_s), self._triggers)
        return ""

    def _set_triggers(self, words: list[str]) -> str:
        if len(words) == 5:  # reads an argument that is not there
            self.violations.append("trs with four arguments")
            self._hangs = True
            return ""
        if len(words) != 6:
            raise Refusal(2)
        index, input_mode, output_mode, width_us, delay_us = (atoi(word) for word in words[1:])
        if index != 0:
            raise Refusal(8)
        timeout_s = self._triggers.input_timeout_s
        self._triggers = TriggerSettings(
            input_mode, output_mode, width_us / 1e6, delay_us / 1e6, timeout_s
        )
        return ""

    def _set_input_timeout(self, words: list[str]) -> str:
        if len(words) > 1 and c_number(words[1]) > 0:
            self._triggers.input_timeout_s = float(c_number(words[1]))
        seconds = self._triggers.input_timeout_s
        return self._reply(
            f"TRINPUTTIMEOUT.{seconds:f}",
            f"Current trigger input timeout value is {seconds:f} seconds.",
        )

    def _pulse_once(self, words: list[str]) -> str:
        if len(words) != 2:
            raise Refusal(2)
        if self.on_trigger_output is not None:
            self.on_trigger_output(self.clock.now())
        return ""

    # What it tells about itself ---------------------------------------------------------------

    def _reset(self, _: list[str]) -> str:
        self.clear()
        self.update()
        said = self._reply("RESET", "Resetting LED Array...")
        self.restart()
        return said

    def _speak(self, short: bool) -> str:
        self._speaks_short = short
        return f"Command output set to {'machine' if short else 'human'}-readable\n"

    def _na_xy(self, led: int) -> tuple[float, float]:
        return na_xy(self.positions_mm[led])


def _refusal(code: int) -> str:
    return f"ERROR[{code}]: {ERRORS[code]}\n"


def _na(words: list[str], present: float) -> float:
    if len(words) == 1:
        return present
    na = c_number(words[1]) / (10 if len(words[1]) == 1 else 100)
    if not 0 < na <= 1:
        raise Refusal(10)
    return na
