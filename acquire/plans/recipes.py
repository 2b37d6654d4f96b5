"""Named recipes: which images a stack holds, in which order (papers/002 table 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import suggest

Variant = Literal["", "low", "high"]

BRIGHTFIELD = "brightfield"
PLATE_LEDS = ("plate-1", "plate-2", "plate-3")
ARMS = (1, 2, 3, 4, 5)
BRIGHT_ANGLES_DEG = (10, 18)
DARK_ANGLES_DEG = (24, 30, 36, 43, 50, 57)


@dataclass(frozen=True)
class Frame:
    """One image of a stack: an LED or the bright-field pattern, and its exposure variant."""

    led: str
    variant: Variant = ""

    @property
    def label(self) -> str:
        """`brightfield`, `plate-1`, `arm1-24:low`."""
        return f"{self.led}:{self.variant}" if self.variant else self.led


def _stack(max_angle_deg: int, variants: tuple[Variant, ...]) -> tuple[Frame, ...]:
    """Bright field, the LEDs inside the aperture, then the dark field at each exposure.

    A frame's role follows from the nominal angle of its LED, so that a calibrated direction
    never moves it from bright to dark field (physics.md).
    """
    frames = [Frame(BRIGHTFIELD)]
    if max_angle_deg >= 8:
        frames += [Frame(name) for name in PLATE_LEDS]
    bright = [angle for angle in BRIGHT_ANGLES_DEG if angle <= max_angle_deg]
    dark = [angle for angle in DARK_ANGLES_DEG if angle <= max_angle_deg]
    frames += [Frame(f"arm{arm}-{angle}") for arm in ARMS for angle in bright]
    frames += [
        Frame(f"arm{arm}-{angle}", variant)
        for arm in ARMS
        for angle in dark
        for variant in variants
    ]
    return tuple(frames)


# "le36deg-nohe" has 29 images; the table's 30 is a miscount, as its own parameter count shows.
RECIPES: dict[str, tuple[Frame, ...]] = {
    "full": _stack(57, ("low", "high")),
    "full-nohe": _stack(57, ("low",)),
    "le36deg": _stack(36, ("low", "high")),
    "le36deg-nohe": _stack(36, ("low",)),
    "le18deg": _stack(18, ()),
    "le8deg": _stack(8, ()),
    "brightfield": _stack(0, ()),
}


def recipe(name: str) -> tuple[Frame, ...]:
    """The frames of a named recipe, bright field first.

    Raises
    ------
    UserError
        There is no recipe of that name.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise UserError(
            f"there is no recipe '{name}'.", field="recipe", hint=suggest(name, RECIPES)
        ) from None
