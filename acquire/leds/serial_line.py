"""One serial port: commands, replies, and what to do when no reply comes.

Drivers never touch pyserial themselves. What goes wrong on the wire is a `LineFault` inside the
driver; `SerialLine.perform` turns it into retries, one reconnection and at last a `HardwareError`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import serial

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.leds.serial_ports import (
    PORT_ERRORS,
    find_port,
    open_port,
    ports_in_words,
    usb_serial_number,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

REPLY_LIMIT_BYTES = 1 << 20
"""No reply is longer; more is noise."""

LOOK_AGAIN_S = 0.2
"""How often a port that has vanished is looked for."""

STILL_LIT = "What it lit last may still shine: switch it off if it does."


class LineFault(Exception):
    """Something went wrong on the wire while a command was under way; it may be tried again."""


_SIGNS = (
    (b"-==-", "illuminate"),
    (b"ERROR[", "illuminate"),
    (b'"qid"', "openuc2"),
    (b"++\n{", "openuc2"),
    (b"++\r\n{", "openuc2"),
)
"""What firmwares say, by which a wrong driver is told from a fault."""


class NoAnswer(LineFault):
    """The reply did not come, or only a part of it."""

    got = b""
    """What came."""

    def __init__(self, command: str, got: bytes, waited_s: float) -> None:
        self.got = got
        shown = f"only {shorten(got)}" if got else "nothing"
        super().__init__(f"`{command}` was sent and {shown} came back within {waited_s:g} s")


class Garbled(LineFault):
    """A reply came that cannot be the answer."""

    def __init__(self, command: str, got: bytes) -> None:
        super().__init__(f"`{command}` was sent and {shorten(got)} came back")


class Babble(Garbled):
    """The line does not fall silent, so that replies cannot be told from noise."""

    def __init__(self, got: bytes) -> None:
        LineFault.__init__(self, f"it talks without a pause: {shorten(got)}")


class Refused(LineFault):
    """The device refused a command, or what noise made of it."""

    def __init__(self, command: str, got: str) -> None:
        super().__init__(f"`{command}` was refused: {got}")


class PortLost(LineFault):
    """The port itself failed: unplugged, switched off, gone from the network."""


class SerialLine:
    """An open serial port with bounded waits.

    Parameters
    ----------
    device
        What is connected, for messages: `LED array`.
    port, baud_rate
        Anything pyserial opens, and its speed.
    timeout_s
        How long the device may stay silent within a reply.
    retries
        How often an operation is tried again before the port is opened anew.
    serial_number
        USB serial number; where it is given or known, the device is found again under any name.
    reconnect_s
        How long a port that has vanished is waited for; the second time it is not waited for.

    Raises
    ------
    UserError
        The port cannot be opened, or no device with that serial number is connected.
    """

    def __init__(
        self,
        device: str,
        port: str,
        baud_rate: int,
        timeout_s: float,
        retries: int,
        serial_number: str | None = None,
        reconnect_s: float = 0.0,
    ) -> None:
        self._device = device
        self._baud_rate = baud_rate
        self._timeout_s = timeout_s
        self._retries = retries
        self._reconnect_s = reconnect_s
        self._is_lost = False
        self.port = find_port(serial_number, port)
        self._open_port: serial.Serial = open_port(self.port, baud_rate, timeout_s)
        self._serial_number = serial_number or usb_serial_number(self.port)

    def __str__(self) -> str:
        return f"the {self._device} at {self.port}"

    def send(self, command: str) -> None:
        """Write one command in one piece; discard earlier input.

        One piece, because Illuminate v2 reads without waiting: a line with a pause in it is
        filled with 0xFF.
        """
        self.write(command.encode("ascii") + b"\n")

    def write(self, message: bytes) -> None:
        """Write a message as it is, in one piece; discard earlier input."""
        try:
            self._open_port.reset_input_buffer()
            self._open_port.write(message)
        except PORT_ERRORS as error:
            raise PortLost(str(error)) from error

    def receive(
        self, command: str, ended: Callable[[bytes], bool], timeout_s: float | None = None
    ) -> bytes:
        """The reply, up to where `ended` says that it is complete."""
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + 10 * wait_s
        reply = bytearray()
        while not ended(bytes(reply)):
            chunk = self._read(wait_s)
            reply += chunk
            if not chunk:
                raise NoAnswer(command, bytes(reply), wait_s)
            if len(reply) > REPLY_LIMIT_BYTES or time.monotonic() > deadline:
                raise Garbled(command, bytes(reply))
        return bytes(reply)

    def exchange(self, command: str, ended: Callable[[bytes], bool]) -> bytes:
        """One command and its reply, without a second try."""
        self.send(command)
        return self.receive(command, ended)

    def drain(self, quiet_s: float = 0.02) -> bytes:
        """Read until the line has been silent for a moment: boot text, late or broken replies."""
        deadline = time.monotonic() + 10 * max(quiet_s, self._timeout_s)
        dropped = bytearray()
        while chunk := self._read(quiet_s):
            dropped += chunk
            if len(dropped) > REPLY_LIMIT_BYTES or time.monotonic() > deadline:
                raise Babble(bytes(dropped))
        return bytes(dropped)

    def perform(
        self, operation: Callable[[], T], recover: Callable[[], None], greet: Callable[[], None]
    ) -> T:
        """Run an operation with bounded retries, then once more over a newly opened port.

        Parameters
        ----------
        operation
            Sends and receives; must be such that doing it twice does no harm.
        recover
            Brings the device back in step after a fault, before the next try.
        greet
            Sets the device up after the port was opened anew.

        Raises
        ------
        HardwareError
            All of it failed; the message says what was sent, what came back and what to do.
        """
        try:
            return self._try_again(operation, recover)
        except LineFault as fault:
            log.warning("%s: %s; opening the port again", self, fault)
            return self._reconnected(operation, greet, fault)

    def _try_again(self, operation: Callable[[], T], recover: Callable[[], None]) -> T:
        for _ in range(self._retries):
            try:
                return operation()
            except PortLost:
                raise
            except LineFault as fault:
                log.warning("%s: %s; trying again", self, fault)
                self._recover(recover)
        return operation()

    def _recover(self, recover: Callable[[], None]) -> None:
        try:
            recover()
        except PortLost:
            raise
        except LineFault as fault:
            log.warning("%s is out of step: %s", self, fault)

    def _reconnected(
        self, operation: Callable[[], T], greet: Callable[[], None], first: LineFault
    ) -> T:
        patience_s = 0.0 if self._is_lost else self._reconnect_s
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._reopen()
                greet()
                result = operation()
            except (PortLost, UserError) as fault:
                # A cable that was pulled, a hub that restarts: the port may be back in a moment.
                if time.monotonic() < deadline:
                    time.sleep(LOOK_AGAIN_S)
                    continue
                self._is_lost = True
                raise self._given_up(fault, first) from first
            except LineFault as fault:
                self._is_lost = True
                raise self._given_up(fault, first) from first
            self._is_lost = False
            return result

    def _given_up(self, fault: LineFault | UserError, first: LineFault) -> HardwareError:
        """The error when an array stops answering."""
        if isinstance(fault, LineFault):
            error = self.unanswered(fault)
            again = "Then run the same command again."
            return HardwareError(error.message, hint=f"{STILL_LIT} {error.hint} {again}")
        return HardwareError(
            f"the connection to {self} was lost ({first}) and cannot be opened again: "
            f"{fault.message}",
            hint=f"{STILL_LIT} Check the cable and the power, then run the same command again.",
        )

    def unanswered(self, fault: LineFault) -> HardwareError:
        """The error to raise when nothing more can be tried."""
        reason = f"lost: {fault}" if isinstance(fault, PortLost) else f"silent: {fault}"
        reason = f"not understood: {fault}" if isinstance(fault, Garbled) else reason
        if isinstance(fault, Refused):
            return HardwareError(
                f"{self} does not do as it is told: {fault}.",
                hint="Check that its firmware is the one this driver is for.",
            )
        if isinstance(fault, NoAnswer) and fault.got:
            looks_like = next((name for sign, name in _SIGNS if sign in fault.got), None)
            driver = f"That looks like `driver: {looks_like}`. " if looks_like else ""
            return HardwareError(
                f"{self} answers, but not as its driver expects: {fault}.",
                hint=f"{driver}Check the driver and the baud rate ({self._baud_rate}); with "
                "`driver: template` also `reply` and `reply_terminator`.",
            )
        return HardwareError(
            f"{self} is {reason}.",
            hint="Check its power and cable, that this is its port "
            f"({ports_in_words()}), the baud rate ({self._baud_rate}) and the driver. "
            "A slow controller needs a larger `timeout_s`.",
        )

    def close(self) -> None:
        """Close the port; a port that is gone already is no fault."""
        # pyserial leaves a socket open whose other end has gone already.
        left = getattr(self._open_port, "_socket", None)
        try:
            self._open_port.close()
            if left is not None:
                left.close()
        except PORT_ERRORS as error:
            log.warning("%s: %s", self, error)

    def _reopen(self) -> None:
        self.close()
        self.port = find_port(self._serial_number, self.port)
        self._open_port = open_port(self.port, self._baud_rate, self._timeout_s)

    def _read(self, wait_s: float) -> bytes:
        """All bytes available, at least one; empty after the time-out."""
        port = self._open_port
        try:
            if port.timeout != wait_s:
                port.timeout = wait_s  # costs system calls on a real port
            first: bytes = port.read(1)
            waiting = port.in_waiting if first else 0
            rest: bytes = port.read(waiting) if waiting else b""
        except PORT_ERRORS as error:
            raise PortLost(str(error)) from error
        return first + rest


def shorten(text: bytes) -> str:
    """Bytes in readable form, for an error message."""
    return repr(text if len(text) <= 60 else text[:57] + b"...")[1:]
