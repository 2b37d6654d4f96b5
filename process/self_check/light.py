"""LEDs that give less light than at calibration, or than earlier in the pass, from frame levels.

How bright a frame is hangs on what its field shows, but much alike for LEDs that are as steep. So
each LED is compared with those; a lamp that has changed as a whole is not seen here
(`acquire.scanning.light_guard` does).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.calibration_kinds import DIMMED
from plsctl.acquire.store.records import PassAttributes
from plsctl.process.calibration.brightness import light_left
from plsctl.process.calibration.exchange import usual

LEAST_COUNTS = 2.0
MOST_SATURATED = 0.05
"""Frames that are darker, or of which a larger share is saturated, tell no light."""

POSITIONS = 3
"""So many positions tell the light of an LED: the median of fewer follows one field."""

REMEMBERED = 9
"""So many positions are looked at, the latest."""

CHANGED = 0.08
"""An LED whose light has changed by this share (logarithm) may have been moved, too."""

RING = 0.02
"""LEDs in dark field whose sines differ by less are a ring."""

RIM = 0.03
"""So near the rim, as a share of the aperture, an LED may have come to the other side of it."""

FAR = 0.3
"""Pairs that are nearer, as a share of the farthest, tell no slope."""

LEAST_ALIKE = 3
"""Fewer LEDs are compared with nothing."""


@dataclass(frozen=True)
class SingleLed:
    """The frame of one LED: its index in the stack, and what it is lit by.

    `light` is exposure (ms) x gain x brightness, `steepness` the sine of the LED's angle.
    """

    index: int
    led: int
    name: str
    light: float
    direction: tuple[float, float]
    lit_from: tuple[float, float]
    bright: bool

    @property
    def steepness(self) -> float:
        """Sine of the angle, by the table."""
        return math.hypot(*self.direction)


def single_leds(attributes: PassAttributes) -> tuple[SingleLed, ...]:
    """The frames under one white LED each, each LED once, at its low exposure."""
    found: dict[int, SingleLed] = {}
    for index, frame in enumerate(attributes.frames):
        if frame.direction is None or len(frame.leds) != 1 or frame.colour != "white":
            continue
        if frame.variant != "high" and frame.leds[0] not in found:
            found[frame.leds[0]] = SingleLed(
                index=index,
                led=frame.leds[0],
                name=frame.led,
                light=frame.light,
                direction=frame.direction,
                lit_from=frame.lit_from or frame.direction,
                bright=frame.bright_field,
            )
    return tuple(found.values())


class LedLevels:
    """Levels of single-LED frames over a pass."""

    def __init__(self, leds: Sequence[SingleLed], black_level: float) -> None:
        self._leds = leds
        self._black_level = black_level
        self._groups = [
            np.array([led.bright == bright for led in leds]) for bright in (True, False)
        ]
        self._steepness = np.array([led.steepness for led in leds])
        self.names: list[str] = []
        self._rows: list[NDArray[np.float64]] = []

    def add(self, name: str, frames: Sequence[Mapping[str, Any]]) -> None:
        """Take in a position: what was noted about its frames as they were taken."""
        row = np.full(len(self._leds), np.nan)
        for place, led in enumerate(self._leds):
            noted = frames[led.index]
            counts = float(noted["mean"]) - self._black_level
            if counts >= LEAST_COUNTS and noted["saturated"] <= MOST_SATURATED:
                row[place] = math.log(counts / led.light)
        for group in self._groups:
            known = group & np.isfinite(row)
            if known.any():
                row[group] -= np.median(row[known])
        self.names.append(name)
        self._rows.append(row)

    @property
    def courses(self) -> NDArray[np.float64]:
        """Light of each LED over what others in bright or dark field give, (position, LED)."""
        return np.exp(np.array(self._rows).reshape(len(self._rows), len(self._leds)))

    def now(self) -> NDArray[np.float64]:
        """Light of each LED, of late, in a unit of its own; NaN where it is not known, (LED,)."""
        return np.exp(_medians(self._rows[-REMEMBERED:], POSITIONS))

    def left_since(
        self, before: Mapping[str, float], steep_now: NDArray[np.float64], na: float
    ) -> NDArray[np.float64]:
        """What is left of the light that was kept, by the LED's name; NaN where not known, (LED,).

        `steep_now` are the sines of the LEDs' angles as the array stands now. Dark field follows
        them: what a ring of LEDs shows of that is taken out. At the rim of the aperture it cannot.
        """
        kept = np.array([before.get(led.name, np.nan) for led in self._leds])
        now = self.now()
        known = np.isfinite(now) & np.isfinite(kept)
        if all((known & group).sum() < LEAST_ALIKE for group in self._groups):
            return np.full(len(self._leds), np.nan)
        left = light_left(now, kept, self._steepness, self._steepness, na)
        raised = steep_now - self._steepness
        return self._without_angle(left, raised, na) if raised.any() else left

    def _without_angle(
        self, left: NDArray[np.float64], raised: NDArray[np.float64], na: float
    ) -> NDArray[np.float64]:
        """Without what a change of angle explains, ring by ring in dark field, (LED,)."""
        found = left.copy()
        dark = self._groups[1] & np.isfinite(left)
        found[dark] = np.nan
        rim = np.abs(self._steepness - na) < RIM * na + float(np.abs(raised).max())
        for led in np.flatnonzero(dark & ~rim):
            ring = np.flatnonzero(dark & (np.abs(self._steepness - self._steepness[led]) < RING))
            if len(ring) > LEAST_ALIKE:
                rest = _without_slope(np.log(left[ring]), raised[ring])
                found[led] = np.exp(rest[int(np.flatnonzero(ring == led)[0])])
        return found

    def left_in_pass(self, latest: int = POSITIONS) -> NDArray[np.float64]:
        """What the latest positions have left of the light of those before, (LED,)."""
        earlier = self._rows[-REMEMBERED - latest : -latest]
        left = np.full(len(self._leds), np.nan)
        if len(earlier) < POSITIONS:
            return left
        change = _medians(self._rows[-latest:], latest) - _medians(earlier, POSITIONS)
        for group in self._groups:
            leds = np.flatnonzero(group & np.isfinite(change))
            if len(leds) >= LEAST_ALIKE:
                left[leds] = np.exp(change[leds] - usual(change[leds], self._steepness[leds]))
        return left

    def dimmed_from(self, led: int) -> str:
        """The first of the latest positions where an LED that has dimmed gave less light."""
        before = _medians(self._rows[-REMEMBERED - POSITIONS : -POSITIONS], 1)[led]
        latest = [row[led] - before for row in self._rows[-POSITIONS:]]
        names = self.names[-POSITIONS:]
        limit = math.log(DIMMED) / 2
        return next(
            (n for n, change in zip(names, latest, strict=True) if change < limit), names[0]
        )

    def has_changed(self) -> bool:
        """Whether single LEDs show otherwise than before: dimmed, or lit from elsewhere."""
        left = self.left_in_pass(2)
        return bool((np.abs(np.log(left[np.isfinite(left)])) > CHANGED).any())


def _without_slope(values: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values less their slope along something, and less their median, (n,).

    The slope is the median over all pairs (Theil and Sen): one value that is off moves it little.
    """
    one, other = np.triu_indices(len(values), 1)
    apart = along[other] - along[one]
    far = np.abs(apart) > FAR * float(np.abs(apart).max())
    slope = float(np.median((values[other] - values[one])[far] / apart[far])) if far.any() else 0.0
    rest = values - slope * along
    return np.asarray(rest - np.median(rest))


def dimmed(left: NDArray[np.float64]) -> NDArray[np.int64]:
    """LEDs of which clearly less light is left, (n,)."""
    return np.flatnonzero(np.nan_to_num(left, nan=1.0) < DIMMED)


def _medians(rows: Sequence[NDArray[np.float64]], least: int) -> NDArray[np.float64]:
    """Median of each LED over positions; NaN where fewer tell it than wanted."""
    values = np.array(rows)
    found = np.full(values.shape[1], np.nan)
    for led, of in enumerate(values.T):
        known = of[np.isfinite(of)]
        if len(known) >= least:
            found[led] = np.median(known)
    return found
