"""Which LEDs of an array are meant: by name, group, angle, numerical aperture or azimuth."""

from __future__ import annotations

import math

from pydantic import Field, field_validator

from plsctl.acquire.files.settings import Settings
from plsctl.acquire.leds.geometry import Led, LedGeometry

Range = tuple[float, float]

ROUNDED_DEG = 0.02
"""Tables give places in tenths of a micrometre: an LED this far beyond an end still counts."""

ROUNDED_NA = 0.0003
"""The same of a numerical aperture."""


class Selection(Settings):
    """LEDs of an array; where several things are said, all of them must hold.

    Parameters
    ----------
    leds
        Names of the LED table.
    group
        A group of the LED table.
    na
        From and to this sine of the angle to the optical axis, ends included.
    angle_deg
        From and to this angle to the optical axis, ends included.
    azimuth_deg
        From and to this azimuth, counted from the table's +x towards its +y, ends included;
        [300, 60] and [-60, 60] lead across 0. An LED on the axis has none.
    """

    leds: tuple[str, ...] | None = Field(
        default=None, min_length=1, examples=["[arm1-24, arm2-24]"]
    )
    group: str | None = Field(default=None, min_length=1)
    na: Range | None = Field(default=None, examples=["[0, 0.4]"])
    angle_deg: Range | None = Field(default=None, examples=["[20, 60]"])
    azimuth_deg: Range | None = Field(default=None, examples=["[0, 180]"])

    @field_validator("leds")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if names is not None and names.count(name) > 1:
                raise ValueError(f"'{name}' is named twice")
        return names

    @field_validator("na", "angle_deg")
    @classmethod
    def _ordered(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not 0 <= limits[0] <= limits[1]:
            raise ValueError("it must be [low, high], from 0 on and low not above high")
        return limits

    @field_validator("azimuth_deg")
    @classmethod
    def _on_the_circle(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not all(-360 <= limit <= 360 for limit in limits):
            raise ValueError("azimuths lie between -360 and 360 degrees")
        return limits

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return not self.by_name and not self.by_place

    @property
    def by_name(self) -> bool:
        """Whether the LEDs are named."""
        return self.leds is not None

    @property
    def by_place(self) -> bool:
        """Whether the LED table must be known to tell which they are."""
        return any(
            value is not None for value in (self.group, self.na, self.angle_deg, self.azimuth_deg)
        )

    def choose(self, geometry: LedGeometry) -> tuple[Led, ...]:
        """The LEDs of an array that are meant, in the order of their names or of the table.

        Raises
        ------
        UserError
            One that is named is not there.
        """
        of_these = (
            geometry.leds
            if self.leds is None
            else tuple(geometry.named(name) for name in self.leds)
        )
        return tuple(led for led in of_these if self._holds(led))

    def _holds(self, led: Led) -> bool:
        return (
            (self.group is None or led.group == self.group)
            and _within(led.na, self.na, ROUNDED_NA)
            and _within(led.angle_deg, self.angle_deg, ROUNDED_DEG)
            and (self.azimuth_deg is None or _is_towards(led, *self.azimuth_deg))
        )

    @property
    def label_of_leds(self) -> str:
        """What it is called where nobody gave it a name: `arm1-azimuth-0-180`, `na-0.4-0.6`."""
        if self.leds is not None:
            return "+".join(self.leds)
        parts = [self.group] if self.group is not None else []
        for name, limits in (
            ("na", self.na), ("angle", self.angle_deg), ("azimuth", self.azimuth_deg),
        ):  # fmt: skip
            if limits is not None:
                parts.append(f"{name}-{limits[0]:g}-{limits[1]:g}")
        return "-".join(parts)


def _within(value: float, limits: tuple[float, float] | None, rounded: float) -> bool:
    return limits is None or limits[0] - rounded <= value <= limits[1] + rounded


def _is_towards(led: Led, low_deg: float, high_deg: float) -> bool:
    if abs(high_deg - low_deg) >= 360:
        return True
    if led.na < ROUNDED_NA:
        return False
    azimuth_deg = math.degrees(math.atan2(led.direction[1], led.direction[0]))
    beyond = (azimuth_deg - low_deg + ROUNDED_DEG) % 360
    return beyond <= (high_deg - low_deg) % 360 + 2 * ROUNDED_DEG
