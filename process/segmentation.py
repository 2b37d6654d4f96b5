"""White cells of a stained smear by thresholds in HSV space (papers/002, appendix A.1.1).

The published method thresholds hue, saturation and value within fixed limits, closes the binary
image and takes its connected components. Fixed limits fail on the stain of another laboratory, so
here the background is brought to the same white first, the lower limit of saturation comes from
the image (or slide) itself, and lengths are counted in red-cell diameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plsctl.acquire.errors import UserError
from plsctl.process.background import fit_background, flatten_background
from plsctl.process.cell_extent import grow_cells, nearest_label
from plsctl.process.chromatin import CHROMATIN_HUE, chromatin_strength, estimate_strength
from plsctl.process.ek_means import ek_means
from plsctl.process.red_cells import foreground_mask, red_cell_diameter_px

RED_CELL_UM = 7.5
_FIELD_CLUSTERS = 5
_LEAST_APART = 1.1  # red-cell diameters between the middles of nuclei of two cells that touch
_WORKING_DIAMETER_PX = (
    24.0  # images are brought to this red-cell diameter before they are segmented
)


class HsvLimits(BaseModel):
    """Limits of hue (0-180), saturation and value (0-255) in OpenCV's units, both ends included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hue: tuple[int, int] = (110, 165)
    saturation: tuple[int, int] = (60, 255)
    value: tuple[int, int] = (0, 255)


class SegmentationSettings(BaseModel):
    """How white cells are told from everything else.

    `method` says how chromatin is found: pixel by pixel by limits in HSV space, or as the cluster
    of colours with most chromatin (`ek_means`), if its mean strength passes the limit.
    `limits` fixes the HSV limits; without them the image decides (`chromatin_strength`,
    `estimate_strength`, within `hue`, never below `least_strength`); `strength` fixes that. Lengths
    and areas are relative to a red cell, whose diameter is measured in the image unless
    `red_cell_px` (pixels) or `pixel_um` (micrometres a pixel) gives it. Lobes closer than
    twice `closing` make one nucleus, unless two of them have `lone_nucleus_area` each: those are
    two cells that touch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["hsv", "ek-means"] = "hsv"
    limits: HsvLimits | None = None
    flat_field: bool = True
    pixel_um: float | None = Field(default=None, gt=0)
    red_cell_px: float | None = Field(default=None, gt=2)
    hue: tuple[int, int] = CHROMATIN_HUE
    least_strength: float = Field(default=0.15, gt=0)
    strength: float | None = Field(default=None, gt=0)
    closing: float = Field(default=0.25, ge=0, le=2)
    nucleus_area: tuple[float, float] = (0.33, 12.0)
    lone_nucleus_area: float = Field(default=1.0, gt=0)
    least_cell_area: float = Field(default=0.5, ge=0)


@dataclass(frozen=True)
class Cell:
    """One white cell: the box of nucleus and cytoplasm, its area, the centroid, in pixels.

    `x` and `y` are the box's top left corner; `centre_x`, `centre_y` are pixel coordinates in which
    the centre of the first pixel is (0, 0). `strength` is the mean chromatin strength of the
    nucleus.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    centre_x: float
    centre_y: float
    nucleus_area: int
    strength: float


@dataclass(frozen=True)
class Segmentation:
    """White cells of one image. Masks have shape (y, x), bool; the cell mask holds the nuclei."""

    cells: tuple[Cell, ...]
    nucleus_mask: NDArray[np.bool_]
    cell_mask: NDArray[np.bool_]
    least_strength: float | None
    red_cell_px: float

    def mask_image(self) -> NDArray[np.uint8]:
        """0 background, 128 cytoplasm, 255 nucleus; shape (y, x)."""
        return np.where(self.nucleus_mask, 255, np.where(self.cell_mask, 128, 0)).astype(np.uint8)


