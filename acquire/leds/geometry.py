"""Where the LEDs are: the geometry table and the directions that follow from it."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import suggest
from plsctl.acquire.files.tables import number, read_table, whole_number
from plsctl.acquire.files.whole_files import write_whole

COLUMNS = ("led", "name", "x_mm", "y_mm", "z_mm", "group")

PATTERNS = ("brightfield", "darkfield", "all")
"""Words for LEDs that no table names."""

RING_WIDTH_DEG = 1.5
"""LEDs whose angles differ by less belong to one ring."""


@dataclass(frozen=True)
class Led:
    """One LED: its number in the array, its name and its place relative to the sample.

    x and y lie along the axes of the stage, z along the optical axis towards the objective; the
    origin is the middle of the field, in focus.
    """

    led: int
    name: str
    x_mm: float
    y_mm: float
    z_mm: float
    group: str

    @property
    def direction(self) -> tuple[float, float]:
        """Direction cosines towards the LED (x right, y down in the image)."""
        distance = math.sqrt(self.x_mm**2 + self.y_mm**2 + self.z_mm**2)
        return self.x_mm / distance, self.y_mm / distance

    @property
    def na(self) -> float:
        """Sine of the angle to the optical axis: an objective of this aperture just takes it in."""
        return math.hypot(*self.direction)

    def is_within(self, numerical_aperture: float) -> bool:
        """Whether its light enters an objective directly (papers/002 equation 3.1)."""
        return self.na < numerical_aperture

    @property
    def angle_deg(self) -> float:
        """Angle to the optical axis."""
        return math.degrees(math.asin(min(1.0, self.na)))


@dataclass(frozen=True)
class LedGeometry:
    """The LEDs of an array in the order of their numbers."""

    leds: tuple[Led, ...]

    @cached_property
    def _by_name(self) -> dict[str, Led]:
        return {led.name: led for led in self.leds}

    @cached_property
    def directions(self) -> NDArray[np.float64]:
        """Direction cosines, shape (LED, 2), order (x, y)."""
        return np.array([led.direction for led in self.leds], dtype=np.float64)

    @cached_property
    def angles_deg(self) -> NDArray[np.float64]:
        """Angles to the optical axis, shape (LED,)."""
        return np.array([led.angle_deg for led in self.leds], dtype=np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """LED names in the order of the table."""
        return tuple(led.name for led in self.leds)

    def named(self, name: str) -> Led:
        """The LED of that name; `UserError` lists the names there are."""
        try:
            return self._by_name[name]
        except KeyError:
            raise UserError(
                f"the LED geometry has no LED '{name}'.", hint=suggest(name, self._by_name)
            ) from None

    def numbered(self, number: int) -> Led:
        """The LED of that number in the array."""
        for led in self.leds:
            if led.led == number:
                return led
        raise UserError(
            f"the LED geometry has no LED number {number}.",
            hint=f"It has {len(self.leds)} LEDs, numbered as in its column 'led'.",
        )

    def within(self, numerical_aperture: float) -> tuple[Led, ...]:
        """The LEDs whose light enters an objective directly (papers/002 equation 3.1)."""
        return tuple(led for led in self.leds if led.is_within(numerical_aperture))

    def outside_ring(self, numerical_aperture: float) -> tuple[Led, ...]:
        """The LEDs just outside an aperture; none for an aperture that takes in all of them.

        Under light that just misses the objective only edges shine, and they are thinnest in
        focus. In bright field a thin phase object does the opposite: it nearly vanishes there.
        """
        outside = [led for led in self.leds if not led.is_within(numerical_aperture)]
        nearest_deg = min((led.angle_deg for led in outside), default=0.0)
        return tuple(led for led in outside if led.angle_deg <= nearest_deg + RING_WIDTH_DEG)

    def inside_ring(self, numerical_aperture: float) -> tuple[Led, ...]:
        """The LEDs just inside an aperture: its most oblique direct light."""
        inside = self.within(numerical_aperture)
        farthest_deg = max((led.angle_deg for led in inside), default=0.0)
        return tuple(led for led in inside if led.angle_deg >= farthest_deg - RING_WIDTH_DEG)

    def pattern(self, name: str, numerical_aperture: float) -> tuple[Led, ...]:
        """The LEDs of a pattern: `brightfield`, `darkfield`, `all`, a group or one LED's name."""
        if name == "brightfield":
            return self.within(numerical_aperture)
        if name == "darkfield":
            inside = set(self.within(numerical_aperture))
            return tuple(led for led in self.leds if led not in inside)
        if name == "all":
            return self.leds
        group = tuple(led for led in self.leds if led.group == name)
        if group:
            return group
        if name in self._by_name:
            return (self._by_name[name],)
        groups = sorted({led.group for led in self.leds})
        known = [*PATTERNS, *groups, *self.names]
        raise UserError(f"there is no pattern '{name}'.", hint=suggest(name, known))


