"""Driver for the LED matrix of openUC2 electronics (ESP32 firmware, JSON over a serial line).

A command is a JSON object with a task and a number of its own (`qid`); a reply stands between the
lines `++` and `--` and carries that number. Between replies come log lines, and reports on earlier
commands (`"state": "done"`). A list of LEDs is lit one by one: the firmware takes the action
`array` and does nothing. Facts: the public sources of firmware and host library.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import Field

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.files.openers import checked_by
from plsctl.acquire.files.settings import Settings
from plsctl.acquire.leds.array import Capabilities, Identity, LedArraySettings, driver_options
from plsctl.acquire.leds.base import PlainArray, colour_drive
from plsctl.acquire.leds.serial_line import Garbled, Refused, shorten

FRAME = re.compile(rb"\+\+\r?\n(.*?)\r?\n--\r?\n", re.DOTALL)
Drive = Annotated[int, Field(ge=0, le=255)]
Message = dict[str, Any]


class OpenUc2Options(Settings):
    """The `options` of the driver `openuc2`.

    Parameters
    ----------
    colour
        Drive of red, green and blue at full brightness.
    single_clears
        Whether the firmware puts the other LEDs out when it lights one. It does on HUB75 panels
        and in some versions on NeoPixels too; lists cannot be lit then.
    """

    colour: tuple[Drive, Drive, Drive] = (255, 255, 255)
    single_clears: bool = False


class OpenUc2Array(PlainArray):
    """An opened array. Made by `open_openuc2`."""

    def __init__(self, settings: LedArraySettings, options: OpenUc2Options) -> None:
        self._options = options
        self._number = 0
        super().__init__(settings, _capabilities(options))

    # The wire ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        """The firmware counts braces: those of a half-sent command must be closed first."""
        self._line.send("}}}}")
        self._line.drain()

    def _ask(self, task: str, **content: Any) -> Message:
        """Send a task; the reply with its number, or the firmware's refusal."""
        self._number += 1
        number = self._number
        command = json.dumps({"task": task, "qid": number, **content}, separators=(",", ":"))
        self._line.send(command)
        raw = self._line.receive(
            command, lambda got: any(_answers(one, number) for one in _messages(command, got))
        )
        reply = next(one for one in _messages(command, raw) if _answers(one, number))
        if "error" in reply:  # it could not read the line
            raise Garbled(command, json.dumps(reply).encode())
        if reply.get("success", 1) != 1:
            raise Refused(command, json.dumps(reply))
        return reply

    def _act(self, action: str, **content: int) -> None:
        reply = self._ask("/ledarr_act", led={"action": action, **content})
        if reply.get("qid") != self._number or reply.get("success") != 1:
            raise Garbled(f"/ledarr_act {action}", json.dumps(reply).encode())

    # The array --------------------------------------------------------------------------------

    def _introduce(self) -> Identity:
        state = self._ask("/state_get").get("state")
        if not isinstance(state, dict) or not isinstance(state.get("identifier_name"), str):
            raise HardwareError(
                f"what is connected at {self._line.port} does not answer as openUC2 firmware: "
                f"{shorten(json.dumps(state).encode())}.",
                hint="Check `port` and `driver` of the hardware file.",
            )
        board = state.get("pindef")
        name = state["identifier_name"] + (f" {board}" if isinstance(board, str) else "")
        version = " ".join(
            str(state[key]) for key in ("identifier_id", "git_commit") if key in state
        )
        return Identity("openuc2", name, version, self._count())

    def _count(self) -> int:
        reply = self._ask("/ledarr_get")
        led = reply.get("led")
        count = led.get("count") if isinstance(led, dict) else reply.get("ledArrNum")
        if isinstance(count, int) and count > 0:
            return count
        raise HardwareError(
            f"the openUC2 board at {self._line.port} does not say how many LEDs it has: "
            f"{shorten(json.dumps(reply).encode())}.",
            hint="Its firmware needs the LED controller switched on in its configuration.",
        )

    def _dark(self) -> None:
        self._act("off")

    def _check(self, leds: tuple[int, ...]) -> None:
        if self._options.single_clears and 1 < len(leds) < self.identity.led_count:
            raise UserError(
                f"this array lights one LED or all, and {len(leds)} were asked for.",
                field="led_array.options.single_clears",
                hint="Its firmware puts the others out when it lights one.",
            )

    def _light(self, leds: tuple[int, ...], level: int) -> None:
        drives = colour_drive(self._options.colour, self._colour)
        red, green, blue = (round(drive * level / 255) for drive in drives)
        # Also where it clears by itself: only darkness begins the minute anew after which the
        # firmware switches a bright matrix off.
        self._act("off")
        if len(leds) == self.identity.led_count:
            self._act("fill", r=red, g=green, b=blue)
            return
        for led in leds:
            self._act("single", ledIndex=led, r=red, g=green, b=blue)


def _messages(command: str, raw: bytes) -> list[Message]:
    """The complete replies; anything between them is a log line."""
    found: list[Message] = []
    for frame in FRAME.findall(raw):
        try:
            message = json.loads(frame)
        except ValueError:
            raise Garbled(command, frame) from None
        if not isinstance(message, dict):
            raise Garbled(command, frame)
        found.append(message)
    return found


def _answers(message: Message, number: int) -> bool:
    """Whether a message is the answer, and not a report on an earlier command."""
    if message.get("qid", number) not in (number, -1):
        return False
    return not isinstance(message.get("state"), str)


def _capabilities(options: OpenUc2Options) -> Capabilities:
    return Capabilities(
        single=True, several=not options.single_clears, brightness=True, colour=True
    )


def check_openuc2(settings: LedArraySettings) -> Capabilities:
    """What the matrix will be able to do; `UserError` for an option that is wrong."""
    return _capabilities(driver_options(settings, OpenUc2Options))


@checked_by(check_openuc2)
def open_openuc2(settings: LedArraySettings) -> OpenUc2Array:
    """Open an openUC2 LED matrix; its LEDs are off afterwards.

    Raises
    ------
    UserError
        The port cannot be opened, or an option is wrong.
    HardwareError
        Nothing answers, or something other than openUC2 firmware.
    """
    return OpenUc2Array(settings, driver_options(settings, OpenUc2Options))
