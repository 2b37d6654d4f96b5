"""The language of a lab's own LED controller, written down in YAML and checked when it is read.

A command is text with placeholders: `{led}` a number, `{leds}` a list, `{level}` the brightness;
a format may follow (`{led:03d}`), a brace itself is written twice. A reply is a regular expression
that a whole line must match. Where it has a group of a placeholder's name, such as
`(?P<led>[0-9]+)`, what the controller echoes must be what was sent.
"""

from __future__ import annotations

import re
import string
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from plsctl.acquire.files.settings import Settings

COLOURS = frozenset({"r", "g", "b"})
"""Placeholders of the drive of red, green and blue."""

SAMPLES: dict[str, int | str] = {"led": 1, "leds": "1", "level": 1, "r": 1, "g": 1, "b": 1}


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_regular_expression)]


class Framing(Settings):
    """How commands and replies stand on the wire.

    Parameters
    ----------
    terminator, reply_terminator
        What ends a command, and a line of a reply.
    encoding
        How text becomes bytes.
    """

    terminator: str = Field(default="\n", min_length=1)
    reply_terminator: str = Field(default="\n", min_length=1)
    encoding: Literal["ascii", "latin-1", "utf-8"] = "ascii"


class Exchange(Settings):
    """A command without placeholders, and its reply.

    Parameters
    ----------
    send
        The command, without what ends it.
    reply
        What a whole line of the reply must match, as a regular expression.
    """

    allowed: ClassVar[frozenset[str]] = frozenset()
    needed: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[frozenset[str]] = frozenset()
    """Named groups that the reply must have."""
    echoes: ClassVar[frozenset[str]] = frozenset()
    """Named groups that the reply may have, besides those of its placeholders."""

    send: str = Field(min_length=1)
    reply: Pattern

    @field_validator("send")
    @classmethod
    def _placeholders(cls, text: str) -> str:
        try:
            found = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except ValueError:
            raise ValueError("its braces do not match; write a brace itself twice: '{{'") from None
        allowed = ", ".join(f"{{{name}}}" for name in SAMPLES if name in cls.allowed) or "none"
        for name in sorted(found - cls.allowed):
            raise ValueError(
                f"the placeholder {{{name}}} means nothing here (allowed: {allowed}); write a "
                "brace itself twice: '{{'"
            )
        for name in sorted(cls.needed - found):
            raise ValueError(f"the placeholder {{{name}}} is missing")
        try:
            text.format(**SAMPLES)
        except (ValueError, KeyError, IndexError) as error:
            raise ValueError(f"it cannot be filled in: {error}") from None
        return text

    @field_validator("reply")
    @classmethod
    def _named_groups(cls, pattern: str) -> str:
        found = set(re.compile(pattern).groupindex)
        for name in sorted(cls.groups - found):
            raise ValueError(f"the named group (?P<{name}>...) is missing")
        known_names = cls.groups | cls.allowed | cls.echoes
        for name in sorted(found - known_names):
            known = ", ".join(sorted(known_names)) or "none"
            raise ValueError(f"the named group '{name}' means nothing here (known: {known})")
        return pattern

    @property
    def placeholders(self) -> frozenset[str]:
        """The placeholders of the command."""
        parts = string.Formatter().parse(self.send)
        return frozenset(name for _, name, _, _ in parts if name is not None)


class Identify(Exchange):
    """The controller's identity: its reply must name `name`, `version` and `led_count`."""

    groups = frozenset({"name", "version", "led_count"})


class Single(Exchange):
    """Light one LED. `clears`: whether that puts out what was lit before.

    Parameters
    ----------
    clears
        Whether that puts out what was lit before.
    """

    allowed = frozenset({"led", "level"}) | COLOURS
    needed = frozenset({"led"})
    clears: bool = True


class Several(Exchange):
    """Light a list of LEDs, at most `max_leds` in one command; the reply may echo its `count`.

    Parameters
    ----------
    separator
        What stands between two numbers.
    max_leds
        Most LEDs of one command; null: any number.
    clears
        Whether that puts out what was lit before.
    """

    allowed = frozenset({"leds", "level"}) | COLOURS
    needed = frozenset({"leds"})
    echoes = frozenset({"count"})
    separator: str = Field(default=",", min_length=1)
    max_leds: int | None = Field(default=None, ge=1)
    clears: bool = True


class All(Exchange):
    """Light every LED."""

    allowed = frozenset({"level"}) | COLOURS


