"""Whether the light stays what it was: within a stack, from one position to the next, over a pass.

What changes all frames alike cannot be seen in a frame on its own. A level is the upper quartile of
a bright-field frame's values above black: those lie between cells even where cells lie dense, so
that it hardly depends on what a field shows. Between any two simulated fields, bare glass and the
thick end of the smear included, unstained, stained or under oil, the common factor of the levels
moves by 5 % either way; between neighbours by 4 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.store.records import FrameRecord

STEP = 0.1
"""Two images of one place under one light differ by less than this share."""

DOUBTED = 0.06
"""Neighbouring positions that differ by more are compared once more, at the same place."""

MOST_CHANGE = 0.3
"""A pass during which the light changed by more than this share is not taken in one light."""

WORTH_SAYING = 0.1
"""Changes below this share may as well be what the fields show."""

SMOOTHED, SMOOTHED_FROM = 3, 9
"""The course of a pass is the median of so many positions in a row, if there are so many in all."""

LEAST_COUNTS = 5.0
"""Levels below this many counts say nothing of the light."""


def sampled_counts(image: RawImage) -> NDArray[np.intp]:
    """How often each value occurs in every 5th pixel each way.

    That tells the level of a frame of millions well enough; an odd step meets every colour of a
    mosaic.
    """
    return np.bincount(image[::5, ::5].ravel())


def lit_share(frame: FrameRecord, bayer: str | None) -> float:
    """The share of an image's values that the frame's light reaches: of colours, their own."""
    if frame.colour == "white":
        return 1.0
    if bayer is None:
        return 1 / 3
    return 1 / 2 if frame.colour == "green" else 1 / 4


def level_of(image: RawImage, black_level: float, share: float = 1.0) -> float:
    """The level of an image, (y, x, rgb) or (y, x)."""
    return level(sampled_counts(image), black_level, share)


def level(counts: NDArray[np.intp], black_level: float, share: float = 1.0) -> float:
    """The upper quartile above black of an image with these counts of each value.

    `share` (`lit_share`): it is the quartile of the brightest values, so many of all.
    """
    below = np.concatenate([[0], np.cumsum(counts)])
    edges = np.arange(len(below)) - 0.5
    return float(np.interp((1 - 0.25 * share) * below[-1], below, edges)) - black_level


def differs(factor: float, share: float = STEP) -> bool:
    """Whether a factor is farther from 1 than a share: up or down alike."""
    return factor < 1 - share or factor > 1 / (1 - share)


def reference_index(frames: Sequence[FrameRecord]) -> int:
    """The frame of a stack that is looked at again: the first in bright field, or the first."""
    return next((index for index, frame in enumerate(frames) if frame.bright_field), 0)


def common_factor(now: Mapping[int, float], before: Mapping[int, float]) -> float | None:
    """How many times as bright frames are as before, by index; None where none can tell."""
    ratios = [
        now[index] / before[index]
        for index in now.keys() & before.keys()
        if now[index] >= LEAST_COUNTS and before[index] >= LEAST_COUNTS
    ]
    return float(np.median(ratios)) if ratios else None


def bright_only(frames: Sequence[FrameRecord], levels: Mapping[int, float]) -> dict[int, float]:
    """The levels of the bright-field frames: those of dark field depend on what a field shows."""
    return {index: value for index, value in levels.items() if frames[index].bright_field}


def bright_levels(
    frames: Sequence[FrameRecord], noted: Sequence[Mapping[str, Any]]
) -> dict[int, float]:
    """Levels of a position's bright-field frames, by index, of what was noted about its frames.

    Of positions taken before levels were noted there are none: medians hang on what a field shows.
    """
    return {
        index: float(of["level"])
        for index, (frame, of) in enumerate(zip(frames, noted, strict=True))
        if frame.bright_field and "level" in of
    }


@dataclass(frozen=True)
class LightCourse:
    """The light over a pass: its common factor at each position, in the order they were taken."""

    names: tuple[str, ...]
    factors: tuple[float, ...]
    """Relative to the median position."""

    @property
    def change(self) -> float:
        """By which share the weakest light lay below the strongest; 0 where nothing tells."""
        if not self.factors:
            return 0.0
        return 1 - min(self._smooth) / max(self._smooth)

    @property
    def _smooth(self) -> list[float]:
        half = SMOOTHED // 2 if len(self.factors) >= SMOOTHED_FROM else 0
        values = self.factors
        return [
            float(np.median(values[max(0, place - half) : place + half + 1]))
            for place in range(len(values))
        ]

    @property
    def in_words(self) -> str:
        """What became of the light, such as `the light fell by 18 % from A/1 to C/4`."""
        smooth = self._smooth
        low, high = smooth.index(min(smooth)), smooth.index(max(smooth))
        first, last = sorted((low, high))
        if low < high:
            how = f"rose by {100 * (max(smooth) / min(smooth) - 1):.0f} %"
        else:
            how = f"fell by {100 * self.change:.0f} %"
        return f"the light {how} from {self.names[first]} to {self.names[last]}"


NO_LIGHT = LightCourse((), ())


def light_course(levels: Mapping[str, Mapping[int, float]]) -> LightCourse:
    """The course of the light from the levels (`bright_levels`) of positions, by name."""
    indices = {index for of in levels.values() for index in of}
    usual = {
        index: float(np.median([of[index] for of in levels.values() if index in of]))
        for index in indices
    }
    factors = {name: common_factor(of, usual) for name, of in levels.items()}
    told = {name: factor for name, factor in factors.items() if factor is not None}
    return LightCourse(tuple(told), tuple(told.values()))
