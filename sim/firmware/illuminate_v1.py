"""The Illuminate 1.32 firmware: short names, refusals with an end mark, one command a burst."""

from __future__ import annotations

import re

from plsctl.sim.firmware.board import c_number
from plsctl.sim.firmware.illuminate import END, IlluminateFirmware, Refusal
from plsctl.sim.firmware.sequence import TIMED_OUT, SequencePlan, TriggerSettings


class IlluminateV1Firmware(IlluminateFirmware):
    """An array of single-colour LEDs under Illuminate 1.32.

    What differs from version 2: a line ends at a newline only, what is pipelined behind it in the
    same burst is thrown away, refusals are sentences before the usual end mark, sequences carry a
    value for every LED, which the brightness multiplies, and `rseq` takes the trigger modes.
    """

    version = "1.32"

    def restart(self) -> None:
        """Power-on state."""
        super().restart()
        self._valued: list[list[tuple[int, int]]] = []
        self._commands |= {
            "ver": lambda _: f"{self.version}\n",
            "pp": self._commands["pprops"],
            "xx": self._commands["x"],
            "led": self._commands["l"],
            "setBrightness": self._commands["sb"],
            "ssbd": lambda words: self._reply(f"BD.{words[1]}", f"Bit depth is {words[1]}."),
            "reseq": lambda _: "",
            "troutputpulsewidth": self._set_pulse_width,
            "troutputdelay": self._set_pulse_delay,
        }
        for name in ("version", "pprops", "xseq", "trs", "gs"):
            del self._commands[name]
        self._triggers.input_timeout_s = 3600.0

    def boot_text(self) -> str:
        """What is printed at start."""
        return (
            f"=== {self.device_name} LED Array Controller \n=== Controller Version: r{self.version}"
            " | Serial Number: 0001\n=== For help, type ? \n"
        )

    def receive(self, burst: bytes) -> str:
        """Act on the first line of a burst; bytes wait for their newline."""
        if self.is_running:
            self.abort()
            return END
        self._line += burst
        line, newline, pipelined = bytes(self._line).partition(b"\n")
        if not newline:
            return ""
        self._line = bytearray()
        if pipelined:
            self.violations.append("a command behind another in one burst")
        return self.timed(lambda: self._answer(line)) if line.strip() else ""

    def _answer(self, line: bytes) -> str:
        words = [word for word in line.decode("latin-1").split(".") if word]
        try:
            command = self._commands.get(words[0])
            if command is None:
                return f"Command [{words[0]}] is not implemented yet.\n{END}"
            return command(words) + ("" if self.is_running else END)
        except Refusal as refusal:
            return f"ERROR ({words[0]}): Invalid arguments ({refusal.code}).\n{END}"

    def sequence_ended(self, outcome: str) -> str:
        """The late reply to `rseq`."""
        if outcome == TIMED_OUT:
            return f"ERROR (LedArray::waitForTriggerState): Trigger timeout.\n{END}"
        return END

    def _set_sequence_length(self, words: list[str]) -> str:
        self._valued = []
        return super()._set_sequence_length(words)

    def _append_pattern(self, words: list[str]) -> str:
        numbers = [c_number(word) for word in words[1:]]
        if not numbers or len(numbers) != 1 + 2 * numbers[0]:
            raise Refusal(2)
        if len(self._valued) >= self._capacity:
            raise Refusal(19)
        self._valued.append(list(zip(numbers[1::2], numbers[2::2], strict=True)))
        return ""

    def _run_sequence(self, words: list[str]) -> str:
        numbers = [c_number(word) for word in words[1:]]
        if len(numbers) not in (2, 4, 6):
            raise Refusal(2)
        delay_ms, repeats, output_mode, input_mode = [*numbers, 0, 0][:4]
        triggers = TriggerSettings(
            input_mode,
            output_mode,
            self._triggers.pulse_width_s,
            self._triggers.start_delay_s,
            self._triggers.input_timeout_s,
        )
        # The value of the sequence, times that of `sb` and `sc`.
        shown = [[(led, value * self._value // 255) for led, value in p] for p in self._valued]
        self.sequence_tint = self._tint
        self.start(SequencePlan(shown, delay_ms / 1000, repeats, self.update_s), triggers)
        return ""

    def _set_pulse_width(self, words: list[str]) -> str:
        self._triggers.pulse_width_s = _last_number(words) / 1e6
        return self._reply(f"TROUTPUTPULSEWIDTH.{words[-1]}", f"Pulse width is {words[-1]}.")

    def _set_pulse_delay(self, words: list[str]) -> str:
        self._triggers.start_delay_s = _last_number(words) / 1e6
        return self._reply(f"TROUTPUTDELAY.{words[-1]}", f"Output delay is {words[-1]}.")


def _last_number(words: list[str]) -> int:
    if len(words) < 2 or not re.fullmatch(r"\d+", words[-1]):
        raise Refusal(2)
    return int(words[-1])
