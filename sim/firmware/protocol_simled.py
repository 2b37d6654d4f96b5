"""pyserial's handler for `simled://name`: a simulated LED controller in this process.

pyserial looks for a module of this name in `serial.protocol_handler_packages` and for a class
`Serial` in it. Waiting is done on the controller's clock: with a simulated one no time passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serial import PortNotOpenError, SerialException
from serial.serialutil import SerialBase

from plsctl.sim.firmware.ports import REGISTRY, SCHEME, Firmware

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Serial(SerialBase):
    """A serial port whose other end is a `Firmware` of the registry."""

    def open(self) -> None:
        """Connect to the controller that the URL names."""
        name = str(self.portstr).removeprefix(f"{SCHEME}://")
        firmware = REGISTRY.find(name)
        if firmware is None:
            REGISTRY.look_for(name)
            raise SerialException(f"no simulated LED array is plugged in as '{name}'")
        self._firmware: Firmware = firmware
        self._received = bytearray(firmware.connect())
        self.is_open = True

    def close(self) -> None:
        """Hang up."""
        self.is_open = False

    def _reconfigure_port(self) -> None:
        """Speed, parity and the like do not matter here."""

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read without waiting."""
        self._listen()
        return len(self._received)

    def read(self, size: int = 1) -> bytes:
        """Up to `size` bytes; fewer when the time-out passes on the controller's clock."""
        clock = self._connected().clock
        deadline = None if self.timeout is None else clock.now() + self.timeout
        self._listen()
        while len(self._received) < size and (deadline is None or clock.now() < deadline):
            clock.sleep(self._next_moment(deadline) - clock.now())
            self._listen()
        chunk = bytes(self._received[:size])
        del self._received[:size]
        return chunk

    def _next_moment(self, deadline: float | None) -> float:
        """When to look again: at the controller's next action, or at the time-out."""
        now = self._firmware.clock.now()
        event = self._firmware.next_event
        if event is None or event <= now:
            return now + 0.001 if deadline is None else deadline
        return event if deadline is None else min(event, deadline)

    def write(self, b: ReadableBuffer, /) -> int:
        """Hand a burst to the controller; its reply can be read afterwards."""
        self._received += self._connected().feed(bytes(b))
        return len(bytes(b))

    def reset_input_buffer(self) -> None:
        """Forget what was received."""
        self._listen()
        self._received.clear()

    def reset_output_buffer(self) -> None:
        """Nothing ever waits to be sent."""

    def _listen(self) -> None:
        self._received += self._connected().poll()

    def _connected(self) -> Firmware:
        if not self.is_open:
            raise PortNotOpenError()
        if self._firmware.vanished:
            raise SerialException("the device was unplugged")
        return self._firmware
