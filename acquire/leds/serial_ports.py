"""The serial ports of this computer: found by name or by USB serial number, and opened."""

from __future__ import annotations

import errno

import serial
from serial.tools import list_ports

from plsctl.acquire.errors import UserError

try:
    import termios
except ImportError:  # Windows
    PORT_ERRORS: tuple[type[Exception], ...] = (OSError,)
else:
    # pyserial lets these through where a tty hangs up
    PORT_ERRORS = (OSError, termios.error)
OPEN_ERRORS: tuple[type[Exception], ...] = (*PORT_ERRORS, ValueError)


def ports_in_words() -> str:
    """The serial ports of this computer, for messages."""
    found = [
        f"{p.device} ({p.description})" if p.description not in ("n/a", None) else str(p.device)
        for p in list_ports.comports()
    ]
    return f"ports found: {', '.join(found)}" if found else "no serial port was found here"


def find_port(serial_number: str | None, port: str) -> str:
    """The port that a USB serial number has now; `port` where there is no number to go by.

    Raises
    ------
    UserError
        It is not connected: what is at `port` now may be any device, and is left alone.
    """
    if not serial_number:
        return port
    connected = {p.serial_number: str(p.device) for p in list_ports.comports() if p.serial_number}
    if serial_number in connected:
        return connected[serial_number]
    others = ", ".join(f"'{number}' at {device}" for number, device in connected.items())
    raise UserError(
        f"no device with the USB serial number '{serial_number}' is connected; no other port was "
        "opened.",
        field="serial_number",
        hint="Connect it and switch it on, correct `serial_number`, or leave it out to go by the "
        f"name of the port alone (connected: {others or 'none with a serial number'}).",
    )


def usb_serial_number(port: str) -> str | None:
    """The USB serial number of what is connected at a port; None where it has none."""
    return next((p.serial_number for p in list_ports.comports() if p.device == port), None)


def open_port(port: str, baud_rate: int, timeout_s: float) -> serial.Serial:
    """Open any port that pyserial opens, exclusively.

    Raises
    ------
    UserError
        It cannot be opened; the hint says what to do about it.
    """
    try:
        # exclusive: two programs on one array would take each other's replies
        opened: serial.Serial = serial.serial_for_url(
            port, baudrate=baud_rate, timeout=timeout_s, write_timeout=timeout_s, exclusive=True
        )
    except OPEN_ERRORS as error:
        raise UserError(
            f"the port '{port}' cannot be opened: {_first_cause(error)}.",
            field="port",
            hint=f"{_remedy(port, error)} ({ports_in_words()}).",
        ) from None
    return opened


def _first_cause(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return text.rsplit("] ", 1)[-1] if "] " in text else text


def _remedy(port: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    text = str(error).lower()
    if "://" in port:
        return "Start what should listen there, or name another port"
    if number == errno.EACCES or "access is denied" in text or "permission" in text:
        return (
            "Close other programs that use it; on Linux add yourself to the group that owns it "
            "(often `dialout`) and log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in text:
        return "Close the other program that has it open"
    return "Connect the device or name another port"
