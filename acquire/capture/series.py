"""Which frames of a stack one triggered series of the camera can hold, and the marker frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from plsctl.acquire.store.reader import FrameRecord

Wanted = tuple[int, FrameRecord]
"""A frame of the recipe with its index in the stack."""

Marker = Literal["dark", "bright"]


@dataclass(frozen=True)
class Shot:
    """One exposure of a series: a frame of the recipe, or a marker whose look is known."""

    leds: tuple[int, ...]
    exposure_ms: float
    index: int | None = None
    marker: Marker | None = None


@dataclass(frozen=True)
class FrameGroup:
    """Exposures taken in one series, all with the same gain and brightness."""

    gain: float
    brightness: float
    shots: tuple[Shot, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """The frames of the recipe in it, by their index in the stack."""
        return tuple(shot.index for shot in self.shots if shot.index is not None)


def group_frames(
    wanted: Sequence[Wanted],
    longest_exposure_sequence: int,
    bright: FrameRecord | None,
    readout_ms: float,
) -> tuple[FrameGroup, ...]:
    """Sort frames into series, each from the shortest exposure to the longest, but for markers.

    In that order the camera has always read out one image before the next exposure ends, if only
    no pattern is shorter than the readout: a trigger that comes earlier would be lost.

    A camera with exposure sequences takes every frame with its own exposure; its series begin and
    end in the dark, with one bright marker in the middle (`bright`, the bright-field frame), so
    that a series that has slipped by one frame shows. Without them a series has one exposure, and
    only one marker, the dark one at its end: every marker costs a whole exposure.
    """
    alike: dict[tuple[float, ...], list[Wanted]] = {}
    for index, frame in wanted:
        own = () if longest_exposure_sequence else (frame.exposure_ms,)
        alike.setdefault((frame.gain, frame.brightness, *own), []).append((index, frame))
    markers = 3
    most = max(1, longest_exposure_sequence - markers) if longest_exposure_sequence else len(wanted)
    groups = []
    for frames in alike.values():
        ordered = sorted(frames, key=lambda entry: entry[1].exposure_ms)
        for start in range(0, len(ordered), most):
            part = ordered[start : start + most]
            shots = tuple(Shot(frame.leds, frame.exposure_ms, index) for index, frame in part)
            if longest_exposure_sequence:
                shots = _between_markers(shots, bright, readout_ms)
            else:
                shots = (*shots, Shot((), shots[0].exposure_ms, marker="dark"))
            groups.append(FrameGroup(part[0][1].gain, part[0][1].brightness, shots))
    return tuple(groups)


def _between_markers(
    shots: tuple[Shot, ...], bright: FrameRecord | None, readout_ms: float
) -> tuple[Shot, ...]:
    # Markers are short, and never so short that their trigger would come within a readout.
    begin = Shot((), min(shots[0].exposure_ms, readout_ms or shots[0].exposure_ms), marker="dark")
    end = Shot((), readout_ms or shots[0].exposure_ms, marker="dark")
    if bright is None:
        return (begin, *shots, end)
    long_enough = (i for i, shot in enumerate(shots) if shot.exposure_ms >= readout_ms)
    place = max(len(shots) // 2, next(long_enough, len(shots)))
    marker = Shot(bright.leds, max(bright.exposure_ms, readout_ms), marker="bright")
    return (begin, *shots[:place], marker, *shots[place:], end)
