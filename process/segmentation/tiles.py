"""Large images in tiles that overlap: limits and scale of the whole image, every cell once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from plsctl.acquire.arrays import Image, Mask
from plsctl.process.segmentation.cells import Cell, Segmentation, in_order, judged_cells
from plsctl.process.segmentation.chromatin import estimate_strength
from plsctl.process.segmentation.cytoplasm import optical_density
from plsctl.process.segmentation.image_area import FlatField, Window
from plsctl.process.segmentation.object_kinds import RedCellColour
from plsctl.process.segmentation.objects import Scene, find_objects, find_piece, to_working_scale
from plsctl.process.segmentation.scale import (
    WINDOW_PX,
    given_red_cell_px,
    spread_windows,
    typical_red_cell_px,
)
from plsctl.process.segmentation.settings import SegmentationSettings

_LARGE_PX = 30e6
_TILE_RED_CELLS = 40  # side of a tile, in red-cell diameters
_OVERLAP_RED_CELLS = 8  # on every side: more than any cell, or clump that is told as one
_SAMPLE_RED_CELLS = 50  # side of the windows that tell the stain


def is_large(image: Image) -> bool:
    """Whether an image is segmented in tiles."""
    return bool(image.shape[0] * image.shape[1] > _LARGE_PX)


@dataclass(frozen=True)
class _Find:
    """A cell in the pixels of the image, and its pixels within its box: (y, x)."""

    cell: Cell
    part: Mask
    nucleus: Mask

    @property
    def box(self) -> Window:
        c = self.cell
        return slice(c.y, c.y + c.height), slice(c.x, c.x + c.width)


def segment_tiles(image: Image, field: FlatField, settings: SegmentationSettings) -> Segmentation:
    """As `segment`, in the memory of the image, its masks and one tile."""
    red_cell_px = _red_cell_px(image, field, settings)
    tuned, red = _tuned(image, field, settings, red_cell_px)
    finds: dict[int, _Find] = {}
    taken = np.zeros(image.shape[:2], dtype=np.bool_)
    for window, inner in _tiles(image.shape[:2], red_cell_px):
        piece = find_piece(field.flat(image, window), red_cell_px, tuned, red)
        for number, cell in piece.found.items():
            part = (
                slice(cell.y, cell.y + cell.height),
                slice(cell.x, cell.x + cell.width),
            )
            moved = _moved(cell, window)
            if not _is_inside(moved, inner):
                continue
            mask = np.asarray(piece.whole[part] == number)
            find = _Find(moved, mask, mask & piece.nuclei[part])
            # The neighbouring tile may have found it too, hardly different.
            if np.count_nonzero(taken[find.box] & mask) > 0.3 * cell.area:
                continue
            taken[find.box] |= mask
            finds[len(finds) + 1] = find
    cells = {number: find.cell for number, find in finds.items()}
    kept = judged_cells(cells, tuned.strength, red_cell_px, image.shape[:2], settings)
    taken[:] = False
    nuclei = np.zeros_like(taken)
    for number, cell in kept.items():
        if cell.kind == "white cell":
            taken[finds[number].box] |= finds[number].part
            nuclei[finds[number].box] |= finds[number].nucleus
    return Segmentation(
        in_order(kept, True), in_order(kept, False), nuclei, taken, tuned.strength, red_cell_px
    )


def _red_cell_px(image: Image, field: FlatField, settings: SegmentationSettings) -> float:
    given = given_red_cell_px(settings)
    if given is not None:
        return given
    windows = (field.flat(image, window) for window in spread_windows(image.shape[:2], WINDOW_PX))
    return typical_red_cell_px(windows, settings)


def _tuned(
    image: Image, field: FlatField, settings: SegmentationSettings, red_cell_px: float
) -> tuple[SegmentationSettings, RedCellColour | None]:
    """The limit of chromatin and the colour of red cells of the whole image, from windows of it."""
    side = round(_SAMPLE_RED_CELLS * red_cell_px)
    scenes = [
        Scene.of(to_working_scale(field.flat(image, window), red_cell_px), settings.hue)
        for window in spread_windows(image.shape[:2], side)
    ]
    pooled = settings.strength
    if pooled is None and (settings.limits is None or settings.method == "ek-means"):
        pooled = estimate_strength(
            np.concatenate([scene.strength.ravel() for scene in scenes]),
            np.concatenate([scene.foreground.ravel() for scene in scenes]),
            settings.least_strength,
        )
    trial = settings.model_copy(update={"strength": pooled})
    found = [
        find_objects(
            scene, optical_density(scene.smooth), trial, may_raise=settings.strength is None
        )
        for scene in scenes
    ]
    raised = [o.least for o in found if o.least is not None and pooled and o.least > pooled]
    if raised:
        # Red cells pass the limit in some of the windows: it lies above them in all.
        trial = trial.model_copy(update={"strength": float(np.median(raised))})
    colours = [o.red for o in found if o.red.green is not None]
    if not colours:
        return trial, None
    red = RedCellColour(
        float(np.median([c.green for c in colours if c.green is not None])),
        float(np.median([c.blueness for c in colours])),
        max(c.densest for c in colours),
    )
    return trial, red


def _tiles(shape: tuple[int, ...], red_cell_px: float) -> Iterator[tuple[Window, Window]]:
    """Windows of an image (y, x) with their overlap, and the part in which their finds count."""
    side = round(_TILE_RED_CELLS * red_cell_px)
    overlap = round(_OVERLAP_RED_CELLS * red_cell_px)
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield (
                (_around(top, side, overlap, shape[0]), _around(left, side, overlap, shape[1])),
                (
                    _around(top, side, overlap // 2, shape[0]),
                    _around(left, side, overlap // 2, shape[1]),
                ),
            )


def _around(start: int, length: int, more: int, whole: int) -> slice:
    return slice(max(0, start - more), min(whole, start + length + more))


def _moved(cell: Cell, window: Window) -> Cell:
    top, left = window[0].start, window[1].start
    return replace(
        cell,
        x=cell.x + left,
        y=cell.y + top,
        centre_x=cell.centre_x + left,
        centre_y=cell.centre_y + top,
    )


def _is_inside(cell: Cell, inner: Window) -> bool:
    """Whether the middle of a cell lies there; cells at the rim of a tile belong to others."""
    rows, columns = inner
    inside = rows.start <= cell.centre_y < rows.stop
    return bool(inside and columns.start <= cell.centre_x < columns.stop)
