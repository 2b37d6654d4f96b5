"""Which frames of a stack one triggered series of the camera can hold, and the marker frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from plsctl.acquire.store import FrameRecord

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
    wanted: Sequence[Wanted], longest_exposure_sequence: int, bright: FrameRecord | None
) -> tuple[FrameGroup, ...]:
    """Sort frames into series.

    A camera with exposure sequences takes every frame with its own exposure; its series begin and
    end in the dark, with one bright marker in the middle (`bright`, the bright-field frame), so
    that a series that has slipped by one frame shows. Without them a series has one exposure, and
    only one marker, the dark one at its end: every marker costs a whole exposure.
    """
    alike: dict[tuple[float, ...], list[Wanted]] = {}
    for index, frame in wanted:
        own = () if longest_exposure_sequence else (frame.exposure_ms,)
        key = (frame.gain, frame.brightness, *own)
        alike.setdefault(key, []).append((index, frame))
    # A firmware has room for so many patterns; two or three of them are markers.
    most = max(1, longest_exposure_sequence - 3) if longest_exposure_sequence else len(wanted)
    groups = []
    for frames in alike.values():
        for start in range(0, len(frames), most):
            part = frames[start : start + most]
            shots = _with_markers(part, bright if longest_exposure_sequence else None)
            groups.append(FrameGroup(part[0][1].gain, part[0][1].brightness, shots))
    return tuple(groups)


def _with_markers(frames: Sequence[Wanted], bright: FrameRecord | None) -> tuple[Shot, ...]:
    shots = [Shot(frame.leds, frame.exposure_ms, index) for index, frame in frames]
    shortest = min(shot.exposure_ms for shot in shots)
    dark = Shot((), shortest, marker="dark")
    if bright is None:
        return (*shots, dark)
    middle = len(shots) // 2
    marker = Shot(bright.leds, bright.exposure_ms, marker="bright")
    return (dark, *shots[:middle], marker, *shots[middle:], dark)
