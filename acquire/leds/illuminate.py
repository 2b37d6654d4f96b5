"""Driver for LED arrays with the Illuminate firmware (versions 1 and 2, told apart on opening).

Text commands at 115200 baud, a name and numbers joined by points, ended by a newline. A reply is
text and then `-==-` on a line or at the end of one; version 2 ends a refusal with `ERROR[n]: text`
alone. Between the versions differ identity, refusals and sequences: `illuminate_dialects`.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field, field_validator

from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.files.openers import checked_by
from plsctl.acquire.files.settings import Settings
from plsctl.acquire.leds.array import (
    Capabilities,
    Colour,
    Identity,
    LedArraySettings,
    SequenceTiming,
    driver_options,
)
from plsctl.acquire.leds.base import SerialArray, check_colour, colour_drive
from plsctl.acquire.leds.illuminate_dialects import (
    DIALECTS,
    Dialect,
    Reply,
    ended,
    light_commands,
    parse_colours,
    parse_properties,
    parse_reply,
)
from plsctl.acquire.leds.serial_line import Garbled, LineFault, NoAnswer, shorten

log = logging.getLogger(__name__)

Drive = Annotated[int, Field(ge=0, le=255)]


class IlluminateOptions(Settings):
    """The `options` of the driver `illuminate`.

    Parameters
    ----------
    colour
        Drive of red, green and blue on boards with three colours; the firmware scales it so that
        the strongest one is 255. Boards with one colour have none to set.
    """

    colour: tuple[Drive, Drive, Drive] = (255, 255, 255)

    @field_validator("colour")
    @classmethod
    def _shines(cls, colour: tuple[int, int, int]) -> tuple[int, int, int]:
        if not any(colour):
            raise ValueError("one of the colours must be above 0")
        return colour


class CommandRefused(HardwareError):
    """The firmware understood a command and does not do it."""


class IlluminateArray(SerialArray):
    """An opened array. Made by `open_illuminate`."""

    capabilities = Capabilities(
        single=True, several=True, brightness=True, sequence=True, trigger=True
    )

    def __init__(self, settings: LedArraySettings, options: IlluminateOptions) -> None:
        self._options = options
        self._dialect: Dialect | None = None
        self._level: int | None = None  # brightness the array is known to have
        # Whether `l` replaces what was lit before; None where that is not known.
        self._clears_itself: bool | None = None
        self._colour: Colour | None = None  # colour the array is known to have
        self._sequence: tuple[int, int] | None = None  # patterns loaded, their brightness
        self._sequence_colour: Colour = "white"
        self._running = False
        super().__init__(settings)

    # What the rest of the package calls -------------------------------------------------------

    def light(self, leds: Sequence[int], brightness: float = 1.0, colour: Colour = "white") -> None:
        """Light exactly these LEDs (see `LedArray.light`)."""
        check_colour(self.capabilities, colour)
        chosen, level = self.checked_pattern(leds, brightness)
        if not chosen or level == 0:
            self.off()
        else:
            self._perform(lambda: self._light(chosen, level, colour))

    def off(self) -> None:
        """All LEDs off; a running sequence is ended."""
        self._perform(lambda: self._ask("x"))

    def load_sequence(
        self,
        patterns: Sequence[Sequence[int]],
        brightness: float = 1.0,
        colour: Colour = "white",
    ) -> None:
        """Store patterns in the array (see `LedArray.load_sequence`)."""
        check_colour(self.capabilities, colour)
        if not patterns:
            raise UserError("a sequence needs at least one pattern.")
        both = [self.checked_pattern(leds, brightness) for leds in patterns]
        checked, level = [chosen for chosen, _ in both], both[0][1]
        lines = self._language.sequence(checked, level, self.identity.led_count)
        self._sequence = None
        try:
            self._perform(lambda: self._ask_all(lines))
        except CommandRefused as refusal:
            # A controller that has restarted meanwhile has forgotten the sequence's length.
            log.warning("%s; loading the sequence once more", refusal.message)
            try:
                self._perform(lambda: self._ask_all(lines))
            except CommandRefused:
                raise refusal from None
        self._sequence, self._sequence_colour = (len(checked), level), colour

    def start_sequence(self, timing: SequenceTiming | None = None) -> None:
        """Start the stored sequence (see `LedArray.start_sequence`)."""
        if self._sequence is None:
            raise UserError("no sequence is loaded.", hint="Call `load_sequence` first.")
        timing = timing or SequenceTiming()
        if timing.delay_ms != 0 and not 5 <= timing.delay_ms <= 2000:
            raise UserError(
                f"a delay of {timing.delay_ms} ms is not possible.",
                hint="Illuminate takes 0 (the camera steps) or 5 to 2000 ms.",
            )
        self._perform(lambda: self._start(timing))

    def finish_sequence(self, timeout_s: float) -> None:
        """Wait for the array's report that the sequence has ended."""
        if not self._running:
            raise UserError("no sequence is running.", hint="Call `start_sequence` first.")
        with self._lock:
            try:
                reply = parse_reply("rseq", self._line.receive("rseq", ended, timeout_s))
            except LineFault as fault:
                self.stop_sequence()
                raise self._line.unanswered(fault) from fault
            self._running = False
            if reply.refusal is not None:
                self.off()
                raise HardwareError(
                    f"{self._line} gave the sequence up: {reply.refusal}.",
                    hint="Check that the camera's exposure output reaches the array's trigger "
                    "input, its polarity, and that exposures are longer than the pulse.",
                )

    def stop_sequence(self) -> None:
        """Stop a running sequence; all LEDs off."""
        self.off()

    # Commands ---------------------------------------------------------------------------------

    def _shine_in(self, colour: Colour) -> None:
        """Set the colour of what is lit from now on, on boards that have three."""
        if not self.capabilities.colour or colour == self._colour:
            return
        red, green, blue = colour_drive(self._options.colour, colour)
        self._colour = None  # a lost reply does not tell whether it was done
        self._ask(f"sc.{red}.{green}.{blue}", r"CO\.\d+\.\d+\.\d+")
        self._colour = colour

    def _light(self, leds: tuple[int, ...], level: int, colour: Colour) -> None:
        self._shine_in(colour)
        if level != self._level:
            self._ask(f"sb.{level}", f"SB.{level}")
            self._level = level
        lists = light_commands(leds)
        if len(leds) == self.identity.led_count:
            # Fill: the list of all LEDs would be a long line.
            self._ask("ff", self._language.filled)
        elif len(lists) == 1:
            self._replace_when_lighting(True)
            self._ask(lists[0])
        else:
            self._ask("x")
            self._replace_when_lighting(False)
            for command in lists:
                self._ask(command)
            self._replace_when_lighting(True)

    def _replace_when_lighting(self, wanted: bool) -> None:
        if wanted != self._clears_itself:
            self._clears_itself = None  # a lost reply does not tell whether it was done
            self._ask(f"ac.{int(wanted)}", f"AC.{int(wanted)}")
            self._clears_itself = wanted

    def _start(self, timing: SequenceTiming) -> None:
        if self._sequence is None:
            raise HardwareError(
                f"{self._line} had to be opened again and has lost its sequence.",
                hint="Load the sequence again.",
            )
        level = self._language.sequence_level(self._sequence[1])
        self._ask(f"sb.{level}", f"SB.{level}")
        self._level = level
        self._shine_in(self._sequence_colour)
        set_up, run = self._language.start(timing)
        self._ask_all(set_up)
        # The array is silent from here until the sequence ends: no reply is waited for.
        self._line.send(run)
        self._running = True

    def _ask_all(self, lines: Sequence[tuple[str, str]]) -> None:
        for command, expected in lines:
            self._ask(command, expected)

    def _ask(self, command: str, expected: str | None = None) -> None:
        """Send a command; its reply must match the pattern `expected` and must not be a refusal.

        Without a pattern the reply carries no text.
        """
        raw = self._line.exchange(command, ended)
        reply = parse_reply(command, raw)
        if reply.refusal is not None:
            if reply.is_noise:
                raise Garbled(command, raw)
            raise self._refused(command, reply)
        if not re.fullmatch(self._language.silence if expected is None else expected, reply.text):
            raise Garbled(command, raw)

    def _set_up(self) -> None:
        """What another program may have left otherwise: debug output, colour, shutter, triggers."""
        for command, expected in self._language.set_up(self._options.colour):
            self._offer(command, expected)
        self._replace_when_lighting(True)

    def _offer(self, command: str, expected: str) -> None:
        """Send a command that some boards or versions lack: these have nothing to set."""
        for _ in range(2):  # a command that the line garbled is refused as an unknown one is
            raw = self._line.exchange(command, ended)
            reply = parse_reply(command, raw)
            if not reply.is_noise:
                break
        if reply.refusal is None and not re.fullmatch(expected, reply.text):
            raise Garbled(command, raw)

    @property
    def _language(self) -> Dialect:
        if self._dialect is None:
            raise PlsctlError("the array was asked before it was greeted.")
        return self._dialect

    def _refused(self, command: str, reply: Reply) -> CommandRefused:
        return CommandRefused(
            f"{self._line} refused `{command}`: {reply.refusal}.",
            hint="Check that the firmware is one this driver knows (Illuminate 1.x or 2.x).",
        )

    # Getting in step --------------------------------------------------------------------------

    def _forget(self) -> None:
        self._level = self._clears_itself = self._colour = None

    def _perform(self, operation: Callable[[], None]) -> None:
        def step() -> None:
            if self._running:
                self._interrupt()
            operation()

        super()._perform(step)

    def _wake(self) -> None:
        """A bare newline completes a half-sent command and ends a sequence of an earlier host."""
        self._line.send("")
        self._line.drain()
        self._running = False

    def _interrupt(self) -> None:
        """End a running sequence and wait for its report.

        A byte that comes while the sequence is just being started is thrown away, so the newline
        may have to be sent again. One that has ended by itself meanwhile says nothing more.
        """
        for _ in range(1 + self._settings.retries):
            self._line.send("")
            try:
                self._line.receive("rseq", ended)
                break
            except NoAnswer:
                continue
        self._line.drain()
        self._running = False

    def _recover(self) -> None:
        """After a fault: only the version number proves that replies match commands again."""
        self._wake()
        self._ask(self._language.ask_version, re.escape(self.identity.version))

    def _greet(self) -> Identity:
        """Go dark, read the identity, set the modes that this driver relies on."""
        self._forget()
        self._sequence, self._running = None, False
        self._wake_up()
        for _ in range(self._settings.retries):
            try:
                return self._introduce()
            except (NoAnswer, Garbled) as fault:
                log.warning("%s: %s; asking again", self._line, fault)
                self._wake()
        return self._introduce()

    def _introduce(self) -> Identity:
        self._dialect, version = self._find_dialect()
        # A board may have been left in the mode for people, whose replies are sentences.
        self._exchange_leniently("machine")
        self._set_up()
        name, led_count = self._properties(self._dialect)
        return Identity("illuminate", name, version, led_count)

    def _wake_up(self) -> None:
        """Switch the LEDs off."""
        for left in reversed(range(self._tries)):
            try:
                self._wake()
                self._exchange_leniently("x")
                self._line.drain()
                return
            except (NoAnswer, Garbled):
                if not left:
                    raise

    def _exchange_leniently(self, command: str) -> Reply:
        """Boot text may stand before the reply."""
        return parse_reply(command, self._line.exchange(command, ended))

    def _find_dialect(self) -> tuple[Dialect, str]:
        last = b""
        for dialect in DIALECTS:
            last = self._line.exchange(dialect.ask_version, ended)
            reply = parse_reply(dialect.ask_version, last)
            if reply.refusal is None and re.fullmatch(dialect.version, reply.text):
                return dialect, reply.text
        raise HardwareError(
            f"what is connected at {self._line.port} does not answer as Illuminate firmware 1.x "
            f"or 2.x: {shorten(last)}.",
            hint="Check `port` and `driver` of the hardware file.",
        )

    def _properties(self, dialect: Dialect) -> tuple[str, int]:
        raw = self._line.exchange(dialect.ask_properties, ended)
        reply = parse_reply(dialect.ask_properties, raw)
        found = None if reply.refusal else parse_properties(reply.text)
        if found is None:
            raise Garbled(dialect.ask_properties, raw)
        has_colours = parse_colours(reply.text) == len("rgb")
        self.capabilities = dataclasses.replace(self.capabilities, colour=has_colours)
        return found


def check_illuminate(settings: LedArraySettings) -> Capabilities:
    """What the array may be able to do; `UserError` for an option that is wrong.

    Whether a board has three colours it says itself, once it is opened.
    """
    driver_options(settings, IlluminateOptions)
    return dataclasses.replace(IlluminateArray.capabilities, colour=True)


@checked_by(check_illuminate)
def open_illuminate(settings: LedArraySettings) -> IlluminateArray:
    """Open an array with Illuminate firmware; its LEDs are off afterwards.

    Raises
    ------
    UserError
        The port cannot be opened, or an option is unknown.
    HardwareError
        Nothing answers, or something other than Illuminate 1.x or 2.x.
    """
    return IlluminateArray(settings, driver_options(settings, IlluminateOptions))
