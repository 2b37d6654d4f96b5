"""Steps of the light: seen, told apart from what a field shows, and their positions retaken.

A stack ends with a second image of its reference frame: same place, same light, or the light has
changed meanwhile. Between two positions the fields differ too; where their levels do by more than
fields can, the stage goes back to the position before, and looks there once more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plsctl.acquire.capture.light import (
    DOUBTED,
    bright_only,
    common_factor,
    differs,
    level_of,
    lit_share,
    reference_index,
)
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.store.journal import Journal
from plsctl.acquire.store.records import FrameRecord

DEPARTS = 0.08
"""Bright-field frames that depart from the others of their stack by more, against the position
before, are taken again with them: a dip of the light that has passed by the end of the stack."""

DEPARTS_IN_THE_DARK = 0.35
"""The same in dark field, where it is the cells that shine: at the edge of a smear frames depart by
30 % in a steady light."""

LEAST_DRIFT = 0.01
"""Changes within a stack below this share are noise, not drift."""

MOST_DRIFT = 0.2
"""Drift is continued to the next position by no more than this (logarithm of the factor)."""

Place = tuple[float, float, float]
"""Where the stage was sent: x, y and z in micrometres."""


@dataclass(frozen=True)
class StackLight:
    """How bright the frames of a position are, by index: levels and means above black.

    `closing` is the level of the reference frame, taken once more at the end; None without it.
    """

    levels: Mapping[int, float]
    means: Mapping[int, float]
    closing: float | None

    def times(self, factor: float) -> StackLight:
        """The same in another light."""
        return StackLight(
            {index: factor * value for index, value in self.levels.items()},
            {index: factor * value for index, value in self.means.items()},
            self.closing,
        )

    def ratio(self, index: int, before: StackLight, bright: bool) -> float | None:
        """How many times as bright a frame is as before; None where it is too dark to tell."""
        own, other = (of.levels if bright else of.means for of in (self, before))
        if index not in own or index not in other:
            return None
        return common_factor({index: own[index]}, {index: other[index]})


@dataclass(frozen=True)
class _Before:
    """The position taken before: where, how bright in the light at its end, and its drift."""

    name: str
    place_um: Place
    stack: StackLight
    ended_s: float
    drift_per_s: float
    """Logarithm of the light's factor in a second, from the beginning of the stack to its end."""

    def at(self, time_s: float) -> StackLight:
        """How bright it is at a time, if the light drifts on as it did."""
        drift = self.drift_per_s * (time_s - self.ended_s)
        return self.stack.times(math.exp(float(np.clip(drift, -MOST_DRIFT, MOST_DRIFT))))


