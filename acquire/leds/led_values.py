"""LED numbers and brightness, checked before anything is sent to an array."""

from __future__ import annotations

import operator
from collections.abc import Iterable

from plsctl.acquire.errors import UserError


def checked_leds(leds: Iterable[int], led_count: int) -> tuple[int, ...]:
    """The LED numbers, sorted, each once; `UserError` where one is not in the array.

    Firmwares do not check: Illuminate takes -1 for every LED and reads past its table for numbers
    that are too large. Every driver calls this before it sends anything.
    """
    chosen: set[int] = set()
    for led in leds:
        try:
            number = operator.index(led)
        except TypeError:
            raise UserError(
                f"{led!r} is not an LED number.", hint=f"The LEDs are 0 to {led_count - 1}."
            ) from None
        if not 0 <= number < led_count:
            raise UserError(
                f"the array has no LED {number}.", hint=f"Its LEDs are 0 to {led_count - 1}."
            )
        chosen.add(number)
    return tuple(sorted(chosen))


def brightness_level(brightness: float, levels: int = 255) -> int:
    """Brightness 0 to 1 as a step of the array's drive; `UserError` outside or below one step."""
    if not 0 <= brightness <= 1:
        raise UserError(f"the brightness {brightness} is not between 0 and 1.")
    level = round(brightness * levels)
    if level == 0 and brightness > 0:
        raise UserError(
            f"the brightness {brightness} is below the array's smallest step, {1 / levels:.4f}.",
            hint="Shorten the exposure instead.",
        )
    return level
