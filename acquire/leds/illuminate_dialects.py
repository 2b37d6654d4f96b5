"""The commands and replies of Illuminate 1.x and 2.x, and where they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from plsctl.acquire.leds.array import SequenceTiming
from plsctl.acquire.leds.serial_line import Garbled

END = re.compile(rb"-==-\r?\n\Z")
# Version 2 ends a refusal so; un-numbered `ERROR: ...` lines only come before it.
NUMBERED_END = re.compile(rb"(?:\A|\n)ERROR\[\d+\]: [^\n]*\n\Z")
NUMBERED = re.compile(r"ERROR\[(\d+)\]")
# Version 1 says `ERROR (function): ...` or that a command is not implemented, then `-==-`.
UNNUMBERED = re.compile(r"^ERROR|is not implemented yet", re.MULTILINE)
ANY = r"[\x20-\x7e\s]*"
NOISE_CODES = {16, 18}
"""Unknown command, command too long: plsctl sends valid commands, so the line garbled them."""

PACKET_BYTES = 64
"""Packet of full-speed USB: version 2 does not wait for bytes, so a line should fit in one."""

Lines = list[tuple[str, str]]
"""Commands, each with the pattern that its reply's text must match."""


@dataclass(frozen=True)
class Reply:
    """A reply without its end mark; `refusal` is what the firmware said instead of doing it."""

    text: str
    refusal: str | None = None
    is_noise: bool = False


class Dialect(Protocol):
    """What differs between the firmware versions."""

    ask_version: str
    ask_properties: str
    version: str
    """Pattern of the version numbers that speak this dialect."""
    silence: str
    """Pattern of the text in the reply to a command without a result."""
    filled: str
    """The same for the reply to `ff`."""

    def set_up(self, colour: tuple[int, int, int]) -> Lines:
        """Commands that bring a board in any state into a known one; some boards refuse some."""

    def sequence_level(self, level: int) -> int:
        """The brightness (`sb`) under which a loaded sequence shines at `level`."""

    def sequence(self, patterns: Sequence[tuple[int, ...]], level: int, led_count: int) -> Lines:
        """Commands that load a sequence."""

    def start(self, timing: SequenceTiming) -> tuple[Lines, str]:
        """Commands that set triggers up, and the one that runs the sequence."""


class Version2:
    """Illuminate 2.x: one brightness for the whole sequence, triggers by `trs`."""

    ask_version = "version"
    ask_properties = "pprops"
    version = r"2\.\d+"
    silence = ""
    # With debug output on it says what it did, and some say so always.
    filled = r"(Filled Array\W*)?"

    def set_up(self, colour: tuple[int, int, int]) -> Lines:
        """Debug output off, colour, shutter open, both triggers active high."""
        red, green, blue = colour
        return [
            ("debug.0", rf"{ANY}DBG\.0"),
            (f"sc.{red}.{green}.{blue}", r"CO\.\d+\.\d+\.\d+"),
            ("gs.1", r"GS\.1"),
            ("trinputpolarity.0.1", r"TRINPUTPOLARITY\.1[.\d]*"),
            ("troutputpolarity.0.1", r"TROUTPUTPOLARITY\.1[.\d]*"),
        ]

    def sequence_level(self, level: int) -> int:
        """The same: it is the sequence's brightness."""
        return level

    def sequence(self, patterns: Sequence[tuple[int, ...]], level: int, led_count: int) -> Lines:
        """Commands that load a sequence (its brightness is `sb` at the start)."""
        lines = [(f"ssl.{len(patterns)}", f"SEQ_LEN\\.{len(patterns)}")]
        return lines + [(f"ssv.{_leds_v2(leds, led_count)}", ANY) for leds in patterns]

    def start(self, timing: SequenceTiming) -> tuple[Lines, str]:
        """Trigger set-up and run command.

        `trs` gets all five arguments: with four the firmware reads one that is not there.
        """
        triggers = (
            f"trs.0.{int(timing.wait_for_camera)}.{int(timing.pulse_camera)}"
            f".{timing.pulse_width_us}.{timing.pulse_delay_us}"
        )
        set_up = [
            (triggers, ANY),
            (f"trinputtimeout.{timing.input_timeout_s}", r"TRINPUTTIMEOUT\.[\d.]+"),
        ]
        return set_up, f"rseq.{timing.delay_ms}.{timing.repeats}"


