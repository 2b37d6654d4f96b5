"""White cells of a stained smear by thresholds in HSV space (papers/002, appendix A.1.1).

The published method thresholds hue, saturation and value within fixed limits, closes the binary
image and takes its connected components. Fixed limits fail on the stain of another laboratory, so
here the background is brought to the same white first, the lower limit of saturation comes from
the image (or slide) itself, lengths are counted in red-cell diameters, and finds must differ
in colour from the red cells of the image.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.segmentation.cells import (
    Cell,
    Segmentation,
    confirmed,
    in_order,
    judged_cells,
    without_scale,
)
from plsctl.process.segmentation.chromatin import estimate_strength
from plsctl.process.segmentation.image_area import FlatField
from plsctl.process.segmentation.objects import Scene, find_piece, to_working_scale
from plsctl.process.segmentation.red_cells import is_small
from plsctl.process.segmentation.scale import OTHER_SIZE, resolve_red_cells, second_red_cell_px
from plsctl.process.segmentation.settings import SegmentationSettings
from plsctl.process.segmentation.tiles import is_large, segment_tiles

_NO_SCALE = (
    "the size of its cells cannot be told: too few red cells are seen whole; give the pixel size"
)


def slide_settings(
    images: Iterable[NDArray[np.uint8]], settings: SegmentationSettings
) -> SegmentationSettings:
    """Settings with the chromatin limit estimated once, from several fields of one slide together.

    A field with few white cells, or none, says little about the stain; ten fields do. Fields that
    cannot be judged are passed over.

    Parameters
    ----------
    images
        Fields, (y, x, rgb), uint8.
    """
    if settings.strength is not None or settings.limits is not None:
        return settings
    strengths, foregrounds = [], []
    for image in images:
        field = FlatField.of(image, settings.flat_field)
        if field.cannot_judge is not None:
            continue
        flat = field.flat(image)
        red_cell_px = resolve_red_cells(flat, settings).diameter_px
        scene = Scene.of(to_working_scale(flat, red_cell_px), settings.hue)
        strengths.append(scene.strength.ravel()[::2])
        foregrounds.append(scene.foreground.ravel()[::2])
    if not strengths:
        return settings
    pooled = estimate_strength(
        np.concatenate(strengths), np.concatenate(foregrounds), settings.least_strength
    )
    return settings.model_copy(update={"strength": pooled})


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
    The cells and other objects, ordered by row and column of their boxes, and the masks. Where the
    image cannot be judged there are none, and `cannot_judge` says why.

    Raises
    ------
    UserError
        When the image is not (y, x, rgb) in 8 bits, or is smaller than 8 x 8 pixels.

    Notes
    -----
    papers/002 section 3.1.3 and appendix A.1.1.
    """
    settings = settings or SegmentationSettings()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"cannot segment an image of shape {image.shape} and type {image.dtype}.",
            hint="Give an 8-bit colour image, (y, x, rgb).",
        )
    field = FlatField.of(image, settings.flat_field)
    if field.cannot_judge is not None:
        nothing = np.zeros(image.shape[:2], dtype=np.bool_)
        return Segmentation((), (), nothing, nothing, None, 0.0, field.cannot_judge)
    if is_large(image):
        return segment_tiles(image, field, settings)
    flat = field.flat(image)
    ruler = resolve_red_cells(flat, settings)
    red_cell_px = ruler.diameter_px
    piece = find_piece(flat, red_cell_px, settings)
    found = judged_cells(piece.found, piece.least, red_cell_px, image.shape[:2], settings)
    doubtful = not (ruler.reliable and _has_white(found))
    other_px = second_red_cell_px(flat, settings) if doubtful else None
    if other_px is not None:
        again = find_piece(flat, other_px, settings)
        judged = judged_cells(again.found, again.least, other_px, image.shape[:2], settings)
        if _has_white(found):
            found = confirmed(found, judged)
        elif _has_white(judged) and other_px * OTHER_SIZE < red_cell_px:
            piece, found, red_cell_px = again, judged, other_px
    if not ruler.reliable and is_small(image.shape) and found:
        found = without_scale(found, piece.whole, piece.nuclei)
        if not _has_white(found):
            nothing = np.zeros(image.shape[:2], dtype=np.bool_)
            return Segmentation((), (), nothing, nothing, piece.least, red_cell_px, _NO_SCALE)
    white = np.zeros(max(piece.found, default=0) + 1, dtype=np.bool_)
    white[[n for n, cell in found.items() if cell.kind == "white cell"]] = True
    cells = white[piece.whole]
    return Segmentation(
        in_order(found, True),
        in_order(found, False),
        piece.nuclei & cells,
        cells,
        piece.least,
        red_cell_px,
    )


def _has_white(found: dict[int, Cell]) -> bool:
    return any(cell.kind == "white cell" for cell in found.values())