class Brightness(Exchange):
    """Set the brightness of what is lit from now on."""

    allowed = frozenset({"level"})
    needed = frozenset({"level"})


class ColourCommand(Exchange):
    """Set the colour of what is lit from now on."""

    allowed = COLOURS
    needed = COLOURS


class TemplateOptions(Settings):
    """Commands and replies of one controller: the `options` of the driver `template`.

    Parameters
    ----------
    framing
        Line ends and encoding.
    identify, dark
        Needed of every controller.
    open
        Commands that bring it into a known state, in their order: mode, colour, shutter. Sent when
        the port is opened, and again where its light is in doubt.
    single, several, all
        Ways to light LEDs; at least one of the first two.
    brightness
        A command of its own for it; or the others carry `{level}`.
    colour
        A command of its own for `{r}`, `{g}` and `{b}`; or all the others carry them. They are
        `full_drive` or 0, or carry the brightness where nothing else does.
    full_drive
        The `{level}` of full brightness.
    first_led
        What the controller calls the first LED: 0 or 1.
    error
        A line that matches this instead of the reply is a refusal.
    skip
        Lines that match this are no replies: echoes, debug output.
    """

    framing: Framing = Framing()
    identify: Identify
    dark: Exchange
    open: tuple[Exchange, ...] = ()
    single: Single | None = None
    several: Several | None = None
    all: All | None = None
    brightness: Brightness | None = None
    colour: ColourCommand | None = None
    full_drive: int = Field(default=255, ge=1, le=65535)
    first_led: int = Field(default=0, ge=0, le=1)
    error: Pattern | None = None
    skip: Pattern | None = None

    @property
    def exchanges(self) -> dict[str, Exchange]:
        """The commands there are, by their field."""
        fields = ("identify", "dark", "single", "several", "all", "brightness", "colour")
        found = {name: getattr(self, name) for name in fields}
        opening = {f"open.{place}": exchange for place, exchange in enumerate(self.open)}
        return {
            name: exchange for name, exchange in found.items() if exchange is not None
        } | opening

    @property
    def has_brightness(self) -> bool:
        """Whether the brightness can be set."""
        return self.has_level or self.has_colour

    @property
    def has_level(self) -> bool:
        """Whether the brightness is set apart from the colour."""
        return self.brightness is not None or "level" in self._lighting[0].placeholders

    @property
    def has_colour(self) -> bool:
        """Whether LEDs shine in red, green or blue."""
        return self.colour is not None or self._lighting[0].placeholders >= COLOURS

    @property
    def lights_several(self) -> bool:
        """Whether any LEDs can be lit together."""
        return self.several is not None or (self.single is not None and not self.single.clears)

    @property
    def _lighting(self) -> list[Exchange]:
        ways = (self.single, self.several, self.all)
        return [exchange for exchange in ways if exchange is not None]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.single is None and self.several is None:
            raise ValueError("a command that lights LEDs is missing: give 'single' or 'several'")
        carry = ["level" in exchange.placeholders for exchange in self._lighting]
        if any(carry) and self.brightness is not None:
            raise ValueError(
                "{level} stands in a command that lights LEDs and in 'brightness': one is too many"
            )
        if any(carry) and not all(carry):
            raise ValueError(
                "{level} stands in one command that lights LEDs and not in all of them: put it "
                "into each, or give a command 'brightness'"
            )
        self._check_colours()
        self._check_wire()
        return self

    def _check_colours(self) -> None:
        carried = [exchange.placeholders & COLOURS for exchange in self._lighting]
        if any(carried) and self.colour is not None:
            raise ValueError(
                "{r}, {g} and {b} stand in a command that lights LEDs and in 'colour': one is too "
                "many"
            )
        if any(carried) and not all(found == COLOURS for found in carried):
            raise ValueError(
                "{r}, {g} and {b} must all stand in every command that lights LEDs: put them into "
                "each, or give a command 'colour'"
            )

    def _check_wire(self) -> None:
        for name, exchange in self.exchanges.items():
            try:
                exchange.send.encode(self.framing.encoding)
            except UnicodeEncodeError:
                raise ValueError(
                    f"'{name}.send' has a character that is not {self.framing.encoding}: "
                    f"{exchange.send!r}"
                ) from None
            if self.framing.terminator in exchange.send:
                raise ValueError(
                    f"'{name}.send' contains the terminator, which is added by itself: "
                    f"{exchange.send!r}"
                )
