"""What a frame must look like to be kept: size, light, newness, brightness and shading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.capture.light import level, sampled_counts
from plsctl.acquire.capture.shading import blocks, wrong_shading
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.store.images import checksum
from plsctl.acquire.store.records import FrameRecord, PassAttributes

DARK_SHARE = 0.05
"""A bright-field frame whose median lies below this share of full scale had no light."""

UNLIKE = 4.0
"""Frames of a position are brighter or darker than at the position before by a common factor, for
the cells in it; one that departs from that by more than this factor is not what it should be."""

UNLIKE_AT_FIRST = 20.0
"""The same at the first position, where dark-field frames can only be compared to one another."""

FAINT_SHARE = 0.002
"""Means nearer to the black level than this share of full scale tell nothing."""


@dataclass(frozen=True)
class FrameMetadata:
    """What was measured on one frame as it was taken."""

    crc32: int
    median: float
    mean: float
    saturated: float
    takes: int
    time_s: float = 0.0
    camera_number: int | None = None
    level: float = 0.0
    """Upper quartile above black (`capture.light`)."""

    def as_dict(self) -> dict[str, float | int]:
        """For the journal and the position's attributes."""
        metadata: dict[str, float | int] = {
            "crc32": self.crc32,
            "median": round(self.median, 3),
            "mean": round(self.mean, 3),
            "level": round(self.level, 3),
            "saturated": round(self.saturated, 6),
            "takes": self.takes,
            "time_s": round(self.time_s, 4),
        }
        if self.camera_number is not None:
            metadata["camera_number"] = self.camera_number
        return metadata


def measure(
    image: RawImage,
    attributes: PassAttributes,
    takes: int,
    time_s: float,
    camera_number: int | None = None,
    share: float = 1.0,
) -> FrameMetadata:
    """Checksum and brightness of a frame, (y, x, rgb) or (y, x); `share` as for `level`."""
    counts = sampled_counts(image)
    below, total = np.cumsum(counts), counts.sum()
    # An even number of values has two middle ones.
    middle = np.searchsorted(below, ((total - 1) // 2, total // 2), side="right")
    return FrameMetadata(
        crc32=checksum(image),
        median=float(middle.mean()),
        mean=float(counts @ np.arange(len(counts)) / total),
        saturated=float(counts[attributes.full_scale :].sum() / total),
        takes=takes,
        time_s=time_s,
        camera_number=camera_number,
        level=level(counts, attributes.black_level, share),
    )


class FrameInspector:
    """Checks the frames of one position after another."""

    def __init__(
        self, hardware: Hardware, attributes: PassAttributes, expected: Sequence[float] = ()
    ) -> None:
        self._size_px = hardware.camera.size_px
        self._checks = hardware.checks
        self._attributes = attributes
        self._expected = tuple(expected)
        """Mean of every frame at the last position, above the black level."""
        self._first: RawImage | None = None
        self._last_crc32: int | None = None
        self._doubted = False
        """Whether this position's dark field was taken a second time."""
        self._blocks: dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}

    def begin(self) -> None:
        """A new position."""
        self._first = None
        self._blocks = {}
        self._doubted = False

    def problem(
        self, index: int, frame: FrameRecord, image: RawImage, metadata: FrameMetadata
    ) -> str:
        """What is wrong with this frame; empty if it is right."""
        problem = self._shape_problem(image) or self._light_problem(frame, metadata)
        repeated = self._checks.repeats and metadata.crc32 == self._last_crc32
        # Frames without light are alike: 8 bits do not show the noise of the dark.
        if not problem and repeated and self._shows_light(metadata):
            problem = "was the image before it once more"
        self._last_crc32 = metadata.crc32
        if problem:
            return problem
        if self._first is None:
            self._first = image
        if self._checks.direction and frame.bright_field and frame.direction is not None:
            self._blocks[index] = blocks(image)
        return ""

    def _shows_light(self, metadata: FrameMetadata) -> bool:
        attributes = self._attributes
        return metadata.mean - attributes.black_level > FAINT_SHARE * attributes.full_scale

    def _shape_problem(self, image: RawImage) -> str:
        first = self._first
        if first is not None and (image.shape != first.shape or image.dtype != first.dtype):
            return f"had the shape {image.shape} instead of {first.shape}"
        width, height = self._size_px
        if image.shape[:2] != (height, width):
            return f"had {image.shape[1]} x {image.shape[0]} pixels instead of {width} x {height}"
        return ""

    def _light_problem(self, frame: FrameRecord, metadata: FrameMetadata) -> str:
        full_scale = self._attributes.full_scale
        signal, said = metadata.median - self._attributes.black_level, "median"
        if frame.colour != "white":
            # Most values are dark then: the level is that of the others.
            signal, said = metadata.level, "level"
        if self._checks.brightness and frame.bright_field and signal < DARK_SHARE * full_scale:
            shown = signal + self._attributes.black_level
            return f"was dark ({said} {shown:.0f} of {full_scale})"
        return ""

    def stack_problems(
        self, frames: Sequence[FrameRecord], metadata: Mapping[int, FrameMetadata]
    ) -> dict[int, str]:
        """What is wrong with frames compared with each other, by index, once all are taken."""
        problems: dict[int, str] = {}
        if self._checks.brightness:
            problems |= self._unlike(frames, metadata)
        if self._checks.direction:
            directions = {i: d for i, f in enumerate(frames) if (d := f.direction) is not None}
            orientation = self._attributes.orientation
            problems |= wrong_shading(dict(sorted(self._blocks.items())), directions, orientation)
        problems = problems or self._doubts(frames, metadata)
        if not problems:
            self._expected = self._means(metadata)
        return problems

    def _doubts(
        self, frames: Sequence[FrameRecord], metadata: Mapping[int, FrameMetadata]
    ) -> dict[int, str]:
        """No light in any dark-field frame: an empty field, or LEDs that have lost their power.

        Bright field, taken once more together with them, tells which.
        """
        dark = [index for index, frame in enumerate(frames) if not frame.bright_field]
        lit = any(self._shows_light(metadata[index]) for index in dark)
        if self._doubted or not dark or lit or not self._checks.brightness:
            return {}
        self._doubted = True
        return dict.fromkeys([0, *dark], "showed no light, nor did any other dark-field frame")

    def _means(self, metadata: Mapping[int, FrameMetadata]) -> tuple[float, ...]:
        return tuple(metadata[i].mean - self._attributes.black_level for i in sorted(metadata))

    def _unlike(
        self, frames: Sequence[FrameRecord], metadata: Mapping[int, FrameMetadata]
    ) -> dict[int, str]:
        """Frames far brighter or darker than expected, when others of their kind are not."""
        faint = FAINT_SHARE * self._attributes.full_scale
        means = np.maximum(self._means(metadata), faint)
        known = len(self._expected) == len(means)
        expected = np.maximum(self._expected, faint) if known else np.ones_like(means)
        bright = np.array([frame.bright_field for frame in frames])
        problems: dict[int, str] = {}
        for kind in (bright, ~bright) if known else (~bright,):
            if not kind.any():
                continue
            ratio = means / expected
            ratio /= np.median(ratio[kind])
            limit = UNLIKE if known else UNLIKE_AT_FIRST
            for index in np.flatnonzero(kind & ((ratio > limit) | (ratio < 1 / limit))):
                problems[int(index)] = f"was {ratio[index]:.2g} times as bright as expected"
        return problems
