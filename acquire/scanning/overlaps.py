"""Neighbouring fields of a pass show the same cells where they overlap, or the geometry is wrong.

Where two fields overlap follows from the stage's places, the camera's orientation and its pixel
size; a mirror, a turn or another pixel size puts other cells there.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from plsctl.acquire.arrays import Image
from plsctl.acquire.roles import ShiftFinder
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import Box, PositionRecord

SAME_PLACE_UM = 3.0
"""Overlaps that lie as exactly as this agree: the stage errs by less."""

BESIDE_UM = 6.0
"""So far beside their place overlaps are looked for."""

LEAST_OVERLAP_PX = 10
MOST_PAIRS = 12
"""So many pairs of each direction tell enough."""

LEAST_AGAINST = 3
"""Fewer overlaps that lie elsewhere may do so by chance."""

Axis = Literal["x", "y"]


Pixels = tuple[float, float]


@dataclass(frozen=True)
class Overlap:
    """Two neighbours, and where the second one really lies.

    Parameters
    ----------
    step_px
        From the middle of the first image to that of the second, by the stage's places and what is
        known of the camera.
    off_px
        How far beside that the second one lies; None where in doubt.
    """

    axis: Axis
    first: str
    second: str
    step_px: Pixels
    off_px: Pixels | None
    pixel_um: float

    @property
    def off_um(self) -> float | None:
        """By how much their overlap lies off its place; None where in doubt."""
        return None if self.off_px is None else self.pixel_um * math.hypot(*self.off_px)

    @property
    def agrees(self) -> bool:
        """Whether both show the same cells where they should."""
        return self.off_um is not None and self.off_um <= SAME_PLACE_UM

    @property
    def differs(self) -> bool:
        """Whether the same cells are seen, and elsewhere than they should be."""
        return self.off_um is not None and self.off_um > SAME_PLACE_UM


def compare_overlaps(
    reader: PassReader, names: Collection[str], finder: ShiftFinder
) -> list[Overlap]:
    """Overlaps of the bright-field images of neighbours, some of each direction."""
    positions = [reader.position(name) for name in names]
    placed = {(p.row, p.column): p for p in positions}
    found = []
    directions: tuple[tuple[Axis, int, int], ...] = (("x", 0, 1), ("y", 1, 0))
    for axis, down, across in directions:
        pairs = [
            (position, placed[row + down, column + across])
            for (row, column), position in placed.items()
            if (row + down, column + across) in placed
        ]
        for first, second in pairs[:: math.ceil(len(pairs) / MOST_PAIRS) or 1]:
            found.append(compare_overlap(reader, axis, first, second, finder))
    return found


def is_confirmed(overlaps: Collection[Overlap]) -> bool:
    """Whether overlaps in both directions say that the geometry is right.

    One direction is not enough: mirrored left to right, fields one above the other still agree.
    """
    return all(
        any(overlap.agrees for overlap in overlaps if overlap.axis == axis)
        and 2 * sum(o.agrees for o in overlaps if o.axis == axis)
        > sum(o.axis == axis for o in overlaps)
        for axis in ("x", "y")
    )


def overlap_problem(overlaps: Collection[Overlap]) -> str | None:
    """What is wrong when most of the overlaps that tell something contradict their places."""
    off = [overlap.off_um for overlap in overlaps if overlap.differs and overlap.off_um is not None]
    if len(off) < LEAST_AGAINST or len(off) <= sum(overlap.agrees for overlap in overlaps):
        return None
    told = sum(overlap.off_um is not None for overlap in overlaps)
    return (
        f"{len(off)} of {told} neighbouring fields overlap {min(off):.1f} µm and more beside where "
        "the camera's orientation and pixel size put it; check `camera` in the hardware file."
    )


def compare_overlap(
    reader: PassReader,
    axis: Axis,
    first: PositionRecord,
    second: PositionRecord,
    finder: ShiftFinder,
) -> Overlap:
    """Where the bright-field images of two neighbours overlap."""
    size_px = reader.size_px(first.name)
    axes = reader.attributes.stage_axes(first, size_px)
    beside_px = round(BESIDE_UM / axes.pixel_um)
    step_px = axes.from_middle_px(second.x_um, second.y_um)
    unknown = Overlap(axis, first.name, second.name, step_px, None, axes.pixel_um)
    # A pixel p of the first image is p - step of the second one.
    step = tuple(round(value) for value in step_px)
    shared = [side - abs(s) for side, s in zip(size_px, step, strict=True)]
    if min(shared) < LEAST_OVERLAP_PX:
        return unknown
    here = _box(size_px, step, beside_px)
    there = _box(size_px, (-step[0], -step[1]), beside_px)
    before, after = (_part(reader, p.name, box) for p, box in ((first, here), (second, there)))
    corners = (here[0] - there[0], here[1] - there[1])
    reach_px = max(abs(c - s) for c, s in zip(corners, step, strict=True)) + beside_px
    shift = finder.shift(before, after, reach_px)
    if shift is None:
        return unknown
    off_px = tuple(c - moved - s for c, moved, s in zip(corners, shift, step_px, strict=True))
    return replace(unknown, off_px=(off_px[0], off_px[1]))


def _box(size_px: tuple[int, int], step: tuple[int, ...], beside_px: int) -> Box:
    """What an image shares with one a step away, and a little more."""
    low = [max(0, s - beside_px) for s in step]
    high = [min(side, side + s + beside_px) for side, s in zip(size_px, step, strict=True)]
    return low[0], low[1], high[0], high[1]


def _part(reader: PassReader, name: str, box: Box) -> Image:
    (image,) = reader.windows(name, reader.labels.index("brightfield"), [box])
    return image
