"""Finding the cells of a position in its unstained image, to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from plsctl.acquire.arrays import FloatArray, Image
from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.store.folder import ScanFolder
from plsctl.process.matching.fields import FieldAligner, match_position, turned_crop
from plsctl.process.matching.fine_alignment import FineMatch, reach_in_pixels
from plsctl.process.matching.highres import HighresPlace
from plsctl.process.quality.glass import FieldGlass
from plsctl.process.samples.settings import BuildSettings

Reasons = dict[int, str]
"""Why cells were dropped, by the number of the cell."""


@dataclass
class MatchedCell:
    """A cell on its way into the data set; pixels are those of the crop's middle.

    The stained image is turned by `rotation_deg` against the unstained one. `field_px` is the
    (height, width) of the position's images, `glass` the grey values (unstained and stained, rgb)
    that their glass has around the cell.
    """

    cell: pd.Series
    unstained: tuple[float, float]
    stained: tuple[float, float]
    rotation_deg: float
    fine: FineMatch
    target_20x: Image
    stained_image: Image
    field_px: tuple[int, int]
    glass: FloatArray
    highres_name: str = ""
    highres: HighresPlace | None = None
    target_100x: Image | None = None


def match_cells(
    folder: ScanFolder,
    position: str,
    cells: pd.DataFrame,
    transform: SlideTransform,
    settings: BuildSettings,
) -> tuple[list[MatchedCell], Reasons]:
    """The reliably matched cells of a position, and why the others were dropped.

    Parameters
    ----------
    cells
        Rows of `cells.csv`.
    """
    unstained = folder.open_pass("unstained", one_core=True)
    stained = folder.open_pass("stained", one_core=True)
    if position not in unstained.names:
        return [], {int(cell): "no_unstained_images" for cell in cells["cell"]}
    before, after = unstained.brightfield(position), stained.brightfield(position)
    attributes = unstained.attributes
    turn_deg = attributes.orientation.turn_in_image(transform.rotation_deg)
    field = match_position(before, after, turn_deg, attributes.pixel_um)
    if not field.trusted:
        return [], {int(cell): "position_unmatched" for cell in cells["cell"]}
    aligner = FieldAligner(before, after, field)
    glass = (
        FieldGlass(before, attributes.flat_field),
        FieldGlass(after, stained.attributes.flat_field),
    )
    reach_px = reach_in_pixels(attributes.pixel_um, settings.reach_um)
    samples: list[MatchedCell] = []
    dropped: Reasons = {}
    for _, cell in cells.iterrows():
        sample = _align_cell(cell, aligner, after, glass, reach_px, settings)
        if isinstance(sample, str):
            dropped[int(cell["cell"])] = sample
        else:
            samples.append(sample)
    return samples, dropped


def _align_cell(
    cell: pd.Series,
    aligner: FieldAligner,
    after: Image,
    glass: tuple[FieldGlass, FieldGlass],
    reach_px: int,
    settings: BuildSettings,
) -> MatchedCell | str:
    """Find the cell's crop in the unstained image to a fraction of a pixel, or say why not."""
    place = float(cell["pixel_x"]), float(cell["pixel_y"])
    box = float(cell["width_px"]), float(cell["height_px"])
    found = aligner.align(*place, box, settings.crop_px, reach_px, settings.margin_px)
    if found is None:
        return "border"
    if not found.fine.inside or found.fine.score < settings.least_similarity:
        return "match_20x"
    if found.fine.second_ratio > settings.most_second_ratio:
        return "match_20x"
    places = (found.unstained, found.stained)
    return MatchedCell(
        cell=cell,
        unstained=found.unstained,
        stained=found.stained,
        rotation_deg=found.rotation_deg,
        fine=found.fine,
        target_20x=turned_crop(after, found.stained, settings.crop_px, found.rotation_deg),
        stained_image=after,
        field_px=(after.shape[0], after.shape[1]),
        glass=np.stack([level.at(*at) for level, at in zip(glass, places, strict=True)]),
    )
