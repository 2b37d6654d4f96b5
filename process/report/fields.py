"""One field of a scan in several images that lie on each other, for the top of a report."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.store.folder import ScanFolder, is_begun
from plsctl.acquire.store.reader import PassReader
from plsctl.process.cells.table import read_cells
from plsctl.process.matching.fields import match_position

Image = NDArray[np.uint8]
Layers = list[tuple[str, Image]]

_EDGE_PX = 8


def richest_field(folder: ScanFolder, names: list[str]) -> str:
    """Of the named fields, the one with the most white cells; without a table the middle one."""
    if folder.cells.exists():
        counts = Counter(str(name) for name in read_cells(folder)["position"])
        best = max(names, key=lambda name: counts[name])
        if counts[best]:
            return best
    return names[len(names) // 2]


def field_layers(
    folder: ScanFolder, virtual: PassReader | None
) -> tuple[str, Layers, float] | None:
    """A field unstained, virtually stained and really stained, as far as each was taken.

    The real stain is moved and turned onto the unstained image, which the virtual one lies on; the
    three are cut to what all of them show.

    Returns
    -------
    The field's name, name and image (y, x, rgb) of each layer, and micrometres a pixel; None where
    fewer than two layers show one field.
    """
    unstained = _reader(folder, "unstained")
    if unstained is None:
        return None
    real = _reader(folder, "stained")
    names = [name for name in unstained.names if virtual is None or name in virtual.names]
    both = [name for name in names if real is not None and name in real.names]
    if not names or (virtual is None and not both):
        return None
    name = richest_field(folder, both or names)
    before = unstained.brightfield(name)
    layers: Layers = [("unstained", before)]
    if virtual is not None:
        layers.append(("virtually stained", virtual.brightfield(name)))
    shown = np.ones(before.shape[:2], dtype=np.uint8)
    if real is not None and name in both:
        moved, shown = _onto(before, real.brightfield(name), _turn_deg(folder), unstained)
        layers.append(("really stained", moved))
    left, top, right, bottom = _filled(shown)
    pixel_um = unstained.attributes.pixel_um
    cut = [(text, np.ascontiguousarray(image[top:bottom, left:right])) for text, image in layers]
    return name, cut, pixel_um


def _reader(folder: ScanFolder, name: str) -> PassReader | None:
    return folder.open_pass(name) if is_begun(folder.pass_path(name)) else None


def _turn_deg(folder: ScanFolder) -> float:
    """By how much the returned slide is turned."""
    if not folder.transform.is_file():
        return 0.0
    return float(json.loads(folder.transform.read_text(encoding="utf-8"))["rotation_deg"])


def _onto(before: Image, after: Image, turn_deg: float, reader: PassReader) -> tuple[Image, Image]:
    """The stained image on the grid of the unstained one, and 1 where there is something of it."""
    size = (before.shape[1], before.shape[0])
    whole = np.ones(after.shape[:2], dtype=np.uint8)
    if after.shape != before.shape:
        return np.asarray(cv2.resize(after, size), np.uint8), np.ones(before.shape[:2], np.uint8)
    attributes = reader.attributes
    turn_deg = attributes.orientation.turn_in_image(turn_deg)
    match = match_position(before, after, turn_deg, attributes.pixel_um)
    if not match.trusted:
        return after, whole
    matrix = match.to_unstained.matrix
    moved = cv2.warpAffine(after, matrix, size, flags=cv2.INTER_CUBIC)
    shown = cv2.warpAffine(whole, matrix, size, flags=cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint8), np.asarray(shown, np.uint8)


def _filled(shown: Image) -> tuple[int, int, int, int]:
    """The part of an image (left, top, right, bottom) whose every pixel is shown, nearly."""
    rows = np.flatnonzero(shown.mean(axis=1) > 0.5)
    columns = np.flatnonzero(shown.mean(axis=0) > 0.5)
    edge = 0 if shown.all() else _EDGE_PX
    return (
        int(columns[0]) + edge,
        int(rows[0]) + edge,
        int(columns[-1]) + 1 - edge,
        int(rows[-1]) + 1 - edge,
    )
