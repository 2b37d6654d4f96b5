"""The samples of one position: unstained stack, stained crop and 100x crop of every cell in it."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plsctl.acquire.errors import UserError
from plsctl.acquire.protocols import SlideTransform, rotate
from plsctl.acquire.scan_files import load_transform
from plsctl.acquire.store import PassReader, PositionRecord, ScanFolder
from plsctl.process.field_match import FieldAligner, match_position, turned_crop
from plsctl.process.fine_alignment import REACH_PX, FineMatch
from plsctl.process.highres import HighresPlace, Method, find_highres, reduce_highres
from plsctl.process.highres_scale import HighresScale
from plsctl.process.quality_frames import FrameReference, random_stacks
from plsctl.process.quality_measures import measure_position

Image = NDArray[np.uint8]

HIGHRES_MARGIN_PX = 24
"""Room around the search in a 100x image for its filters and for the corners of turned crops."""


EVIDENCE = 4
"""Stacks by which a position's frames are judged, at least: cells, and other places beside."""


class BuildSettings(BaseModel):
    """How samples are cut and which matches are trusted.

    A match is dropped when its score is too low or its second-best place scores nearly as high.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_px: int = Field(default=64, ge=16, multiple_of=2)
    margin_px: int = Field(default=0, ge=0)
    reach_px: int = Field(default=REACH_PX, ge=1)
    highres_method: Method = "colour"
    highres_reach_um: float = Field(default=9.0, gt=0)
    least_similarity: float = 0.3
    least_highres_score: float = 0.4
    most_second_ratio: float = 0.92


@dataclass(frozen=True)
class PositionJob:
    """What a worker needs to cut one position: the scan, the position's name and its cells.

    `highres` is the scale of the 100x pass; None where no 100x target is wanted. By `frames` the
    frames of the position are judged; None leaves that out.
    """

    scan: Path
    position: str
    cells: pd.DataFrame
    highres: HighresScale | None
    settings: BuildSettings
    frames: FrameReference | None = None


@dataclass
class PositionSamples:
    """What one position yields.

    `stacks` is (sample, image, rgb, y, x), each target (sample, rgb, y, x), `rows` one row per
    sample; `fates` says of every cell of the position "sample" or why it was dropped.
    """

    stacks: Image
    targets: dict[str, Image]
    rows: pd.DataFrame
    fates: dict[int, str]

    @property
    def dropped(self) -> Counter[str]:
        """How many cells were dropped for each reason."""
        return Counter(reason for reason in self.fates.values() if reason != "sample")


@dataclass
class _Sample:
    """A cell on its way into the data set; pixels are those of the crop's middle.

    The stained image is turned by `rotation_deg` against the unstained one. `field_px` is the
    (height, width) of the position's images.
    """

    cell: pd.Series
    unstained: tuple[float, float]
    stained: tuple[float, float]
    rotation_deg: float
    fine: FineMatch
    target_20x: Image
    stained_image: Image
    field_px: tuple[int, int]
    highres_name: str = ""
    highres: HighresPlace | None = None
    target_100x: Image | None = None


def cut_position(job: PositionJob) -> PositionSamples:
    """Match one position, cut every trusted cell from all its images.

    Of the frames only what lies around the cells is read and decoded, by one core.
    """
    folder = ScanFolder(job.scan)
    unstained = folder.open_pass("unstained", one_core=True)
    transform = load_transform(folder)
    fates: dict[int, str] = {}
    samples = _matched_cells(folder, job, unstained, transform, fates)
    if job.highres is not None and samples:
        samples = _with_highres(folder, samples, job.highres, job.settings, fates)
    side = job.settings.crop_px + 2 * job.settings.margin_px
    stacks = _cut_stacks(unstained, job.position, samples, side)
    for sample in samples:
        fates[int(sample.cell["cell"])] = "sample"
    place = unstained.position(job.position)
    rows = pd.DataFrame([_row(sample, unstained, place, transform) for sample in samples])
    targets = _targets(samples, job)
    if samples:
        measures = _measure(unstained, job, stacks, targets)
        rows = pd.concat([rows, _room(samples, job.settings.crop_px), measures], axis=1)
        rows = rows.assign(flags="", excluded="", type="")
    return PositionSamples(stacks, targets, rows, fates)


def _measure(
    reader: PassReader, job: PositionJob, stacks: Image, targets: dict[str, Image]
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
    )


def _room(samples: Sequence[_Sample], crop_px: int) -> pd.DataFrame:
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


def _matched_cells(
    folder: ScanFolder,
    job: PositionJob,
    unstained: PassReader,
    transform: SlideTransform,
    fates: dict[int, str],
) -> list[_Sample]:
    stained = folder.open_pass("stained", one_core=True)
    if job.position not in unstained.names:
        fates.update({int(cell): "no_unstained_images" for cell in job.cells["cell"]})
        return []
    before, after = unstained.brightfield(job.position), stained.brightfield(job.position)
    field = match_position(before, after, transform.rotation_deg, unstained.attributes.pixel_um)
    if not field.trusted:
        fates.update({int(cell): "position_unmatched" for cell in job.cells["cell"]})
        return []
    aligner = FieldAligner(before, after, field)
    samples = []
    for _, cell in job.cells.iterrows():
        sample = _align_cell(cell, aligner, after, job.settings)
        if isinstance(sample, str):
            fates[int(cell["cell"])] = sample
        else:
            samples.append(sample)
    return samples


def _align_cell(
    cell: pd.Series, aligner: FieldAligner, after: Image, settings: BuildSettings
) -> _Sample | str:
    """The cell's crop found in the unstained image to a fraction of a pixel, or why not."""
    place = float(cell["pixel_x"]), float(cell["pixel_y"])
    box = float(cell["width_px"]), float(cell["height_px"])
    found = aligner.align(*place, box, settings.crop_px, settings.reach_px, settings.margin_px)
    if found is None:
        return "border"
    if not found.fine.inside or found.fine.score < settings.least_similarity:
        return "match_20x"
    if found.fine.second_ratio > settings.most_second_ratio:
        return "match_20x"
    return _Sample(
        cell=cell,
        unstained=found.unstained,
        stained=found.stained,
        rotation_deg=found.rotation_deg,
        fine=found.fine,
        target_20x=turned_crop(after, found.stained, settings.crop_px, found.rotation_deg),
        stained_image=after,
        field_px=(after.shape[0], after.shape[1]),
    )