class LightGuard:
    """Watches the light of one run of a pass.

    Parameters
    ----------
    first
        Levels (`bright_levels`) of the pass's first position, if an earlier run has taken it.
    """

    def __init__(
        self,
        microscope: Microscope,
        journal: Journal,
        frames: Sequence[FrameRecord],
        black_level: float,
        first: Mapping[int, float] | None,
    ) -> None:
        self._microscope = microscope
        self._journal = journal
        self._frames = frames
        self._black_level = black_level
        self._reference = reference_index(frames)
        self._first = dict(first or {})
        self._before: _Before | None = None
        self._compared = False
        self._began_s = 0.0
        self._checks = microscope.hardware.checks.brightness

    def begin(self) -> None:
        """A new position: what the array knows of itself is sent again with its first light."""
        self._compared = False
        self._began_s = self._microscope.clock.now()
        self._microscope.leds.forget_state()

    def paused(self) -> None:
        """The scan was paused: the light may have drifted meanwhile."""
        self._before = None

    def problem(self, name: str, place_um: Place, stack: StackLight, is_last: bool = False) -> str:
        """Why all frames of a position must be taken again; empty if its light is right.

        Parameters
        ----------
        place_um
            Where the stage was sent (x, y, z): it stands there again afterwards.
        is_last
            The frames cannot be taken again: what the position before shows in the same light is
            taken for what this field shows.

        Raises
        ------
        HardwareError
            The light has changed since the position before, and stays so.
        """
        if not self._checks:
            return ""
        within = self._within(stack)
        if within is not None and differs(within):
            self._set_up(name, within, "within the stack")
            return f"the light changed meanwhile, to {within:.2f} of what it was"
        if self._before is None or self._compared:
            return ""
        doubt = self._doubt(stack, self._before)
        if not doubt:
            return ""
        # What is the same once more is what the field shows.
        self._compared = True
        is_same = self._compare(name, self._before)
        self._go_to(place_um)
        return "" if is_same and is_last else doubt

    def _doubt(self, stack: StackLight, before: _Before) -> str:
        """What speaks for another light than at the position before; empty if nothing does."""
        known = before.at(self._began_s)
        since = common_factor(bright_only(self._frames, stack.levels), known.levels)
        if since is not None and differs(since, DOUBTED):
            return f"was, as all others, {since:.2f} times as bright as at position {before.name}"
        for index, ratio in self._departures(stack, known).items():
            return (
                f"the frame '{self._frames[index].label}' was {ratio:.2f} times as bright as "
                f"others let expect from position {before.name}"
            )
        return ""

    def _departures(self, now: StackLight, before: StackLight) -> dict[int, float]:
        """Frames that have become brighter or darker than others of their kind, by index."""
        departed: dict[int, float] = {}
        for bright, limit in ((True, DEPARTS), (False, DEPARTS_IN_THE_DARK)):
            ratios = {
                index: ratio
                for index, frame in enumerate(self._frames)
                if frame.bright_field == bright
                and (ratio := now.ratio(index, before, bright)) is not None
            }
            usual = float(np.median(list(ratios.values()))) if ratios else 1.0
            departed |= {i: r / usual for i, r in ratios.items() if differs(r / usual, limit)}
        return departed

    def _compare(self, name: str, before: _Before) -> bool:
        """Look at the position before once more, and say whether the light is the same there.

        An array that shines otherwise is set up anew.
        """
        now = self._look_back(before)
        if now is None or not differs(now):
            self._journal.append("light_compared", position=name, factor=now)
            return True
        self._set_up(name, now, f"since position {before.name}")
        lasting = self._look_back(before)
        if lasting is not None and differs(lasting):
            raise HardwareError(
                f"the light is {lasting:.2f} of what it was at position {before.name}, also after "
                "the LED array was set up anew; nothing of this position was kept.",
                hint="Check the supply and the cables of the LED array. Then run the same command "
                "again: it goes on with the light as it is then, and says how much it changed; "
                "--fresh takes the whole pass in one light.",
            )
        return False

    def finished(self, name: str, place_um: Place, stack: StackLight) -> float | None:
        """A position is taken; the factor of its light relative to the pass's first position."""
        bright = bright_only(self._frames, stack.levels)
        self._first = self._first or bright
        # What has drifted while the stack was taken does not count as a step to the next.
        within, now_s = self._within(stack) or 1.0, self._microscope.clock.now()
        drift = math.log(within) if differs(within, LEAST_DRIFT) else 0.0
        drift_per_s = drift / max(now_s - self._began_s, 1e-3)
        self._before = _Before(name, place_um, stack.times(within), now_s, drift_per_s)
        return common_factor(bright, self._first)

    def _within(self, stack: StackLight) -> float | None:
        index = self._reference
        if stack.closing is None or index not in stack.levels:
            return None
        return common_factor({index: stack.closing}, {index: stack.levels[index]})

    def _set_up(self, name: str, factor: float, when: str) -> None:
        self._journal.append("light_step", position=name, factor=round(factor, 4), when=when)
        self._microscope.leds.set_up()

    def _look_back(self, before: _Before) -> float | None:
        """How many times as bright the position before is now; None where that is not known."""
        index = self._reference
        if index not in before.stack.levels:
            return None
        self._go_to(before.place_um)
        frame = self._frames[index]
        self._microscope.light(frame.leds, frame.brightness, frame.colour)
        image = self._microscope.snap(frame.exposure_ms, frame.gain)
        self._microscope.leds_off()
        share = lit_share(frame, self._microscope.hardware.camera.bayer)
        level = level_of(image, self._black_level, share)
        known = before.at(self._microscope.clock.now())
        return common_factor({index: level}, {index: known.levels[index]})

    def _go_to(self, place_um: Place) -> None:
        x, y, z = place_um
        self._microscope.move_xy(x, y)
        self._microscope.move_z(z)
