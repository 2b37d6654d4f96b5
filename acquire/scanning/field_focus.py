"""Fields out of focus: each compared with the slide's median, by its parts that show cells.

Glass beside the cells tells nothing, and would make a field seem sharper than one full of cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plsctl.acquire.capture.content import cell_tiles
from plsctl.acquire.roles import FocusMeasure
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord

BLURRED_SHARE = 0.35
"""A field this much less sharp than the median of its slide was out of focus."""

RING_WIDTH = 0.02
"""Dark-field LEDs whose direction sines differ by less count as one ring."""

LEAST_TILES = 2
"""A field with fewer parts that show cells is not judged."""


@dataclass(frozen=True)
class FieldFocus:
    """What is wrong with the focus of fields, and why none could be judged, if so."""

    problems: tuple[str, ...] = ()
    unchecked: str | None = None


def check_focus(reader: PassReader, names: Sequence[str], measure: FocusMeasure) -> FieldFocus:
    """Compare the sharpness of the named fields; those that show no cells are left out."""
    found = {name: _sharpness(reader, name, measure) for name in names}
    sharpness = {name: value for name, value in found.items() if value is not None}
    if len(sharpness) < 2:
        shown = f"{len(sharpness)} of {len(names)} fields show cells"
        return FieldFocus(unchecked=f"focus ({shown}, and one is compared with the others)")
    limit = BLURRED_SHARE * float(np.median(list(sharpness.values())))
    return FieldFocus(
        tuple(
            f"position {name} looks out of focus (sharpness {value:.3g}, limit {limit:.3g})."
            for name, value in sharpness.items()
            if value < limit
        )
    )


def _sharpness(reader: PassReader, name: str, measure: FocusMeasure) -> float | None:
    """By the innermost ring of dark-field frames; without one by the bright field.

    In bright field a dry phase object shows the least detail in focus (physics: contrast of a
    weak phase object vanishes there), so its sharpness counts the other way round. None where the
    field shows no cells.
    """
    bright = reader.brightfield(name)
    tiles = cell_tiles(bright)
    if len(tiles) < LEAST_TILES:
        return None
    ring = _innermost_dark_frames(reader.attributes.frames)
    image = bright
    if ring:
        frames = [reader.frame(name, index).astype(np.float32) for index in ring]
        light = np.mean(frames, axis=0) - reader.attributes.black_level
        image = np.clip(light, 0, 255).astype(np.uint8)
    sharpness = float(
        np.median(
            [measure.sharpness(image[top:bottom, left:right]) for left, top, right, bottom in tiles]
        )
    )
    return sharpness if ring else 1.0 / max(sharpness, 1e-9)


def _innermost_dark_frames(frames: Sequence[FrameRecord]) -> list[int]:
    """Frames of the dark-field LEDs nearest the aperture, at low exposure."""
    sines = {
        index: math.hypot(*frame.direction)
        for index, frame in enumerate(frames)
        if not frame.bright_field and frame.variant != "high" and frame.direction is not None
    }
    nearest = min(sines.values(), default=0.0)
    return [index for index, sine in sines.items() if sine <= nearest + RING_WIDTH]