def _odd_disc(diameter: float) -> NDArray[np.uint8]:
    size = 2 * max(0, round(diameter / 2)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(disc, dtype=np.uint8)


def _closed(lobes: NDArray[np.uint8], settings: SegmentationSettings) -> NDArray[np.uint8]:
    if not settings.closing:
        return lobes
    disc = _odd_disc(2 * settings.closing * _WORKING_DIAMETER_PX)
    pad = disc.shape[0]
    # With room around the image the closing cannot erode what the border cuts.
    padded = cv2.copyMakeBorder(lobes, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[pad:-pad, pad:-pad]
    return np.ascontiguousarray(closed, dtype=np.uint8)


def _label_nuclei(
    chromatin: NDArray[np.bool_], settings: SegmentationSettings
) -> NDArray[np.int32]:
    """Nuclei numbered from 1: lobes joined, touching cells parted, specks left out; (y, x)."""
    opening = _odd_disc(0.2 * _WORKING_DIAMETER_PX)
    opened = cv2.morphologyEx(chromatin.astype(np.uint8), cv2.MORPH_OPEN, opening)
    lobes = np.asarray(opened, dtype=np.uint8)
    closed = _closed(lobes, settings)
    labels = np.asarray(cv2.connectedComponents(closed, ltype=cv2.CV_32S)[1], dtype=np.int32)
    red_cell = np.pi / 4 * _WORKING_DIAMETER_PX**2
    labels = _part_touching(labels, lobes, settings.lone_nucleus_area * red_cell)
    area = np.bincount(labels[lobes > 0], minlength=int(labels.max()) + 1).astype(float)
    # A cell cut by the border shows only part of its nucleus.
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    least = np.full(area.size, settings.nucleus_area[0] * red_cell)
    least[border] *= 0.9
    good = (area >= least) & (area <= settings.nucleus_area[1] * red_cell)
    good[0] = False
    numbers = np.zeros(area.size, dtype=np.int32)
    numbers[good] = np.arange(1, int(good.sum()) + 1)
    return np.asarray(numbers[labels], dtype=np.int32)


def _part_touching(
    labels: NDArray[np.int32], lobes: NDArray[np.uint8], large: float
) -> NDArray[np.int32]:
    """Give each lobe of at least `large` pixels a nucleus of its own where one holds several."""
    _, labelled, measured, centres = cv2.connectedComponentsWithStats(lobes, connectivity=8)
    parts, stats = np.asarray(labelled, dtype=np.int32), np.asarray(measured, dtype=np.int32)
    big = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= large)[1:]  # 0 is the background
    owner = np.array([_label_at(labels, parts, stats, part) for part in big], dtype=np.int32)
    apart = _LEAST_APART * _WORKING_DIAMETER_PX
    for index in range(len(big) - 1, 0, -1):
        same = owner[:index] == owner[index]
        if np.any(np.linalg.norm(centres[big[:index][same]] - centres[big[index]], axis=1) < apart):
            big, owner = np.delete(big, index), np.delete(owner, index)
    result, following = labels.copy(), int(labels.max()) + 1
    for number in [n for n in np.unique(owner) if np.count_nonzero(owner == n) > 1]:
        area = labels == number
        seeds = np.where(area, np.isin(parts, big) * parts, 0).astype(np.int32)
        zones = nearest_label(seeds)[1]
        for part in big[owner == number][1:]:
            result[area & (zones == part)] = following
            following += 1
    return result


def _label_at(
    labels: NDArray[np.int32], parts: NDArray[np.int32], stats: NDArray[np.int32], part: int
) -> int:
    """The label under a lobe, looked up at a pixel of its topmost row."""
    left, top, width = (int(value) for value in stats[part, :3])
    column = left + int(np.argmax(parts[top, left : left + width] == part))
    return int(labels[top, column])


def _resolve_red_cell_px(flat: NDArray[np.uint8], settings: SegmentationSettings) -> float:
    if settings.red_cell_px is not None:
        return settings.red_cell_px
    if settings.pixel_um is not None:
        return RED_CELL_UM / settings.pixel_um
    ruler = red_cell_diameter_px(flat)
    nucleus = _nucleus_diameter_px(flat, settings)
    if nucleus is None:
        return ruler.diameter_px
    # Nuclei measure 0.6 to 1.8 red cells. They help where red cells lie too close to be measured.
    if nucleus > 2.2 * ruler.diameter_px or not ruler.reliable:
        return float(np.clip(ruler.diameter_px, nucleus / 1.8, nucleus / 0.6))
    return ruler.diameter_px


def _nucleus_diameter_px(flat: NDArray[np.uint8], settings: SegmentationSettings) -> float | None:
    """Diameter of a disc as large as the largest nucleus, in pixels; None where there is none."""
    shrink = max(flat.shape[:2]) / 480
    size = (max(1, round(flat.shape[1] / shrink)), max(1, round(flat.shape[0] / shrink)))
    sketch = cv2.resize(flat, size, interpolation=cv2.INTER_AREA)
    smooth = np.asarray(cv2.GaussianBlur(sketch, (0, 0), 1.5), dtype=np.uint8)
    strength = chromatin_strength(smooth, settings.hue)
    least = estimate_strength(strength, foreground_mask(smooth), settings.least_strength)
    chromatin = (strength >= least).astype(np.uint8)
    inscribed = 2 * float(cv2.distanceTransform(chromatin, cv2.DIST_L2, 5).max())
    if inscribed < 8:
        return None
    opened = cv2.morphologyEx(chromatin, cv2.MORPH_OPEN, _odd_disc(0.5 * inscribed))
    joined = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _odd_disc(0.7 * inscribed))
    stats = cv2.connectedComponentsWithStats(joined)[2]
    largest = float(stats[1:, cv2.CC_STAT_AREA].max())
    return float(shrink * np.sqrt(4 / np.pi * largest))


