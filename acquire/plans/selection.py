"""Which LEDs of an array are meant: by name, group, angle, aperture, azimuth or direction."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, field_validator, model_validator

from plsctl.acquire.files.settings import Settings
from plsctl.acquire.leds.geometry import Led, LedGeometry

Range = tuple[float, float]

Point = tuple[float, float]

REACH_NA = 0.05
"""How far an LED may lie from a direction that is asked for, where nothing else is said."""

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
    na_points
        For each of these directions [x, y] the LED that lies nearest, on any array. They are
        numerical apertures along the table's +x and +y: the direction cosines of the light.
    na_reach
        How far from its direction such an LED may lie, as a numerical aperture; 0.05 if not said.
    """

    leds: tuple[str, ...] | None = Field(
        default=None, min_length=1, examples=["[arm1-24, arm2-24]"]
    )
    group: str | None = Field(default=None, min_length=1)
    na: Range | None = Field(default=None, examples=["[0, 0.4]"])
    angle_deg: Range | None = Field(default=None, examples=["[20, 60]"])
    azimuth_deg: Range | None = Field(default=None, examples=["[0, 180]"])
    na_points: tuple[Point, ...] | None = Field(
        default=None, min_length=1, examples=["[[0.1, 0], [-0.05, 0.2]]"]
    )
    na_reach: float | None = Field(default=None, gt=0, examples=["0.05"])

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

    @field_validator("na_points")
    @classmethod
    def _are_directions(cls, points: tuple[Point, ...] | None) -> tuple[Point, ...] | None:
        for x, y in points or ():
            if not math.hypot(x, y) <= 1:
                raise ValueError(f"[{x:g}, {y:g}] is no direction: its aperture is above 1")
        return points

    @model_validator(mode="after")
    def _reach_of_points(self) -> Self:
        if self.na_reach is not None and self.na_points is None:
            raise ValueError("'na_reach' says how far LEDs may lie from 'na_points': give these")
        return self

    @property
    def reach(self) -> float:
        """How far an LED may lie from its direction, as a numerical aperture."""
        return REACH_NA if self.na_reach is None else self.na_reach

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
            value is not None
            for value in (self.group, self.na, self.angle_deg, self.azimuth_deg, self.na_points)
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
        chosen = tuple(led for led in of_these if self._holds(led))
        if self.na_points is None:
            return chosen
        near = {led for led, far in nearest_leds(self.na_points, geometry) if self.reaches(far)}
        return tuple(led for led in chosen if led in near)

    def reaches(self, distance: float) -> bool:
        """Whether an LED so far from its direction still stands for it."""
        return distance <= self.reach + ROUNDED_NA

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


def nearest_leds(points: tuple[Point, ...], geometry: LedGeometry) -> tuple[tuple[Led, float], ...]:
    """For each direction the LED that lies nearest, and how far from it, as an aperture."""
    return tuple(
        min(
            ((led, math.dist(point, led.direction)) for led in geometry.leds),
            key=lambda found: found[1],
        )
        for point in points
    )


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
