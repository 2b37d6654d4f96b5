"""The images of a recipe: what each is called, which LEDs it lights, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from plsctl.acquire.leds.array import Colour
from plsctl.acquire.leds.geometry import Led
from plsctl.acquire.plans.selection import Selection

Variant = Literal["", "low", "high"]

BRIGHTFIELD = "brightfield"

MOST_NAMES_IN_LABEL = 4


@dataclass(frozen=True)
class Frame:
    """One image of a stack: the name of its light in the exposure table, and the variant."""

    led: str
    variant: Variant = ""

    @property
    def label(self) -> str:
        """`brightfield`, `plate-1`, `arm1-24:low`."""
        return f"{self.led}:{self.variant}" if self.variant else self.led


@dataclass(frozen=True)
class LitFrame:
    """A frame with the LEDs of an array that are lit for it.

    `weight` is the share of the exposure table's brightness that it takes.
    """

    frame: Frame
    leds: tuple[Led, ...]
    weight: float = 1.0
    colour: Colour = "white"

    def is_bright_field(self, bright_field_na: float) -> bool:
        """Whether direct light enters an objective of that aperture.

        Two exposures are for dark field: there the role is nominal, so that a calibrated direction
        never moves a frame from one to the other (physics.md).
        """
        inside = (led.is_within(bright_field_na) for led in self.leds)
        return self.frame.variant == "" and (self.frame.led == BRIGHTFIELD or any(inside))


class FrameSettings(Selection):
    """An entry of `frames`: the LEDs that are lit together, or those of which each is an image.

    Parameters
    ----------
    pattern
        `brightfield`, `darkfield` or `all`, as the objective's aperture divides the LEDs.
    each
        One image for each of these LEDs, called by the LED's name.
    weight
        Share of the brightness that the exposure table gives.
    colour
        What an array of coloured LEDs shines in; white is all its colours.
    label
        What the image is called, instead of a name made of its LEDs.
    variants
        Two exposures (`low`, `high`) of a dark-field image.
    """

    pattern: Literal["brightfield", "darkfield", "all"] | None = None
    each: Selection | None = None
    weight: float = Field(default=1.0, gt=0, le=1)
    colour: Colour = "white"
    label: str | None = Field(default=None, min_length=1)
    variants: tuple[Literal["low", "high"], ...] = Field(default=(), examples=["[low, high]"])

    @field_validator("label")
    @classmethod
    def _is_a_name(cls, label: str | None) -> str | None:
        wrong = sorted({sign for sign in label or "" if not (sign.isalnum() or sign in "-_.+")})
        if wrong:
            raise ValueError(
                f"'{wrong[0]}' cannot stand in a label. Use letters, digits, dots, + and hyphens"
            )
        return label

    @field_validator("variants")
    @classmethod
    def _different(cls, variants: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(variants)) < len(variants):
            raise ValueError("a variant is named twice")
        return variants

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [self.pattern is not None, self.each is not None, not self.is_empty]
        if sum(ways) != 1:
            raise ValueError(
                "say in one way which LEDs are lit: 'pattern', 'each', or 'leds', 'group', 'na', "
                "'angle_deg', 'azimuth_deg' and 'na_points' together"
            )
        if self.each is not None and self.each.is_empty:
            raise ValueError("'each' does not say of which LEDs, such as each: {na: [0, 0.4]}")
        if self.each is not None and self.label is not None:
            raise ValueError(
                "the images of 'each' are called by their LEDs, so 'label' is too much"
            )
        if self.label is None and self.leds is not None and len(self.leds) > MOST_NAMES_IN_LABEL:
            raise ValueError(f"give the light of {len(self.leds)} LEDs a name: label: ...")
        if self.label is None and self.na_points is not None:
            raise ValueError("give the light from these directions a name: label: ...")
        return self

    @property
    def own_label(self) -> str:
        """What its image is called, without the variant; not of `each`."""
        return self.label or coloured(self.pattern or self.label_of_leds, self.colour)


def coloured(name: str, colour: Colour) -> str:
    """The name of an image, with its colour behind it where that is not white."""
    return name if colour == "white" else f"{name}-{colour}"