def _measure(
    labels: NDArray[np.int32], nuclei: NDArray[np.bool_], strength: NDArray[np.float32]
) -> list[Cell]:
    count = int(labels.max()) + 1
    if count == 1:
        return []
    # Statistics per label over the boxes only: labels are compact objects in a large image.
    cells = []
    for number, box in enumerate(_boxes(labels, count), start=1):
        if box is None:
            continue
        part = labels[box] == number
        core = part & nuclei[box]
        y, x = np.nonzero(part)
        cells.append(
            Cell(
                x=box[1].start,
                y=box[0].start,
                width=box[1].stop - box[1].start,
                height=box[0].stop - box[0].start,
                area=int(part.sum()),
                centre_x=float(x.mean()) + box[1].start,
                centre_y=float(y.mean()) + box[0].start,
                nucleus_area=int(core.sum()),
                strength=float(strength[box][core].mean()) if core.any() else 0.0,
            )
        )
    return cells


def _boxes(labels: NDArray[np.int32], count: int) -> Sequence[tuple[slice, slice] | None]:
    from scipy.ndimage import find_objects

    return find_objects(labels, max_label=count - 1)  # type: ignore[no-any-return]


def slide_settings(
    images: Iterable[NDArray[np.uint8]], settings: SegmentationSettings
) -> SegmentationSettings:
    """Settings with the chromatin limit estimated once, from several fields of one slide together.

    A field with few white cells, or none, says little about the stain; ten fields do.

    Parameters
    ----------
    images
        Fields, (y, x, rgb), uint8.
    """
    if settings.strength is not None or settings.limits is not None:
        return settings
    strengths, foregrounds = [], []
    for image in images:
        work, _ = _prepare(image, settings)
        smooth = np.asarray(cv2.GaussianBlur(work, (0, 0), 1.0), dtype=np.uint8)
        strengths.append(chromatin_strength(smooth, settings.hue).ravel()[::2])
        foregrounds.append(foreground_mask(work).ravel()[::2])
    if not strengths:
        return settings
    pooled = estimate_strength(
        np.concatenate(strengths), np.concatenate(foregrounds), settings.least_strength
    )
    return settings.model_copy(update={"strength": pooled})


def _prepare(
    image: NDArray[np.uint8], settings: SegmentationSettings
) -> tuple[NDArray[np.uint8], float]:
    """The image with a flat background at the working scale, and its red cells' diameter."""
    flat = image
    if settings.flat_field:
        flat = flatten_background(image, fit_background(image))
    red_cell_px = _resolve_red_cell_px(flat, settings)
    return _to_working_scale(flat, red_cell_px), red_cell_px


