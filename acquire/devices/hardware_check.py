"""What can be known of a microscope before any device is opened: its files, and how they fit."""

from __future__ import annotations

from plsctl.acquire.devices.backend import check_backend
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.array import Capabilities, check_led_array


def check_hardware(hardware: Hardware) -> Capabilities | None:
    """What the LED array will be able to do, as far as its driver knows before it is opened.

    Raises
    ------
    UserError
        A driver, a backend, an option or a file is named wrongly, or two of them do not fit.
    """
    able = check_led_array(hardware.led_array)
    _check_led_count(hardware)
    check_backend(hardware)
    return able


def _check_led_count(hardware: Hardware) -> None:
    """The array must have every LED of the table."""
    count, leds = hardware.led_array.led_count, hardware.geometry().leds
    highest = max(led.led for led in leds)
    if count is not None and highest >= count:
        raise UserError(
            f"led_count = {count}, and the LED table {hardware.led_array.geometry} goes on to "
            f"LED number {highest}.",
            file=hardware.file,
            field="led_array.led_count",
            hint=f"Correct led_count (the table needs at least {highest + 1}), or name the table "
            "of this array.",
        )
