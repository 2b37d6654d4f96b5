"""The openUC2 firmware (ESP32) as far as its LED matrix goes: JSON in, JSON out.

Its quirks: objects are found by counting braces, so a half-sent one swallows what follows; every
message ends with a zero byte behind its newline; log lines stand between messages; reports that a
task is done come later; `array` is accepted and does nothing; a number beyond the matrix is
accepted and ignored; a bright matrix is switched off after a minute. Facts: its public sources.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from plsctl.acquire.clock import Clock
from plsctl.sim.firmware.board import WHITE, LedBoard, Lit, Position, Tint, tint_of

Message = dict[str, Any]
HOT_SUM, HOT_S = 150, 60.0
"""Above this sum of red, green and blue, the light goes out after this time."""
INPUT_BYTES = 8192


class OpenUc2Firmware(LedBoard):
    """A matrix of colour LEDs; a LED's brightness is its strongest colour.

    Parameters
    ----------
    single_clears
        Whether lighting one LED puts out the others (HUB75 panels, some versions).
    reports_done
        Whether it reports every finished task later.
    """

    version = "V2.0"

    def __init__(
        self,
        positions_mm: Sequence[Position],
        clock: Clock,
        *,
        on_change: Callable[[float, Lit], None] | None = None,
        round_trip_s: float = 0.005,
        resets_on_open: bool = True,
        single_clears: bool = False,
        reports_done: bool = True,
    ) -> None:
        self.single_clears = single_clears
        self.reports_done = reports_done
        super().__init__(
            positions_mm,
            clock,
            on_change=on_change,
            round_trip_s=round_trip_s,
            resets_on_open=resets_on_open,
        )

    def restart(self) -> None:
        """Power-on state."""
        self._object = bytearray()
        self._depth = 0
        self._hot_since: float | None = None

    def boot_text(self) -> str:
        """What the boot loader and the firmware print."""
        return (
            "ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x13\r\n"
            "[   412][I][main.cpp:58] setup(): Start setup\r\nDEBUG: SerialProcess ready\r\n"
        )

    # Wire -------------------------------------------------------------------------------------

    def receive(self, burst: bytes) -> str:
        """Collect bytes until the braces match; then it is a task."""
        said = ""
        for byte in burst:
            if byte == ord("{"):
                self._depth += 1
            if self._depth:
                self._object.append(byte)
            if self._depth and byte == ord("}"):
                self._depth -= 1
                if not self._depth:
                    text, self._object = bytes(self._object), bytearray()
                    said += self.timed(lambda text=text: self._answer(text))  # type: ignore[misc]
            if len(self._object) >= INPUT_BYTES:
                self._object, self._depth = bytearray(), 0
                said += framed({"error": "Input buffer overflow"})
        return said

    def _answer(self, text: bytes) -> str:
        try:
            task = json.loads(text)
        except ValueError:
            return framed({"error": "Failed to parse JSON"})
        name = task.get("task")
        number = task.get("qid", 0)
        if name == "/state_get":
            return framed({"state": self._state(), "qid": number})
        if name == "/ledarr_get":
            return framed({"led": {"isOn": any(self._shown), "count": self.led_count}})
        if name == "/ledarr_act":
            return self._act(task, number)
        return ""  # tasks it does not know go by in silence

    def _state(self) -> Message:
        return {
            "identifier_name": "UC2_Feather",
            "identifier_id": self.version,
            "identifier_date": "Nov  7 2025 12:52:14",
            "identifier_author": "BD",
            "IDENTIFIER_NAME": "uc2-esp",
            "configIsSet": 0,
            "pindef": "UC2_4",
            "I2C_SLAVE": 0,
        }

    def _act(self, task: Message, number: int) -> str:
        led = task.get("led")
        actions: dict[str, Callable[[Message], None]] = {
            "off": lambda _: self._fill(0),
            "fill": lambda content: self._fill(_brightest(content), _tint(content)),
            "single": self._single,
            "array": lambda _: self.violations.append("the action `array` does nothing"),
            "halves": lambda _: None,
            "rings": lambda _: None,
            "circles": lambda _: None,
            "status": lambda _: None,
        }
        if not isinstance(led, dict) or str(led.get("action")).lower() not in actions:
            return framed({"qid": -1, "success": -1})
        action = actions[str(led["action"]).lower()]
        action(led)
        self._watch_heat(led)
        if self.reports_done and number > 0:
            self._spoken += framed({"qid": number, "state": "done"}).encode("ascii")
        success = (number > 0) - (number < 0)
        return "[  9120][I][LedController.cpp:487] act\r\n" + framed(
            {"qid": number, "success": success}
        )

    # Light ------------------------------------------------------------------------------------

    def _fill(self, value: int, tint: Tint = WHITE) -> None:
        self.set_led(-1, value, tint)
        self.update()

    def _single(self, content: Message) -> None:
        index = int(content.get("ledIndex", 0)) % 0x10000
        if index >= self.led_count:  # ignored, and said to be done
            self.violations.append(f"LED {index} of {self.led_count}")
            return
        if self.single_clears:
            self.clear()
        self.set_led(index, _brightest(content), _tint(content))
        self.update()

    def _watch_heat(self, content: Message) -> None:
        total = sum(int(content.get(colour, 0)) for colour in "rgb")
        if total <= HOT_SUM:
            self._hot_since = None if not any(self._shown) else self._hot_since
        elif self._hot_since is None:
            self._hot_since = self.clock.now()

    def _advance(self) -> None:
        super()._advance()
        if self._hot_since is not None and self.clock.now() - self._hot_since > HOT_S:
            self._hot_since = None
            self._fill(0)


def framed(message: Message) -> str:
    """A message as it stands on the wire."""
    return f"++\n{json.dumps(message, separators=(',', ':'))}\n--\n\0"


def _tint(content: Message) -> Tint:
    red, green, blue = (int(content.get(colour, 0)) % 256 for colour in "rgb")
    return tint_of(red, green, blue)


def _brightest(content: Message) -> int:
    return max(int(content.get(colour, 0)) % 256 for colour in "rgb")
