"""True scale and rotation of the 100x objective against the 20x one, from the slide itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plsctl.acquire.errors import UserError
from plsctl.acquire.store.folder import ScanFolder, load_transform
from plsctl.acquire.store.reader import PassReader
from plsctl.process.matching.locate import place_highres

LEAST_FIELDS, FIELDS = 12, 24
"""Number of 100x fields that are located, spread over the slide, one per stained field.

One says the scale to 0.07 %, so that the mean of twelve is good to 0.02 %.
"""

_ROOM_UM = 8.8  # around the expected place of a 100x field
_ANGLES_DEG = (-1.5, -0.75, 0.0, 0.75, 1.5)  # objectives and camera are not turned further
_MOST_DEPARTURE = 0.05  # objectives are not further from their nominal magnification


@dataclass(frozen=True)
class HighresScale:
    """100x pixels to a 20x pixel, rotation of the 100x image, and how many fields say so.

    With no fields the ratio is the nominal one.
    """

    ratio: float
    rotation_deg: float
    fields: int


@dataclass(frozen=True)
class ScaleField:
    """A 100x image and where its middle lies in a stained 20x image, in pixels."""

    scan: Path
    highres: str
    stained: str
    x: float
    y: float


@dataclass(frozen=True)
class FieldScale:
    """Scale and rotation as one 100x image shows them, and their weight in the mean."""

    ratio: float
    rotation_deg: float
    weight: float


def measure_highres_scale(folder: ScanFolder) -> HighresScale:
    """Scale and rotation from whole 100x fields found in the stained 20x images.

    papers/002 (section 3.1.3) takes the nominal ratio and notes the small error it leaves.
    """
    return mean_scale(folder, [locate_field(field) for field in scale_fields(folder)])


def scale_fields(folder: ScanFolder) -> list[ScaleField]:
    """100x images that lie whole in a stained image, spread over the slide."""
    stained, highres = folder.open_pass("stained"), folder.open_pass("highres")
    if not highres.names or not stained.names:
        return []
    rotation_deg = load_transform(folder).rotation_deg
    width, height = size_px = stained.size_px(stained.names[0])
    half = _half_px(stained, highres)
    fields = [
        (field.name, stained.attributes.slide_axes(field, size_px, rotation_deg))
        for field in stained.positions
    ]
    held = []
    for position in highres.positions:
        for name, axes in fields:
            x, y = axes.to_px(position.slide_x_um, position.slide_y_um)
            if half[0] <= x <= width - half[0] and half[1] <= y <= height - half[1]:
                held.append(ScaleField(folder.path, position.name, name, x, y))
                break
    wanted = min(FIELDS, max(LEAST_FIELDS, len(stained.names)))
    return held[:: max(1, len(held) // wanted)]


def locate_field(field: ScaleField) -> FieldScale | None:
    """Scale and rotation as one 100x image shows them; None where it is not found for sure."""
    folder = ScanFolder(field.scan)
    stained = folder.open_pass("stained", one_core=True)
    highres = folder.open_pass("highres", one_core=True)
    nominal = _nominal(stained, highres)
    half = _half_px(stained, highres)
    box = (
        round(field.x - half[0]), round(field.y - half[1]),
        round(field.x + half[0]), round(field.y + half[1]),
    )  # fmt: skip
    (low,) = stained.windows(field.stained, stained.labels.index("brightfield"), [box])
    image = highres.brightfield(field.highres)
    try:
        place = place_highres(
            low, image, nominal, _ANGLES_DEG, 1.5 * _ROOM_UM / stained.attributes.pixel_um
        )
    except UserError:  # a field too small to be told apart
        return None
    motion = place.motion
    if not place.trusted or not place.weight or abs(motion.scale / nominal - 1) > _MOST_DEPARTURE:
        return None
    return FieldScale(motion.scale, motion.rotation_deg, place.weight)


def mean_scale(folder: ScanFolder, found: Sequence[FieldScale | None]) -> HighresScale:
    """The mean of what fields showed, each with the weight of the tiles it rests on.

    The nominal scale where fewer than two showed anything. Fields that depart from the others are
    left out.
    """
    sure = [field for field in found if field is not None]
    if len(sure) < 2:
        nominal = _nominal(folder.open_pass("stained"), folder.open_pass("highres"))
        return HighresScale(nominal, 0.0, 0)
    values = np.array([(field.ratio, field.rotation_deg) for field in sure])
    weights = np.array([field.weight for field in sure])
    departure = np.abs(values - np.median(values, axis=0))
    usual = np.maximum(np.median(departure, axis=0), 1e-6)
    kept = (departure <= 5 * usual).all(axis=1)
    ratio, rotation = np.average(values[kept], axis=0, weights=weights[kept])
    return HighresScale(float(ratio), float(rotation), int(kept.sum()))


def _nominal(stained: PassReader, highres: PassReader) -> float:
    return stained.attributes.pixel_um / highres.attributes.pixel_um


def _half_px(stained: PassReader, highres: PassReader) -> tuple[float, float]:
    """Half the size of a 100x image with some room around it, in 20x pixels."""
    wide, tall = highres.size_px(highres.names[0])
    nominal = _nominal(stained, highres)
    room = _ROOM_UM / stained.attributes.pixel_um
    return wide / nominal / 2 + room, tall / nominal / 2 + room
