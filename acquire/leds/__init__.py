"""LED arrays: the protocol, and all that a laboratory's own driver needs.

The names below are stable (docs/led-arrays.md, "Your own driver").
"""

from typing import TYPE_CHECKING

from plsctl.acquire.lazy_names import lazy_names

if TYPE_CHECKING:
    from plsctl.acquire.errors import HardwareError, UserError
    from plsctl.acquire.files.openers import checked_by
    from plsctl.acquire.files.settings import Settings
    from plsctl.acquire.leds.array import (
        Capabilities,
        Identity,
        LedArray,
        LedArraySettings,
        SequenceTiming,
        driver_options,
        open_led_array,
    )
    from plsctl.acquire.leds.base import PlainArray, SerialArray, brightness_level, checked_leds
    from plsctl.acquire.leds.serial_line import Garbled, LineFault, NoAnswer, Refused, SerialLine
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "plsctl.acquire.errors": ("HardwareError", "UserError"),
            "plsctl.acquire.files.openers": ("checked_by",),
            "plsctl.acquire.files.settings": ("Settings",),
            "plsctl.acquire.leds.array": (
                "Capabilities",
                "Identity",
                "LedArray",
                "LedArraySettings",
                "SequenceTiming",
                "driver_options",
                "open_led_array",
            ),
            "plsctl.acquire.leds.base": (
                "PlainArray",
                "SerialArray",
                "brightness_level",
                "checked_leds",
            ),
            "plsctl.acquire.leds.serial_line": (
                "Garbled",
                "LineFault",
                "NoAnswer",
                "Refused",
                "SerialLine",
            ),
        },
    )

__all__ = [
    "Capabilities",
    "Garbled",
    "HardwareError",
    "Identity",
    "LedArray",
    "LedArraySettings",
    "LineFault",
    "NoAnswer",
    "PlainArray",
    "Refused",
    "SequenceTiming",
    "SerialArray",
    "SerialLine",
    "Settings",
    "UserError",
    "brightness_level",
    "checked_by",
    "checked_leds",
    "driver_options",
    "open_led_array",
]
