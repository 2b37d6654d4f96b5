"""A lab-built LED controller: an Arduino Uno with a small text protocol, as labs write them.

Lines end with a newline, replies with carriage return and newline (`Serial.println`):

    ?            LEDARRAY 1.2 43
    B128         OK B128               brightness 0 to 255, of what is lit afterwards
    L12          OK L12                this LED alone
    P3,7,12      OK P3                 these as well; says how many
    A            OK A                  all
    X            OK X                  none
    C255,0,0     OK C255,0,0           red, green, blue of what is lit afterwards
    anything     ERR 1 unknown command
    L43          ERR 2 no such LED     lists are not checked: the sketch writes past its table

Its quirks are an Uno's: it restarts when the port is opened and is deaf while its boot loader
runs; its receive buffer holds 64 bytes, what comes beyond is lost; `toInt` makes 0 of `abc`.
"""

from __future__ import annotations

from collections.abc import Callable

from plsctl.sim.firmware.board import WHITE, LedBoard, Tint, atoi, tint_of

BUFFER_BYTES = 64
NAME, VERSION = "LEDARRAY", "1.2"


class ArduinoFirmware(LedBoard):
    """An array of single-colour LEDs on an Arduino (see `LedBoard` for its parameters).

    `boot_s` is how long its boot loader keeps it deaf after the port was opened.
    """

    version = VERSION
    boot_s = 0.0

    def restart(self) -> None:
        """Power-on state."""
        self._line = bytearray()
        self._brightness = self.power_on_level
        self._awake_at = self.clock.now() + self.boot_s
        self._greeted = False
        self._tint: Tint = WHITE
        self._commands: dict[str, Callable[[str], str]] = {
            "?": lambda _: f"{NAME} {VERSION} {self.led_count}",
            "B": self._set_brightness,
            "L": self._light_one,
            "P": self._add_list,
            "A": lambda _: self._fill(self._brightness, "OK A"),
            "X": lambda _: self._fill(0, "OK X"),
            "C": self._set_colour,
        }

    def connect(self) -> bytes:
        """A host opens the port; the banner comes when the boot loader has ended."""
        with self._lock:
            if self.resets_on_open:
                self._values = [0] * self.led_count
                self._show(self.clock.now())
                self.restart()
            return self.poll()

    @property
    def is_running(self) -> bool:
        """Whether the banner is still to come."""
        return not self._greeted

    @property
    def next_event(self) -> float | None:
        """When the banner comes."""
        return None if self._greeted else self._awake_at

    def poll(self) -> bytes:
        """The banner, once."""
        with self._lock:
            if self._greeted or self.clock.now() < self._awake_at:
                return b""
            self._greeted = True
            return b"LED array ready\r\n" if self.resets_on_open else b""

    def receive(self, burst: bytes) -> str:
        """Act on the lines of a burst as far as they fit into the buffer."""
        if self.clock.now() < self._awake_at:
            return ""
        room = BUFFER_BYTES - len(self._line)
        if len(burst) > room:
            self.violations.append(f"{len(burst)} bytes at once")
        self._line += burst[:room]
        said = ""
        while b"\n" in self._line:
            line, _, rest = bytes(self._line).partition(b"\n")
            self._line = bytearray(rest)
            said += self.timed(lambda line=line: self._answer(line))  # type: ignore[misc]
        return said

    def _answer(self, line: bytes) -> str:
        text = line.decode("latin-1").strip()
        command = self._commands.get(text[:1])
        return (command(text[1:]) if command else "ERR 1 unknown command") + "\r\n"

    def _set_brightness(self, argument: str) -> str:
        self._brightness = atoi(argument) % 256
        return f"OK B{self._brightness}"

    def _set_colour(self, argument: str) -> str:
        drives = [atoi(number) % 256 for number in argument.split(",")]
        if len(drives) != 3:
            return "ERR 3 red,green,blue"
        self._tint = tint_of(*drives)
        return f"OK C{','.join(str(drive) for drive in drives)}"

    def _light_one(self, argument: str) -> str:
        led = atoi(argument)
        if not 0 <= led < self.led_count:
            return "ERR 2 no such LED"
        self.clear()
        self.set_led(led, self._brightness, self._tint)
        self.update()
        return f"OK L{led}"

    def _add_list(self, argument: str) -> str:
        numbers = argument.split(",")
        for number in numbers:
            self.set_led(atoi(number), self._brightness, self._tint)
        self.update()
        return f"OK P{len(numbers)}"

    def _fill(self, value: int, said: str) -> str:
        self.set_led(-1, value, self._tint)
        self.update()
        return said
