"""The 100x targets of matched cells: each found in the 100x image that shows most around it.

Where it is not found there, the next one that shows it is tried.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.coordinates import ImageAxes
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.folder import ScanFolder, load_transform
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PositionRecord
from plsctl.process.matching.highres import find_highres, reduce_highres
from plsctl.process.samples.highres_scale import HighresScale
from plsctl.process.samples.matched_cells import MatchedCell, Reasons
from plsctl.process.samples.settings import BuildSettings

Points = NDArray[np.float64]

TRIES = 3
"""Images in which a cell is looked for: the first may be out of focus. Fields overlap."""

MARGIN_PX = 24
"""Room around the search in a 100x image for its filters and for the corners of turned crops."""


class HighresPlaces:
    """Where the 100x images of a scan were taken: looked up once for all of its positions."""

    def __init__(self, folder: ScanFolder) -> None:
        self._places: list[PositionRecord] = []
        self._xy_um, self._reach_um = np.empty((0, 2)), 0.0
        if not folder.pass_path("highres").is_dir():
            return
        reader = folder.open_pass("highres")
        self._places = reader.positions
        if self._places:
            places = [(place.slide_x_um, place.slide_y_um) for place in self._places]
            self._xy_um = np.array(places)
            size_px = reader.size_px(reader.names[0])
            self._reach_um = math.hypot(*size_px) / 2 * reader.attributes.pixel_um

    def near(self, cells: pd.DataFrame) -> tuple[PositionRecord, ...]:
        """The images that may show one of these cells (`x_um`, `y_um`), in the order taken."""
        if not len(cells):
            return ()
        cells_um = cells[["x_um", "y_um"]].to_numpy(float)
        low, high = cells_um.min(axis=0) - self._reach_um, cells_um.max(axis=0) + self._reach_um
        inside = ((self._xy_um >= low) & (self._xy_um <= high)).all(axis=1)
        return tuple(self._places[index] for index in np.flatnonzero(inside))


def add_highres_targets(
    folder: ScanFolder,
    samples: list[MatchedCell],
    places: Sequence[PositionRecord],
    scale: HighresScale,
    settings: BuildSettings,
) -> tuple[list[MatchedCell], Reasons]:
    """Add 100x targets; returns the samples that have one, and why the others were dropped.

    Parameters
    ----------
    places
        The 100x images that may show one of the cells.
    """
    if not places:
        return [], {int(sample.cell["cell"]): "no_100x_image" for sample in samples}
    reader = folder.open_pass("highres", one_core=True)
    transform = load_transform(folder)
    size_px = reader.size_px(places[0].name)
    frame = reader.labels.index("brightfield")
    axes = [
        reader.attributes.slide_axes(place, size_px, transform.rotation_deg) for place in places
    ]
    kept: list[MatchedCell] = []
    dropped: Reasons = {}
    for sample, found_px in zip(samples, _pixels(samples, axes), strict=True):
        reason: str | None = "no_100x_image"
        for choice in _most_around(found_px, size_px)[:TRIES]:
            name, (x, y) = places[choice].name, found_px[choice]
            failed = _add_highres(
                sample, reader, name, frame, size_px, (float(x), float(y)), scale, settings
            )
            reason = failed if failed != "no_100x_image" else reason
            if failed is None:
                break
        if reason is None:
            kept.append(sample)
        else:
            dropped[int(sample.cell["cell"])] = reason
    return kept, dropped


def _pixels(samples: Sequence[MatchedCell], axes: Sequence[ImageAxes]) -> Points:
    """Where every cell lies in every image, in pixels: (cell, image, x and y)."""
    x_um, y_um = (
        np.array([float(each.cell[name]) for each in samples]) for name in ("x_um", "y_um")
    )
    return np.stack([np.stack(image.to_px(x_um, y_um), axis=-1) for image in axes], axis=1)


def _most_around(found_px: Points, size_px: tuple[int, int]) -> list[int]:
    """The images that show a cell at (image, x and y), those with most around it first."""
    clearance = np.minimum(found_px + 0.5, np.array(size_px) - 0.5 - found_px).min(axis=1)
    order = np.argsort(-clearance, kind="stable")
    return [int(index) for index in order if clearance[index] > 0]


def _add_highres(
    sample: MatchedCell,
    reader: PassReader,
    name: str,
    frame: int,
    size_px: tuple[int, int],
    expected: tuple[float, float],
    scale: HighresScale,
    settings: BuildSettings,
) -> str | None:
    """Match the cell in a 100x image and cut its target; the reason when that fails."""
    reach = round(settings.highres_reach_um / reader.attributes.pixel_um)
    # Wide enough for the search, its filters and a turned crop.
    room = math.ceil(settings.crop_px * scale.ratio / 2) + reach + MARGIN_PX
    left, top = (max(0, math.floor(value) - room) for value in expected)
    right, bottom = (
        min(size, math.ceil(value) + room) for value, size in zip(expected, size_px, strict=True)
    )
    box = (left, top, right, bottom)
    (image,) = reader.windows(name, frame, [box])
    inside = (expected[0] - left, expected[1] - top)
    try:
        place = find_highres(
            sample.stained_image,
            sample.stained,
            image,
            inside,
            size_px=settings.crop_px,
            reach_px=reach,
            method=settings.highres_method,
            ratio=scale.ratio,
            rotation_deg=scale.rotation_deg,
        )
        if (
            place.score < settings.least_highres_score
            or place.second_ratio > settings.most_second_ratio
        ):
            return "match_100x"
        sample.target_100x = reduce_highres(
            image,
            (place.x, place.y),
            settings.crop_px,
            scale.ratio,
            scale.rotation_deg + sample.rotation_deg,
        )
    except UserError:  # the cell lies too near to the border of the 100x image
        return "no_100x_image"
    sample.highres_name = name
    sample.highres = dataclasses.replace(place, x=left + place.x, y=top + place.y)
    return None
