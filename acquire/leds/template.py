"""Driver for a lab's own LED controller, whose commands and replies the hardware file describes.

One line out, one line back. The description is `template_settings.TemplateOptions`; an example that
can be adapted is `hardware_configs/arduino_43_leds.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.files.openers import checked_by
from plsctl.acquire.leds.array import Capabilities, Identity, LedArraySettings, driver_options
from plsctl.acquire.leds.base import PlainArray, colour_drive
from plsctl.acquire.leds.serial_line import Garbled, Refused, shorten
from plsctl.acquire.leds.template_settings import Exchange, Several, Single, TemplateOptions

WAKE_QUIET_S = 0.05
"""After this silence a sketch has finished its answer to an empty line."""


class TemplateArray(PlainArray):
    """An opened array. Made by `open_template`."""

    def __init__(self, settings: LedArraySettings, options: TemplateOptions) -> None:
        self._options = options
        self._known_colour: tuple[int, int, int] | None = None
        super().__init__(settings, _capabilities(options), options.full_drive)

    # The wire ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        """The terminator alone ends a half-sent command; what is answered to it is dropped."""
        self._line.write(self._options.framing.terminator.encode(self._options.framing.encoding))
        self._line.drain(WAKE_QUIET_S)

    def _ask(self, exchange: Exchange, **values: int | str) -> re.Match[str]:
        """Send a command; the first line that is none to skip must be its reply."""
        framing = self._options.framing
        command = exchange.send.format(**values)
        self._line.write((command + framing.terminator).encode(framing.encoding))
        raw = self._line.receive(command, lambda got: bool(self._replies(got)))
        line = self._replies(raw)[0]
        found = re.fullmatch(exchange.reply, line)
        if found is None and self._options.error and re.fullmatch(self._options.error, line):
            raise Refused(command, line)
        if found is None or not _echoes(found, values):
            raise Garbled(command, raw)
        return found

    def _replies(self, raw: bytes) -> list[str]:
        """The complete lines that are not to be skipped."""
        framing = self._options.framing
        text = raw.decode(framing.encoding, errors="replace")
        lines = [line.strip("\r\n") for line in text.split(framing.reply_terminator)[:-1]]
        skip = self._options.skip
        return [line for line in lines if not (skip and re.fullmatch(skip, line))]

    # The array --------------------------------------------------------------------------------

    def _introduce(self) -> Identity:
        options = self._options
        found = self._ask(options.identify)
        led_count = found["led_count"]
        if not led_count.isdecimal() or int(led_count) == 0:
            raise HardwareError(
                f"{self._line} says that it has '{led_count}' LEDs.",
                field="led_array.options.identify.reply",
                hint="Let the group led_count match the number of LEDs in the reply "
                f"{shorten(found.string.encode())}.",
            )
        return Identity("template", found["name"], found["version"], int(led_count))

    def _prepare(self) -> None:
        self._dark()
        for exchange in self._options.open:
            self._ask(exchange)

    def _dark(self) -> None:
        self._ask(self._options.dark)

    def _check(self, leds: tuple[int, ...]) -> None:
        if self._all_at_once(leds) or len(leds) == 1:
            return
        if self._command_for(len(leds)) is None:
            several = self._options.several
            limit = "one LED" if several is None else f"{several.max_leds} LEDs"
            raise UserError(
                f"this array lights {limit} at a time, and {len(leds)} were asked for.",
                field="led_array.options",
                hint="Give its firmware a command that lights LEDs without putting out others "
                "(`clears: false`), or one for longer lists.",
            )

    def _light(self, leds: tuple[int, ...], level: int) -> None:
        options = self._options
        if options.brightness is not None and level != self._known_level:
            self._ask(options.brightness, level=level)
            self._known_level = level
        red, green, blue = self._drives(level)
        colours = {"r": red, "g": green, "b": blue}
        if options.colour is not None and self._known_colour != (red, green, blue):
            self._ask(options.colour, **colours)
            self._known_colour = (red, green, blue)
        if options.all is not None and self._all_at_once(leds):
            self._ask(options.all, level=level, **colours)
            return
        command = self._command_for(len(leds))
        if command is None:
            raise UserError(f"this array cannot light {len(leds)} LEDs together.")
        if not command.clears:
            self._ask(options.dark)
        if command is options.several:
            size = command.max_leds or len(leds)
            for start in range(0, len(leds), size):
                part = leds[start : start + size]
                listed = self._listed(part)
                self._ask(command, leds=listed, count=len(part), level=level, **colours)
        else:
            for led in leds:
                self._ask(command, led=led + options.first_led, level=level, **colours)

    def _drives(self, level: int) -> tuple[int, int, int]:
        """What {r}, {g} and {b} are; they carry the brightness where nothing else does."""
        full = self._options.full_drive if self._options.has_level else level
        red, green, blue = (round(drive) for drive in colour_drive((full,) * 3, self._colour))
        return red, green, blue

    def _forget(self) -> None:
        super()._forget()
        self._known_colour = None

    def _all_at_once(self, leds: tuple[int, ...]) -> bool:
        return self._options.all is not None and len(leds) == self.identity.led_count

    def _command_for(self, count: int) -> Single | Several | None:
        """The command that lights so many LEDs, in as many lines as it takes."""
        single, several = self._options.single, self._options.several
        if single is not None and count == 1:
            return single
        if several is not None and (
            not several.clears or several.max_leds is None or count <= several.max_leds
        ):
            return several
        return single if single is not None and not single.clears else None

    def _listed(self, leds: Sequence[int]) -> str:
        several = self._options.several
        separator = "," if several is None else several.separator
        return separator.join(str(led + self._options.first_led) for led in leds)


def _echoes(found: re.Match[str], values: dict[str, int | str]) -> bool:
    """Whether the reply echoes what was sent."""
    for name, text in found.groupdict().items():
        if name in values and text is not None and not _same(text, str(values[name])):
            return False
    return True


def _same(text: str, sent: str) -> bool:
    try:
        return float(text) == float(sent)
    except ValueError:
        return text == sent


def _capabilities(options: TemplateOptions) -> Capabilities:
    return Capabilities(
        single=True,
        several=options.lights_several,
        brightness=options.has_brightness,
        colour=options.has_colour,
    )


def check_template(settings: LedArraySettings) -> Capabilities:
    """What an array will be able to do by its description; `UserError` for a mistake in it."""
    return _capabilities(driver_options(settings, TemplateOptions))


@checked_by(check_template)
def open_template(settings: LedArraySettings) -> TemplateArray:
    """Open an array whose language its options describe; its LEDs are off afterwards.

    Raises
    ------
    UserError
        The description has a mistake (file, line and field are named), or the port cannot be
        opened.
    HardwareError
        Nothing answers, or not as described.
    """
    return TemplateArray(settings, driver_options(settings, TemplateOptions))