def segment(image: NDArray[np.uint8], settings: SegmentationSettings | None = None) -> Segmentation:
    """White cells of a stained bright-field image.

    Parameters
    ----------
    image
        Shape (y, x, rgb), uint8.
    settings
        Thresholds and sizes; the default estimates both from the image.

    Returns
    -------
    The cells, ordered by row and column of their boxes, and the masks.

    Raises
    ------
    UserError
        When the image is not (y, x, rgb) in 8 bits, or is black.

    Notes
    -----
    papers/002 section 3.1.3 and appendix A.1.1.
    """
    settings = settings or SegmentationSettings()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"Cannot segment an image of shape {image.shape} and type {image.dtype}.",
            hint="Give an 8-bit colour image, (y, x, rgb).",
        )
    work, red_cell_px = _prepare(image, settings)
    smooth = np.asarray(cv2.GaussianBlur(work, (0, 0), 1.0), dtype=np.uint8)
    strength = chromatin_strength(smooth, settings.hue)
    foreground = foreground_mask(work)
    least: float | None = None
    if settings.limits is not None and settings.method == "hsv":
        chromatin = _within(smooth, settings.limits)
    else:
        least = settings.strength or estimate_strength(
            strength, foreground, settings.least_strength
        )
        by_colour = settings.method == "ek-means"
        chromatin = (
            _chromatin_cluster(smooth, strength, least)
            if by_colour
            else np.asarray(strength >= least)
        )
    labels = _label_nuclei(chromatin, settings)
    nuclei = chromatin & (labels > 0)
    whole = grow_cells(work, labels, nuclei, foreground, _WORKING_DIAMETER_PX)
    if whole.shape != image.shape[:2]:
        whole, nuclei, strength = _to_image_scale(image.shape[:2], whole, nuclei, strength)
    cells = _keep_large(_measure(whole, nuclei, strength), image.shape[:2], red_cell_px, settings)
    return Segmentation(cells, nuclei, whole > 0, least, red_cell_px)


def _chromatin_cluster(
    smooth: NDArray[np.uint8], strength: NDArray[np.float32], least: float
) -> NDArray[np.bool_]:
    """The cluster of colours with most chromatin, where its mean reaches the limit; (y, x)."""
    # Balanced: nuclei are a hundredth of a field, and would share a cluster with red cells.
    labels = ek_means(smooth, _FIELD_CLUSTERS, balance=0.5).labels
    total = np.bincount(labels.ravel(), weights=strength.ravel(), minlength=_FIELD_CLUSTERS)
    mean = total / np.maximum(np.bincount(labels.ravel(), minlength=_FIELD_CLUSTERS), 1)
    best = int(mean.argmax())
    return np.asarray((labels == best) & bool(mean[best] >= least))


def _within(smooth: NDArray[np.uint8], limits: HsvLimits) -> NDArray[np.bool_]:
    hsv = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV)
    low, high = zip(limits.hue, limits.saturation, limits.value, strict=True)
    return np.asarray(cv2.inRange(hsv, low, high)) > 0


def _to_working_scale(flat: NDArray[np.uint8], red_cell_px: float) -> NDArray[np.uint8]:
    zoom = _WORKING_DIAMETER_PX / red_cell_px
    if 0.8 < zoom < 1.25:  # near enough: keep the pixels as they are
        return flat
    size = (max(1, round(flat.shape[1] * zoom)), max(1, round(flat.shape[0] * zoom)))
    mode = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(flat, size, interpolation=mode), dtype=np.uint8)


def _to_image_scale(
    shape: tuple[int, ...],
    labels: NDArray[np.int32],
    nuclei: NDArray[np.bool_],
    strength: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.float32]]:
    size = (shape[1], shape[0])
    large = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT)
    whole = large.astype(np.int32)
    core = cv2.resize(nuclei.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
    level = np.asarray(cv2.resize(strength, size, interpolation=cv2.INTER_LINEAR), np.float32)
    return whole, core & (whole > 0), level


def _keep_large(
    found: list[Cell], shape: tuple[int, ...], red_cell_px: float, settings: SegmentationSettings
) -> tuple[Cell, ...]:
    """Cells of a plausible size, in the order of their boxes; cells cut by the border stay."""
    least = settings.least_cell_area * np.pi / 4 * red_cell_px**2
    height, width = shape[:2]
    kept = [
        cell
        for cell in found
        if cell.area >= least
        or min(cell.x, cell.y) == 0
        or cell.x + cell.width == width
        or cell.y + cell.height == height
    ]
    return tuple(sorted(kept, key=lambda cell: (cell.y, cell.x)))
