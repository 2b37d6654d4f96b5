"""True scale and rotation of the 100x objective against the 20x one, from the slide itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.protocols import rotate
from plsctl.acquire.scan_files import load_transform
from plsctl.acquire.store import PassReader, PositionRecord, ScanFolder
from plsctl.process.locate import locate_by_log

FIELDS = 24
"""So many 100x fields, spread over the slide, are located; the mean is taken."""

_ROOM_PX = 30  # 20x pixels around the expected place of a 100x field
_MOST_DEPARTURE = 0.05  # objectives are not further from their nominal magnification


@dataclass(frozen=True)
class HighresScale:
    """100x pixels to a 20x pixel, rotation of the 100x image, and how many fields say so.

    With no fields the ratio is the nominal one.
    """

    ratio: float
    rotation_deg: float
    fields: int


def measure_highres_scale(folder: ScanFolder) -> HighresScale:
    """Scale and rotation from whole 100x fields found in the stained 20x images.

    papers/002 (section 3.1.3) takes the nominal ratio and notes the small error it leaves.
    """
    stained, highres = folder.open_pass("stained"), folder.open_pass("highres")
    nominal = stained.attributes.pixel_um / highres.attributes.pixel_um
    found = []
    for low, high in _pairs(folder, stained, highres, nominal):
        try:
            place = locate_by_log(low, high, nominal)
        except UserError:  # a field too small to be told apart
            continue
        if place.trusted and 0 < abs(place.scale / nominal - 1) < _MOST_DEPARTURE:
            found.append((place.scale, place.rotation_deg))
    if len(found) < 2:
        return HighresScale(nominal, 0.0, 0)
    ratio, rotation = np.mean(np.array(found), axis=0)
    return HighresScale(float(ratio), float(rotation), len(found))


def _pairs(
    folder: ScanFolder, stained: PassReader, highres: PassReader, nominal: float
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """100x images and the parts of stained images that hold them whole."""
    if not highres.names or not stained.names:
        return
    rotation = load_transform(folder).rotation_deg - stained.attributes.camera_rotation_deg
    height, width = stained.brightfield(stained.names[0]).shape[:2]
    tall, wide = highres.brightfield(highres.names[0]).shape[:2]
    half = (wide / nominal / 2 + _ROOM_PX, tall / nominal / 2 + _ROOM_PX)
    pixel_um = stained.attributes.pixel_um
    held = []
    for position in highres.positions:
        for field in stained.positions:
            dx, dy = _offset(position, field, rotation, pixel_um)
            x, y = (width - 1) / 2 + dx, (height - 1) / 2 + dy
            if half[0] <= x <= width - half[0] and half[1] <= y <= height - half[1]:
                held.append((position.name, field.name, x, y))
                break
    for name, field_name, x, y in held[:: max(1, len(held) // FIELDS)]:
        image = stained.brightfield(field_name)
        top, bottom = round(y - half[1]), round(y + half[1])
        left, right = round(x - half[0]), round(x + half[0])
        yield np.ascontiguousarray(image[top:bottom, left:right]), highres.brightfield(name)


def _offset(
    position: PositionRecord, field: PositionRecord, rotation_deg: float, pixel_um: float
) -> tuple[float, float]:
    dx, dy = position.slide_x_um - field.slide_x_um, position.slide_y_um - field.slide_y_um
    dx, dy = rotate(dx, dy, rotation_deg)
    return dx / pixel_um, dy / pixel_um
