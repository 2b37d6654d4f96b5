"""Whether images of two scans or data sets fit into one: same scale, camera and LEDs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.dataset.records import DatasetFrame

Frames = Sequence[FrameRecord | DatasetFrame]

SAME_SCALE = 0.01
SAME_ROTATION_DEG = 0.5
SAME_DIRECTION = 0.01
SAME_BLACK = 0.5 / 255
SAME_EXPOSURE = 0.01

ANY_LEDS = (None, "brightfield", "synthetic")
"""Light whose LEDs may differ between arrays, or are not recorded."""


@dataclass(frozen=True)
class Taken:
    """How the images of a scan or a data set were taken.

    `black` is the share of the full scale that is read without light; None where it is not known.
    """

    name: str
    place: Path
    pixel_um: float
    orientation: CameraOrientation
    black: float | None
    frames: Frames


def refuse_other_optics(first: Taken, other: Taken) -> None:
    """Images of the same labels whose pixels would not compare.

    Raises
    ------
    UserError
        Naming `other` and what differs.
    """
    if abs(other.pixel_um / first.pixel_um - 1) > SAME_SCALE:
        raise UserError(
            f"its pixels of {other.pixel_um:g} µm differ from {first.pixel_um:g} µm of "
            f"{first.name}.",
            file=str(other.place),
            hint="Keep what was taken at different scales in data sets of their own.",
        )
    if other.orientation.mirrored != first.orientation.mirrored:
        raise UserError(
            f"its camera was {'' if other.orientation.mirrored else 'not '}mirrored, unlike that "
            f"of {first.name}, so LEDs light its images from elsewhere.",
            file=str(other.place),
            hint="Keep different cameras in data sets of their own.",
        )
    turned = first.orientation.turn_to(other.orientation)
    if abs(turned) > SAME_ROTATION_DEG:
        raise UserError(
            f"its camera was turned by {turned:g} deg against that of {first.name}, so LEDs "
            "light its images from elsewhere.",
            file=str(other.place),
            hint="Keep different cameras in data sets of their own.",
        )
    here, there = first.black, other.black
    if here is not None and there is not None and abs(there - here) > SAME_BLACK:
        raise UserError(
            f"its camera reads {there:.1%} of the full scale without light, that of {first.name} "
            f"{here:.1%}.",
            file=str(other.place),
            hint="Keep different cameras in data sets of their own.",
        )
    for ours, theirs in zip(first.frames, other.frames, strict=True):
        if ours.colour != theirs.colour or (
            ours.led not in ANY_LEDS and ours.direction is None and ours.leds != theirs.leds
        ):
            raise UserError(
                f"its image {theirs.label} was lit by other LEDs, or in another colour, than in "
                f"{first.name}.",
                file=str(other.place),
                hint="Give recipes that differ different labels; keep these in data sets of their "
                "own.",
            )
        places = ours.direction, theirs.direction
        if all(places) and not np.allclose(*places, atol=SAME_DIRECTION):  # type: ignore[arg-type]
            raise UserError(
                f"the LED of image {theirs.label} stands elsewhere than in {first.name}.",
                file=str(other.place),
                hint="Keep different LED arrays in data sets of their own.",
            )


def exposures_that_differ(first: Taken, others: Sequence[Taken]) -> list[str]:
    """A sentence for each of the others whose light differs from that of the first."""
    said = []
    for other in others:
        pairs = [
            (ours.light, theirs.light)
            for ours, theirs in zip(first.frames, other.frames, strict=True)
        ]
        ratios = [theirs / ours for ours, theirs in pairs if ours and theirs]
        different = [ratio for ratio in ratios if abs(ratio - 1) > SAME_EXPOSURE]
        if different:
            said.append(
                f"{other.name}: {len(different)} of {len(pairs)} images were exposed differently "
                f"from {first.name} ({min(different):.2f} to {max(different):.2f} times as much "
                "light); pixels are taken over as they are."
            )
    return said
