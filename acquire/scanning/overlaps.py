"""Neighbouring fields of a pass show the same cells where they overlap, or the geometry is wrong.

Where two fields overlap follows from the stage's places, the camera's orientation and its pixel
size; a mirror, a turn or another pixel size puts other cells there.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Overlap:
    """Two neighbours, and by how much their overlap lies off its place; None where in doubt."""

    axis: Axis
    first: str
    second: str
    off_um: float | None

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
            off_um = _off_um(reader, first, second, finder)
            found.append(Overlap(axis, first.name, second.name, off_um))
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


def _off_um(
    reader: PassReader, first: PositionRecord, second: PositionRecord, finder: ShiftFinder
) -> float | None:
    size_px = reader.size_px(first.name)
    axes = reader.attributes.stage_axes(first, size_px)
    beside_px = round(BESIDE_UM / axes.pixel_um)
    # A pixel p of the first image is p - step of the second one.
    step = tuple(round(value) for value in axes.from_middle_px(second.x_um, second.y_um))
    shared = [side - abs(s) for side, s in zip(size_px, step, strict=True)]
    if min(shared) < LEAST_OVERLAP_PX:
        return None
    here = _box(size_px, step, beside_px)
    there = _box(size_px, (-step[0], -step[1]), beside_px)
    before, after = (_part(reader, p.name, box) for p, box in ((first, here), (second, there)))
    expected = (here[0] - there[0] - step[0], here[1] - there[1] - step[1])
    reach_px = max(abs(e) for e in expected) + beside_px
    shift = finder.shift(before, after, reach_px)
    if shift is None:
        return None
    return axes.pixel_um * math.dist(shift, expected)


def _box(size_px: tuple[int, int], step: tuple[int, ...], beside_px: int) -> Box:
    """What an image shares with one a step away, and a little more."""
    low = [max(0, s - beside_px) for s in step]
    high = [min(side, side + s + beside_px) for side, s in zip(size_px, step, strict=True)]
    return low[0], low[1], high[0], high[1]


def _part(reader: PassReader, name: str, box: Box) -> Image:
    (image,) = reader.windows(name, reader.labels.index("brightfield"), [box])
    return image
