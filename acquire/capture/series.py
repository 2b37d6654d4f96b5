"""Triggered series: which frames one can hold, and whether the images are those expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.devices.camera import SeriesImage
from plsctl.acquire.devices.hardware_parts import CameraSettings
from plsctl.acquire.leds.array import Colour
from plsctl.acquire.store.records import FrameRecord

Wanted = tuple[int, FrameRecord]
"""A frame of the recipe with its index in the stack."""

Marker = Literal["dark", "bright"]

DARK_COUNTS = 3 / 255
"""A dark marker shows no value above the black level by more than this share of full scale."""

BRIGHT_SHARE = 0.2
"""A bright marker's median lies above the black level by at least this share of full scale."""

LATE_MS = 50.0
"""Exposures of a series follow one another; where the camera does not count its frames, one that
begins later than this after it could have begun had a frame before it that is missing."""


@dataclass(frozen=True)
class Shot:
    """One exposure of a series: a frame of the recipe, or a marker whose look is known."""

    leds: tuple[int, ...]
    exposure_ms: float
    index: int | None = None
    marker: Marker | None = None


@dataclass(frozen=True)
class FrameGroup:
    """Exposures taken in one series, all with the same gain, brightness and colour."""

    gain: float
    brightness: float
    shots: tuple[Shot, ...]
    colour: Colour = "white"

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
    by_settings: dict[tuple[float | str, ...], list[Wanted]] = {}
    for index, frame in wanted:
        own = () if longest_exposure_sequence else (frame.exposure_ms,)
        settings = (frame.gain, frame.brightness, frame.colour, *own)
        by_settings.setdefault(settings, []).append((index, frame))
    markers = 3
    most = max(1, longest_exposure_sequence - markers) if longest_exposure_sequence else len(wanted)
    groups = []
    for frames in by_settings.values():
        ordered = sorted(frames, key=lambda entry: entry[1].exposure_ms)
        for start in range(0, len(ordered), most):
            part = ordered[start : start + most]
            shots = tuple(Shot(frame.leds, frame.exposure_ms, index) for index, frame in part)
            if longest_exposure_sequence:
                # In one colour the marker would light a third of the pixels: it is left out.
                is_white = part[0][1].colour == "white"
                shots = _between_markers(shots, bright if is_white else None, readout_ms)
            else:
                shots = (*shots, Shot((), shots[0].exposure_ms, marker="dark"))
            frame = part[0][1]
            groups.append(FrameGroup(frame.gain, frame.brightness, shots, frame.colour))
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


Taken = tuple[Shot, SeriesImage]
"""An exposure of the series, and the image that came for it."""


def slipped(before: Taken | None, now: Taken, readout_ms: float) -> str:
    """Why, by the camera's count and time, an image is not the next one; empty if it is.

    `before` is the image before it in the series, None for the first.
    """
    if before is None:
        return ""
    last_shot, last = before
    _, got = now
    if got.number is not None and last.number is not None and got.number != last.number + 1:
        return (
            f"the camera's frame {got.number} came after its frame {last.number}: "
            "frames are missing or out of order"
        )
    if got.time_ms is None or last.time_ms is None:
        return ""
    apart_ms = got.time_ms - last.time_ms
    # Cameras give their time in steps of up to a millisecond.
    if apart_ms < last_shot.exposure_ms - 1:
        return f"two exposures began {apart_ms:.1f} ms apart, and the first took longer"
    if got.number is None and apart_ms > max(last_shot.exposure_ms, readout_ms) + LATE_MS:
        return f"an exposure began {apart_ms:.1f} ms after the one before: too late"
    return ""


def wrong_marker(shot: Shot, image: RawImage, camera: CameraSettings) -> str:
    """Why an image, (y, x, rgb) or (y, x), is not the expected marker; empty if it is."""
    if shot.marker is None:
        return ""
    full_scale = 2**camera.bit_depth - 1
    sample = image[::5, ::5]  # an odd step meets every colour of a mosaic
    if shot.marker == "dark":
        # A few pixels of any sensor are always bright.
        brightest = float(np.quantile(sample, 0.999)) - camera.black_level
        was_dark = brightest <= DARK_COUNTS * full_scale
        return "" if was_dark else "the dark marker frame was not dark"
    median = float(np.median(sample)) - camera.black_level
    was_bright = median >= BRIGHT_SHARE * full_scale
    return "" if was_bright else "the bright marker frame was not bright"
