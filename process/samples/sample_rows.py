"""The rows of a data set's table: where a sample was cut, how well it was matched, its room."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PositionRecord
from plsctl.process.samples.matched_cells import MatchedCell


def sample_row(
    sample: MatchedCell, reader: PassReader, place: PositionRecord, transform: SlideTransform
) -> dict[str, object]:
    """Where a sample lies in its images and on the slide, and how well it was matched."""
    attributes = reader.attributes
    height, width = sample.field_px
    x, y = sample.unstained
    x_um, y_um = attributes.slide_axes(place, (width, height)).to_um(x, y)
    stage_x_um, stage_y_um = transform.apply(x_um, y_um)
    row: dict[str, object] = {
        "slide": attributes.slide,
        "patient": attributes.patient or "",
        "stain": attributes.stain,
        "position": place.name,
        "cell": int(sample.cell["cell"]),
        "x_um": round(x_um, 3),
        "y_um": round(y_um, 3),
        "stage_x_um": round(stage_x_um, 3),
        "stage_y_um": round(stage_y_um, 3),
        "pixel_x": x,
        "pixel_y": y,
        "stained_x": round(sample.stained[0], 3),
        "stained_y": round(sample.stained[1], 3),
        "width_px": int(sample.cell["width_px"]),
        "height_px": int(sample.cell["height_px"]),
        "area_px": int(sample.cell["area_px"]),
        "score_20x": round(sample.fine.score, 4),
        "second_20x": round(sample.fine.second_ratio, 4),
    }
    if sample.highres is not None:
        row |= {
            "highres": sample.highres_name,
            "highres_x": round(sample.highres.x, 3),
            "highres_y": round(sample.highres.y, 3),
            "score_100x": round(sample.highres.score, 4),
            "second_100x": round(sample.highres.second_ratio, 4),
        }
    return row


def room_around(samples: Sequence[MatchedCell], crop_px: int) -> pd.DataFrame:
    """Pixels left between a crop and the border of its images, and between cell and crop."""
    rows = []
    for sample in samples:
        height, width = sample.field_px
        border = min(
            min(x, y, width - 1 - x, height - 1 - y) - (crop_px - 1) / 2
            for x, y in (sample.unstained, sample.stained)
        )
        extent = max(float(sample.cell["width_px"]), float(sample.cell["height_px"]))
        rows.append({"border_px": round(border, 2), "cell_margin_px": (crop_px - extent) / 2})
    return pd.DataFrame(rows)