def _with_highres(
    folder: ScanFolder,
    samples: list[_Sample],
    scale: HighresScale,
    settings: BuildSettings,
    fates: dict[int, str],
) -> list[_Sample]:
    """Add the 100x target to the samples that have one; the others are dropped."""
    if not folder.pass_path("highres").is_dir():
        fates.update({int(sample.cell["cell"]): "no_100x_image" for sample in samples})
        return []
    reader = folder.open_pass("highres", one_core=True)
    transform = load_transform(folder)
    width, height = reader.size_px(reader.names[0])
    kept = []
    for sample in samples:
        choice = _best_image(reader, sample, transform, (height, width))
        reason: str | None = "no_100x_image"
        if choice is not None:
            reason = _add_highres(sample, reader, *choice, scale, settings)
        if reason is None:
            kept.append(sample)
        else:
            fates[int(sample.cell["cell"])] = reason
    return kept


def _best_image(
    reader: PassReader, sample: _Sample, transform: SlideTransform, field_px: tuple[int, int]
) -> tuple[str, tuple[float, float]] | None:
    """The 100x image that shows most around the cell, and the cell's offset from its middle (px).

    `field_px` is the (height, width) of the 100x images.
    """
    attributes = reader.attributes
    x_um, y_um = float(sample.cell["x_um"]), float(sample.cell["y_um"])
    best: tuple[float, str, tuple[float, float]] | None = None
    for position in reader.positions:
        dx, dy = x_um - position.slide_x_um, y_um - position.slide_y_um
        dx, dy = rotate(dx, dy, transform.rotation_deg - attributes.camera_rotation_deg)
        dx, dy = dx / attributes.pixel_um, dy / attributes.pixel_um
        clearance = min(field_px[1] / 2 - abs(dx), field_px[0] / 2 - abs(dy))
        if clearance > 0 and (best is None or clearance > best[0]):
            best = (clearance, position.name, (dx, dy))
    return None if best is None else best[1:]


def _add_highres(
    sample: _Sample,
    reader: PassReader,
    name: str,
    offset: tuple[float, float],
    scale: HighresScale,
    settings: BuildSettings,
) -> str | None:
    """Match the cell in a 100x image and cut its target; the reason when that fails."""
    width, height = reader.size_px(name)
    expected = ((width - 1) / 2 + offset[0], (height - 1) / 2 + offset[1])
    reach = round(settings.highres_reach_um / reader.attributes.pixel_um)
    # Wide enough for the search, its filters and a turned crop.
    room = math.ceil(settings.crop_px * scale.ratio / 2) + reach + HIGHRES_MARGIN_PX
    left, top = (max(0, math.floor(value) - room) for value in expected)
    right, bottom = (
        min(size, math.ceil(value) + room)
        for value, size in zip(expected, (width, height), strict=True)
    )
    box = (left, top, right, bottom)
    (image,) = reader.windows(name, reader.labels.index("brightfield"), [box])
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


def _cut_stacks(
    reader: PassReader, position: str, samples: Sequence[_Sample], side_px: int
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


def _row(
    sample: _Sample, reader: PassReader, place: PositionRecord, transform: SlideTransform
) -> dict[str, object]:
    attributes = reader.attributes
    height, width = sample.field_px
    x, y = sample.unstained
    dx, dy = (x - (width - 1) / 2), (y - (height - 1) / 2)
    dx, dy = rotate(
        dx * attributes.pixel_um, dy * attributes.pixel_um, attributes.camera_rotation_deg
    )
    x_um, y_um = place.slide_x_um + dx, place.slide_y_um + dy
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


def _targets(samples: Sequence[_Sample], job: PositionJob) -> dict[str, Image]:
    side = job.settings.crop_px
    targets = {"20x": np.empty((len(samples), 3, side, side), dtype=np.uint8)}
    if job.highres is not None:
        targets["100x"] = np.empty_like(targets["20x"])
    for index, sample in enumerate(samples):
        targets["20x"][index] = np.moveaxis(sample.target_20x, -1, 0)
        if sample.target_100x is not None:
            targets["100x"][index] = np.moveaxis(sample.target_100x, -1, 0)
    return targets