class Version1:
    """Illuminate 1.x: a brightness for every LED of every pattern, triggers as arguments of run."""

    ask_version = "ver"
    ask_properties = "pp"
    version = r"1\.\d+"
    silence = filled = ANY

    def set_up(self, colour: tuple[int, int, int]) -> Lines:
        """Debug output off, colour, both triggers active high; there is no shutter."""
        red, green, blue = colour
        commands = (f"sc.{red}.{green}.{blue}", "trinputpolarity.0.1", "troutputpolarity.0.1")
        return [(command, ANY) for command in ("debug.0", *commands)]

    def sequence_level(self, level: int) -> int:
        """Full: it multiplies the value that every LED of a sequence has."""
        return 255

    def sequence(self, patterns: Sequence[tuple[int, ...]], level: int, led_count: int) -> Lines:
        """Commands that load a sequence at a bit depth of 8."""
        lines = [("ssbd.8", ANY), (f"ssl.{len(patterns)}", ANY)]
        for leds in patterns:
            values = "".join(f".{led}.{level}" for led in leds)
            lines.append((f"ssv.{len(leds)}{values}", ANY))
        return lines

    def start(self, timing: SequenceTiming) -> tuple[Lines, str]:
        """Trigger set-up and run command (order of its arguments as in the code, not the help)."""
        set_up = [
            (f"troutputpulsewidth.0.{timing.pulse_width_us}", ANY),
            (f"troutputdelay.0.{timing.pulse_delay_us}", ANY),
            (f"trinputtimeout.{timing.input_timeout_s}", ANY),
        ]
        modes = f"{int(timing.pulse_camera)}.{int(timing.wait_for_camera)}.0.0"
        return set_up, f"rseq.{timing.delay_ms}.{timing.repeats}.{modes}"


DIALECTS: tuple[Dialect, ...] = (Version2(), Version1())


def ended(raw: bytes) -> bool:
    """Whether a reply is complete; `pprops` puts the mark behind its last brace."""
    return END.search(raw) is not None or NUMBERED_END.search(raw) is not None


def parse_reply(command: str, raw: bytes) -> Reply:
    """Parse a complete reply; raise `Garbled` for bytes that no firmware sends."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        raise Garbled(command, raw) from None
    text = re.sub(r"-==-\r?\n\Z", "", text).replace("\r", "").strip("\n")
    numbered = NUMBERED.search(text)
    if numbered or UNNUMBERED.search(text):
        code = int(numbered.group(1)) if numbered else 0
        return Reply("", refusal=" ".join(text.split()).rstrip("."), is_noise=code in NOISE_CODES)
    return Reply(text)


def parse_properties(text: str) -> tuple[str, int] | None:
    """Device name and LED count out of the JSON of `pprops` or `pp`; None where they are not."""
    try:
        found = json.loads(text)
        name, count = found["device_name"], found["led_count"]
    except (ValueError, KeyError, TypeError):
        return None
    return (str(name), count) if isinstance(count, int) and count > 0 else None


def parse_colours(text: str) -> int:
    """How many colours the LEDs have, out of the JSON of `pprops` or `pp`; 1 where it is silent."""
    count = json.loads(text).get("color_channel_count", 1)
    return count if isinstance(count, int) else 1


def light_commands(leds: tuple[int, ...]) -> list[str]:
    """A list of LEDs as commands that each fit into one packet."""
    commands: list[str] = []
    for led in leds:
        if commands and len(commands[-1]) + 1 + len(str(led)) < PACKET_BYTES:
            commands[-1] += f".{led}"
        else:
            commands.append(f"l.{led}")
    return commands


def _leds_v2(leds: tuple[int, ...], led_count: int) -> str:
    if not leds:
        return "none"
    if len(leds) == led_count:
        return "all"
    if len(leds) > 3 and leds[-1] - leds[0] == len(leds) - 1:
        return f"range.{leds[0]}.{leds[-1] + 1}"  # the end is exclusive
    return ".".join(str(led) for led in leds)
