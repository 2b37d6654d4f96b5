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

LEAST_SIDE_PX = 48
"""Of an image whose scale is to be measured: a smaller one does not show a cell and its
surroundings."""

# Of a nucleus that is one whatever the size of red cells:
_CLOSE_PX = 24.0  # diameter of a disc as large
_CLOSE = 0.12  # the same, over the shorter side of the image
_CLEARLY_CHROMATIN = 0.3  # strength; rims of red cells in small images have up to 0.3
_MOST_CUT = 0.4  # length on the border, over that diameter


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
    judged = [n for n, cell in kept.items() if cell.kind in ("white cell", "smudge")]
    if least is None or not judged:
        return kept
    marks = smudges(
        np.array([kept[n].strength for n in judged]),
        np.array([kept[n].nucleus_area for n in judged]) / unit,
        np.array([kept[n].area for n in judged]) / unit,
        np.array([kept[n].kind == "smudge" for n in judged]),
        least,
    )
    for number, smudge in zip(judged, marks, strict=True):
        kept[number] = replace(kept[number], kind="smudge" if smudge else "white cell")
    return kept


def confirmed(found: dict[int, Cell], again: dict[int, Cell]) -> dict[int, Cell]:
    """The white cells that are found again with another size of red cells, and all that is none."""
    others = [cell for cell in again.values() if cell.kind == "white cell"]
    return {
        number: cell
        for number, cell in found.items()
        if cell.kind != "white cell" or any(_meet(cell, other) for other in others)
    }


def _meet(one: Cell, other: Cell) -> bool:
    """Whether two boxes share pixels."""
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def without_scale(found: dict[int, Cell], whole: Labels, nuclei: Mask) -> dict[int, Cell]:
    """What is left where the size of red cells is not known: white cells seen close, and the rest.

    A nucleus that is large in the image, strongly coloured and not cut is one at any scale. Smaller
    or paler ones may be rims of red cells, folds and dust.

    Parameters
    ----------
    found
        Cells by the numbers of their labels.
    whole, nuclei
        Labels of whole cells, and True on nuclei; (y, x).
    """
    side = min(whole.shape)
    if side < LEAST_SIDE_PX:
        return {}
    rim = np.zeros(whole.shape, dtype=np.bool_)
    rim[[0, -1]] = rim[:, [0, -1]] = True
    cut = np.bincount(whole[rim & nuclei], minlength=int(whole.max(initial=0)) + 1)
    kept = {}
    for number, cell in found.items():
        across = np.sqrt(4 / np.pi * cell.nucleus_area)
        close = across > max(_CLOSE_PX, _CLOSE * side) and cell.strength > _CLEARLY_CHROMATIN
        if cell.kind != "white cell" or (close and cut[number] < _MOST_CUT * across):
            kept[number] = cell
    return kept


def in_order(found: dict[int, Cell], white: bool) -> tuple[Cell, ...]:
    """The white cells, or the others, by row and column of their boxes."""
    chosen = [cell for cell in found.values() if (cell.kind == "white cell") == white]
    return tuple(sorted(chosen, key=lambda cell: (cell.y, cell.x)))
