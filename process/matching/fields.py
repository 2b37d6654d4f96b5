"""One position before and after staining: the field as a whole, then each cell by itself.

The transform that the stained pass found narrows the search: where fields were taken at the right
places, they lie within a few micrometres and at a known angle. Where that fails, everything within
the margin of papers/002 (section 3.1.3) and a few degrees is searched.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image
from plsctl.process.matching.correlation import MARGIN_SHARE, grey_image, wide_edges
from plsctl.process.matching.fine_alignment import (
    FineMatch,
    align_crop,
    alignment_planes,
    cell_weights,
)
from plsctl.process.matching.overlap import ANGLES_DEG, LEAST_SCORE, Overlap, find_overlap
from plsctl.process.matching.similarity import Similarity, robust_similarity
from plsctl.process.matching.tiles import TileSettings, tile_places

NARROW_UM = 15.0
"""How far a field may lie from where the transform says: stage, backlash and the transform."""

MOST_SECOND_RATIO = 0.75
_WORKING_UM = 1.0
_APART_UM = 6.0
_STEP = 3  # every third window of the similarity: as good, at a ninth of the cost
_TILE_UM, _TILE_REACH_UM = 46.88, 4.1


@dataclass(frozen=True)
class FieldMatch:
    """Where a stained field lies in the unstained one.

    `to_unstained` carries pixels of the stained image to those of the unstained one; score and
    ratio of the second-best place as everywhere.
    """

    to_unstained: Similarity
    score: float
    second_ratio: float

    @property
    def trusted(self) -> bool:
        """Whether the fields fit there, and nowhere else nearly as well."""
        return self.score >= LEAST_SCORE and self.second_ratio <= MOST_SECOND_RATIO


def match_position(before: Image, after: Image, rotation_deg: float, pixel_um: float) -> FieldMatch:
    """Where the stained field of a position lies in the unstained one.

    Parameters
    ----------
    before, after
        Bright-field images of one size, (y, x, rgb).
    rotation_deg
        By how much the returned slide is turned, as far as that is known.
    pixel_um
        Size of a pixel in the sample.
    """
    greys = grey_image(before), grey_image(after)
    shrink = max(1.0, _WORKING_UM / pixel_um)
    reference, moving = (_small_edges(grey, shrink) for grey in greys)
    apart = max(3, round(_APART_UM / pixel_um / shrink))
    narrow = find_overlap(
        reference,
        moving,
        angles_deg=(rotation_deg,),
        reach_px=NARROW_UM / pixel_um / shrink,
        apart_px=apart,
    )
    found = _placed(narrow, after.shape, before.shape, shrink)
    if found.trusted:
        return found
    angles = tuple(rotation_deg + angle for angle in ANGLES_DEG)
    reach = MARGIN_SHARE * min(moving.shape)
    wide = find_overlap(reference, moving, angles_deg=angles, reach_px=reach, apart_px=2 * apart)
    found = _placed(wide, after.shape, before.shape, shrink)
    if not found.trusted:
        return found
    # The angles that were tried are half a degree apart: too coarse for the corners.
    settings = TileSettings(_TILE_UM / pixel_um, max(1, round(_TILE_REACH_UM / pixel_um)))
    tiles = tile_places(wide_edges(greys[1]), greys[0], found.to_unstained, settings, wide_edges)
    refined = robust_similarity(*tiles, 2.0, rigid=True)
    return found if refined is None else FieldMatch(refined[0], found.score, found.second_ratio)


def _placed(
    found: Overlap, after: tuple[int, ...], before: tuple[int, ...], shrink: float
) -> FieldMatch:
    middle_after = ((after[1] - 1) / 2, (after[0] - 1) / 2)
    middle_before = (
        (before[1] - 1) / 2 + found.dx * shrink,
        (before[0] - 1) / 2 + found.dy * shrink,
    )
    motion = Similarity.about(middle_after, middle_before, -found.rotation_deg)
    return FieldMatch(motion, found.score, found.second_ratio)


def _small_edges(grey: Image, shrink: float) -> NDArray[np.float32]:
    """Edges on a grid `shrink` times as coarse, found at half that where it is worth it."""
    factor = max(1.0, shrink / 2)
    half = [round(side / factor) for side in grey.shape[::-1]]
    edges = wide_edges(np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.uint8))
    size = [round(side / shrink) for side in grey.shape[::-1]]
    return np.asarray(cv2.resize(edges, size, interpolation=cv2.INTER_AREA)).astype(np.float32)


@dataclass(frozen=True)
class CellMatch:
    """A cell's crops: the middle of each in pixels (x, y).

    `unstained` lies between pixels, so that the crop keeps the camera's pixels; the stained crop
    is turned by `rotation_deg` and takes up the fraction of a pixel.
    """

    unstained: tuple[float, float]
    stained: tuple[float, float]
    rotation_deg: float
    fine: FineMatch


class FieldAligner:
    """Finds cells of a stained field in the unstained one to a fraction of a pixel."""

    def __init__(self, before: Image, after: Image, field: FieldMatch) -> None:
        self._before = alignment_planes(before)
        # As (y, x, plane); transposing in NumPy takes ten times as long.
        self._after = np.asarray(cv2.merge(list(alignment_planes(after))), np.uint8)
        self._to_unstained = field.to_unstained
        self._to_stained = field.to_unstained.inverse

    def expected(self, x: float, y: float) -> tuple[float, float]:
        """The place between pixels of the unstained image where a stained pixel is expected."""
        u, v = self._to_unstained.apply_to(x, y)
        return round(u + 0.5) - 0.5, round(v + 0.5) - 0.5

    def align(
        self,
        x: float,
        y: float,
        box_px: tuple[float, float],
        crop_px: int,
        reach_px: int,
        margin_px: int = 0,
    ) -> CellMatch | None:
        """The cell at a pixel of the stained image; None where its crops reach beyond an image.

        Parameters
        ----------
        box_px
            Width and height of the cell.
        crop_px
            Side of the crop, even.
        reach_px
            Shifts are searched over plus and minus this many pixels.
        margin_px
            The unstained crop needs this much room around it.
        """
        u, v = self.expected(x, y)
        centre = self._to_stained.apply_to(u, v)
        half = crop_px / 2
        room = half + reach_px
        needed = room + margin_px
        height, width = self._before.shape[1:]
        if not (needed <= u + 0.5 <= width - needed and needed <= v + 0.5 <= height - needed):
            return None
        if not (
            half <= centre[0] + 0.5 <= width - half and half <= centre[1] + 0.5 <= height - half
        ):
            return None
        rotation = self._to_stained.rotation_deg
        crop = turned_crop(self._after, centre, crop_px, rotation)
        left, top = round(u + 0.5 - room), round(v + 0.5 - room)
        side = crop_px + 2 * reach_px
        search = self._before[:, top : top + side, left : left + side]
        fine = align_crop(
            np.moveaxis(crop, -1, 0),
            search,
            reach_px,
            cell_weights(crop_px, *box_px),
            _STEP,
        )
        step_x, step_y = round(fine.dx), round(fine.dy)
        # What is left of the shift, as the turned stained image sees it.
        rest = complex(step_x - fine.dx, step_y - fine.dy) * self._to_stained.factor
        return CellMatch(
            (u + step_x, v + step_y),
            (centre[0] + rest.real, centre[1] + rest.imag),
            rotation,
            fine,
        )


def turned_crop(
    image: Image, centre: tuple[float, float], size_px: int, rotation_deg: float
) -> Image:
    """Square crop around a point, turned back by an angle, in one cubic interpolation.

    Shape (size, size) and the channels of `image`, (y, x, channel).
    """
    middle = (size_px - 1) / 2
    grid = Similarity.about((middle, middle), centre, rotation_deg).matrix
    crop = cv2.warpAffine(
        image,
        grid,
        (size_px, size_px),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(crop, dtype=np.uint8)
