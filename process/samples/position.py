"""The samples of one position: stack, stained crop, 100x crop and table row of every cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import ImageAxes, SlideTransform
from plsctl.acquire.store.folder import ScanFolder, load_transform
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PositionRecord
from plsctl.process.matching.shared_detail import CLEARLY, SAME_PLACE, SharedDetail
from plsctl.process.quality.frame_samples import random_stacks
from plsctl.process.quality.frames import FrameReference
from plsctl.process.quality.glass import FieldGlass
from plsctl.process.quality.measures import Lighting, measure_position
from plsctl.process.samples.highres_scale import HighresScale
from plsctl.process.samples.highres_targets import add_highres_targets
from plsctl.process.samples.matched_cells import MatchedCell, match_cells
from plsctl.process.samples.settings import BuildSettings

EVIDENCE = 4
"""Least number of stacks by which a position's frames are checked: cells and random places."""


@dataclass(frozen=True)
class PositionJob:
    """The job of cutting one position: the scan, the position's name and its cells.

    `highres` is the scale of the 100x pass; None where no 100x target is wanted. `highres_places`
    are the 100x images near the cells. Frames are checked against `frames`; None
    leaves that out.
    """

    scan: Path
    position: str
    cells: pd.DataFrame
    highres: HighresScale | None
    settings: BuildSettings
    frames: FrameReference | None = None
    highres_places: tuple[PositionRecord, ...] = ()


@dataclass
class PositionSamples:
    """The samples of one position.

    `stacks` is (sample, image, rgb, y, x), each target (sample, rgb, y, x), `rows` one row per
    sample; `outcomes` says of every cell of the position "sample" or why it was dropped.
    """

    stacks: Image
    targets: dict[str, Image]
    rows: pd.DataFrame
    outcomes: dict[int, str]

    @property
    def dropped(self) -> Counter[str]:
        """How many cells were dropped for each reason."""
        return Counter(reason for reason in self.outcomes.values() if reason != "sample")


def cut_position(job: PositionJob) -> PositionSamples:
    """Match one position and cut every trusted cell from all its images.

    Only the parts of the frames around the cells are read and decoded, by one core.
    """
    folder = ScanFolder(job.scan)
    unstained = folder.open_pass("unstained", one_core=True)
    transform = load_transform(folder)
    settings = job.settings
    samples, outcomes = match_cells(folder, job.position, job.cells, transform, settings)
    if job.highres is not None and samples:
        places = job.highres_places
        samples, dropped = add_highres_targets(folder, samples, places, job.highres, settings)
        outcomes |= dropped
    side = settings.crop_px + 2 * settings.margin_px
    stacks = _cut_stacks(unstained, job.position, samples, side)
    outcomes |= {int(sample.cell["cell"]): "sample" for sample in samples}
    place = unstained.position(job.position)
    axes = unstained.attributes.slide_axes(place, unstained.size_px(job.position))
    rows = pd.DataFrame([sample_row(each, unstained, place, axes, transform) for each in samples])
    targets = _targets(samples, job)
    if samples:
        lighting = _lighting(folder, samples)
        measures = _measure(unstained, job, stacks, targets, lighting)
        rows = pd.concat([rows, room_around(samples, settings.crop_px), measures], axis=1)
        rows = rows.assign(**detail_columns(samples[0].detail))
        rows = rows.assign(flags="", excluded="", type="")
    return PositionSamples(stacks, targets, rows, outcomes)


def _lighting(folder: ScanFolder, samples: Sequence[MatchedCell]) -> Lighting:
    """What light the two bright-field images of the samples had, and their glass's grey values."""
    passes = [folder.open_pass(name, one_core=True) for name in ("unstained", "stained")]
    images = samples[0].unstained_image, samples[0].stained_image
    places = [each.unstained for each in samples], [each.stained for each in samples]
    glass = [
        FieldGlass(image, taken.attributes.flat_field).at(np.array(where))
        for taken, image, where in zip(passes, images, places, strict=True)
    ]
    unstained, stained = (taken.brightfield_light for taken in passes)
    return Lighting(np.stack(glass, axis=1), (unstained, stained))


def _measure(
    reader: PassReader,
    job: PositionJob,
    stacks: Image,
    targets: dict[str, Image],
    lighting: Lighting,
) -> pd.DataFrame:
    """The measures of quality of a position's samples."""
    settings, attributes = job.settings, reader.attributes
    inner = slice(settings.margin_px, settings.margin_px + settings.crop_px)
    further = None
    if job.frames is not None and len(stacks) < EVIDENCE:
        count = EVIDENCE - len(stacks)
        further = random_stacks(reader, job.position, count, settings.crop_px)
    black = attributes.black_level * 255 / attributes.full_scale
    return measure_position(
        np.ascontiguousarray(stacks[..., inner, inner]),
        targets,
        attributes.frames,
        black,
        job.frames,
        further,
        lighting,
        attributes.pixel_um,
    )


def _cut_stacks(
    reader: PassReader, position: str, samples: Sequence[MatchedCell], side_px: int
) -> Image:
    """The stack of every sample, (sample, image, rgb, y, x), from one frame after the other."""
    stacks = np.empty((len(samples), len(reader.labels), 3, side_px, side_px), dtype=np.uint8)
    middle = (side_px - 1) / 2
    corners = [tuple(round(value - middle) for value in sample.unstained) for sample in samples]
    boxes = [(left, top, left + side_px, top + side_px) for left, top in corners]
    for index in range(len(reader.labels) if samples else 0):
        for stack, part in zip(stacks, reader.planes(position, index, boxes), strict=True):
            stack[index] = part
    return stacks


def _targets(samples: Sequence[MatchedCell], job: PositionJob) -> dict[str, Image]:
    side = job.settings.crop_px
    targets = {"20x": np.empty((len(samples), 3, side, side), dtype=np.uint8)}
    if job.highres is not None:
        targets["100x"] = np.empty_like(targets["20x"])
    for index, sample in enumerate(samples):
        targets["20x"][index] = np.moveaxis(sample.target_20x, -1, 0)
        if sample.target_100x is not None:
            targets["100x"][index] = np.moveaxis(sample.target_100x, -1, 0)
    return targets


def sample_row(
    sample: MatchedCell,
    reader: PassReader,
    place: PositionRecord,
    axes: ImageAxes,
    transform: SlideTransform,
) -> dict[str, object]:
    """Where a sample lies in its images and on the slide, and how well it was matched.

    `axes` are those of the position's unstained images on the slide.
    """
    attributes = reader.attributes
    x, y = sample.unstained
    x_um, y_um = axes.to_um(x, y)
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


def detail_columns(detail: SharedDetail) -> dict[str, float]:
    """The detail that both passes of a position share, in the column of the less focused one."""
    found = round(detail.fine, 4) if detail.coarse >= SAME_PLACE else math.nan
    names = ("shared_input", "shared_20x")
    chosen = names[0] if detail.colours >= CLEARLY else names[1]
    return {name: found if name == chosen else math.nan for name in names}


def room_around(samples: Sequence[MatchedCell], crop_px: int) -> pd.DataFrame:
    """Pixels left between a crop and the border of its images, and between cell and crop."""
    rows = []
    for sample in samples:
        height, width = sample.stained_image.shape[:2]
        border = min(
            min(x, y, width - 1 - x, height - 1 - y) - (crop_px - 1) / 2
            for x, y in (sample.unstained, sample.stained)
        )
        extent = max(float(sample.cell["width_px"]), float(sample.cell["height_px"]))
        rows.append({"border_px": round(border, 2), "cell_margin_px": (crop_px - extent) / 2})
    return pd.DataFrame(rows)