def load_geometry(path: Path) -> LedGeometry:
    """Read an LED geometry table (CSV: led, name, x_mm, y_mm, z_mm, group)."""
    rows = read_table(path, COLUMNS)
    leds: list[Led] = []
    for line, row in rows:
        led = Led(
            led=whole_number(row, "led", path, line),
            name=row["name"],
            x_mm=number(row, "x_mm", path, line),
            y_mm=number(row, "y_mm", path, line),
            z_mm=number(row, "z_mm", path, line),
            group=row["group"],
        )
        _check_names(led, path, line)
        if led.z_mm >= 0:
            where = "on the objective's side of" if led.z_mm > 0 else "beside"
            raise UserError(
                f"z_mm = {row['z_mm']}: LED {led.led} '{led.name}' would lie {where} the slide.",
                file=path,
                line=line,
                field="z_mm",
                hint="z grows from the slide towards the objective, and the light comes from the "
                "other side: z_mm is negative (docs/led-arrays.md has a drawing).",
            )
        if led.name in {other.name for other in leds} or led.led in {other.led for other in leds}:
            raise UserError(
                f"LED {led.led} '{led.name}' stands in the table twice.",
                file=path,
                line=line,
                hint="Give every LED one row.",
            )
        place = (led.x_mm, led.y_mm, led.z_mm)
        there = next((o for o in leds if (o.x_mm, o.y_mm, o.z_mm) == place), None)
        if there is not None:
            raise UserError(
                f"LED {led.led} '{led.name}' and LED {there.led} '{there.name}' lie at one place.",
                file=path,
                line=line,
                field="x_mm",
                hint="Correct x_mm, y_mm and z_mm of one of them.",
            )
        leds.append(led)
    return LedGeometry(tuple(leds))


def _check_names(led: Led, path: Path, line: int) -> None:
    """`UserError` where an LED's number, name or group cannot be told from others."""
    if led.led < 0:
        raise UserError(
            f"led = {led.led}: an LED's number is 0 or above.",
            file=path,
            line=line,
            field="led",
            hint="Number the LEDs as the array does, from 0.",
        )
    for field, name in (("name", led.name), ("group", led.group)):
        if field == "name" and not name:
            raise UserError(
                f"LED {led.led} has no name.", file=path, line=line, field=field,
                hint="Give it one, such as LED0.",
            )  # fmt: skip
        if name in PATTERNS:
            raise UserError(
                f"{field} = '{name}': this word means LEDs by the objective's aperture.",
                file=path,
                line=line,
                field=field,
                hint="Give another name.",
            )
        if ":" in name or not name.isprintable():
            raise UserError(
                f"{field} = {name!r}: a colon or a line break cannot stand in a name.",
                file=path,
                line=line,
                field=field,
                hint="Use letters, digits, dots and hyphens.",
            )


def standard_array() -> LedGeometry:
    """The 43-LED array of papers/002 section 3.1.1: three LEDs on a plate, five arms of eight."""
    leds: list[Led] = []
    for k, azimuth_deg in enumerate((90, 210, 330), start=1):
        radius = 80 * math.tan(math.radians(8))
        azimuth = math.radians(azimuth_deg)
        x, y = radius * math.cos(azimuth), radius * math.sin(azimuth)
        leds.append(Led(len(leds), f"plate-{k}", x, y, -80.0, "plate"))
    for k in range(5):
        azimuth = math.radians(90 + 72 * k)
        for angle_deg in (10, 18, 24, 30, 36, 43, 50, 57):
            angle = math.radians(angle_deg)
            x = 80 * math.sin(angle) * math.cos(azimuth)
            y = 80 * math.sin(angle) * math.sin(azimuth)
            z = -80 * math.cos(angle)
            leds.append(Led(len(leds), f"arm{k + 1}-{angle_deg}", x, y, z, f"arm{k + 1}"))
    return LedGeometry(tuple(leds))


def save_geometry(geometry: LedGeometry, path: Path) -> None:
    """Write the table that `load_geometry` reads."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for led in geometry.leds:
        place = (f"{value:.4f}" for value in (led.x_mm, led.y_mm, led.z_mm))
        writer.writerow([led.led, led.name, *place, led.group])
    write_whole(path, text.getvalue())
