"""The cells found in an image: their measures, and which of them are white cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Mask
from plsctl.process.segmentation.object_kinds import Kind, smudges
from plsctl.process.segmentation.settings import SegmentationSettings

Labels: TypeAlias = NDArray[np.int32]
Strength: TypeAlias = NDArray[np.float32]


LEAST_SHOWN = 0.6
"""Red-cell areas of its nucleus that a cell cut by the border must show: less may be anything,
platelets that lie together above all."""


@dataclass(frozen=True)
class Cell:
    """One cell: the box of nucleus and cytoplasm, its area, the centroid, in pixels.

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
    kind: Kind = "white cell"


@dataclass(frozen=True)
class Segmentation:
    """White cells of one image. Masks have shape (y, x), bool; the cell mask holds the nuclei.

    `others` have the hue of chromatin too, and are in no mask: smudges, platelets, and clumps of
    cells that cannot be parted. `cannot_judge` says why white cells cannot be told in the image:
    then that none is listed does not say that there is none.
    """

    cells: tuple[Cell, ...]
    others: tuple[Cell, ...]
    nucleus_mask: Mask
    cell_mask: Mask
    least_strength: float | None
    red_cell_px: float
    cannot_judge: str | None = None

    def mask_image(self) -> NDArray[np.uint8]:
        """0 background, 128 cytoplasm, 255 nucleus; shape (y, x)."""
        mask = self.cell_mask * np.uint8(128)
        mask[self.nucleus_mask] = 255
        return np.asarray(mask, dtype=np.uint8)


def measure_cells(labels: Labels, nuclei: Mask, strength: Strength) -> dict[int, Cell]:
    """Cells by the numbers of their labels."""
    # Statistics per label over the boxes only: labels are compact objects in a large image.
    cells = {}
    for number, box in enumerate(label_boxes(labels), start=1):
        if box is None:
            continue
        part = labels[box] == number
        core = part & nuclei[box]
        y, x = np.nonzero(part)
        cells[number] = Cell(
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
    return cells


def label_boxes(labels: Labels) -> Sequence[tuple[slice, slice] | None]:
    """The box of every label from 1 on; None where a number has no pixels."""
    from scipy.ndimage import find_objects

    return find_objects(labels)  # type: ignore[no-any-return]


def judged_cells(
    found: dict[int, Cell],
    least: float | None,
    red_cell_px: float,
    shape: tuple[int, ...],
    settings: SegmentationSettings,
) -> dict[int, Cell]:
    """Drop white cells too small to be whole, and separate smudges and clumps."""
    unit = np.pi / 4 * red_cell_px**2
    height, width = shape
    kept = {}
    for number, cell in found.items():
        cut = min(cell.x, cell.y) == 0 or cell.x + cell.width == width
        cut = cut or cell.y + cell.height == height
        if cut and cell.kind != "platelet" and cell.nucleus_area < LEAST_SHOWN * unit:
            continue
        large = cell.area >= settings.least_cell_area * unit
        clump = cell.nucleus_area > settings.nucleus_area[1] * unit
        if cell.kind == "platelet" or large or cut:
            kept[number] = replace(cell, kind="clump") if clump else cell
    white = [number for number, cell in kept.items() if cell.kind == "white cell"]
    if least is None or not white:
        return kept
    marks = smudges(
        np.array([kept[n].strength for n in white]),
        np.array([kept[n].nucleus_area for n in white]) / unit,
        np.array([kept[n].area for n in white]) / unit,
        least,
    )
    for number in np.array(white)[marks]:
        kept[int(number)] = replace(kept[int(number)], kind="smudge")
    return kept


def in_order(found: dict[int, Cell], white: bool) -> tuple[Cell, ...]:
    """The white cells, or the others, by row and column of their boxes."""
    chosen = [cell for cell in found.values() if (cell.kind == "white cell") == white]
    return tuple(sorted(chosen, key=lambda cell: (cell.y, cell.x)))
