"""Classes of objects with the hue of chromatin: white cells, and objects that only look like one.

Chromatin is denser than a red cell and takes relatively less blue, because haemoglobin absorbs blue
and the azures do not. Both are measured against the red cells of the same image, so that neither
the strength of the stain nor the colour of the light matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Mask
from plsctl.process.segmentation.cytoplasm import nearest_label

Kind: TypeAlias = Literal["white cell", "smudge", "platelet", "clump"]

Density: TypeAlias = NDArray[np.float32]

USUAL_BLUENESS = 0.55
"""Density in blue over green of red cells, where there are none to measure."""

# On real and simulated smears (docs/segmentation.md) nuclei of white cells have 1.45 times
# the density of red cells or more and at most 0.75 of their blueness; red cells 0.92 to 1.1.
_RED_BLUENESS = 0.8
_TWO_RED_CELLS = 2.3  # nothing of the colour of red cells that is hardly denser than two is one
_GREY_BLUENESS = 1.25  # dirt and pointers absorb all colours alike:
_GREY = 0.7  # density in blue over green; nuclei have up to 0.45
_PALE = 1.25  # times the density of red cells: what is paler has lost its chromatin

_LEAST_SAMPLE = 0.5  # red-cell areas of foreground that tell the colour of red cells

_FAINT = 0.35  # of what is usual above the limit: nuclei that have lost their chromatin
_SMEARED_AREA = 2.8  # red-cell areas: larger than most nuclei
_SWOLLEN_AREA = 4.4  # larger than nuclei of healthy cells, so that
_SWOLLEN_STRENGTH = 0.82  # of what is usual is weak
_BARE = 1.3  # whole cell over nucleus: no cytoplasm is left
_ENOUGH_CELLS = 4  # so many white cells of an image say what is usual

_WEAK = 0.75
"""What is pale and has less than this share of the usual chromatin strength is a smudge. On 23
simulated slides 1,396 white cells have 0.77 or more, smudges that are pale 0.73 or less."""

_PLATELET_AREA = (0.025, 0.33)  # red-cell areas: discs of 1.2 to 4.3 um
_PLATELET_BLUENESS = (0.7, 0.52)  # of red cells: pixel by pixel, and on the whole
_PLATELET_DENSITY = 0.4  # of red cells, in green
_PLATELET_CONTRAST = 0.35  # to what surrounds it, in densities of red cells
_PLATELET_PEAK = 0.7  # of the limit of chromatin that its darkest pixel reaches
_PLATELET_NEIGHBOURS = 0.5  # of its surroundings that may be filled by other cells


@dataclass(frozen=True)
class RedCellColour:
    """The red cells of an image: median optical density in green, and density in blue over it.

    `green` is None where there are too few to measure. `densest` is the density of the purplest
    among them where some passed the limit of chromatin.
    """

    green: float | None
    blueness: float
    densest: float = 0.0


def red_cell_colour(
    density: Density, foreground: Mask, labels: NDArray[np.int32], red_cell_px: float
) -> RedCellColour:
    """Colour of what absorbs away from all objects.

    Parameters
    ----------
    density
        Optical density, shape (y, x, rgb).
    foreground
        True where anything absorbs, shape (y, x).
    labels
        Objects numbered from 1, shape (y, x).
    red_cell_px
        Diameter of a red cell in pixels.
    """
    away = foreground
    if labels.any():
        away = foreground & (nearest_label(labels)[0] > 0.7 * red_cell_px)
    inner = cv2.erode(away.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # rims are half glass
    if np.count_nonzero(inner) < _LEAST_SAMPLE * np.pi / 4 * red_cell_px**2:
        return RedCellColour(None, USUAL_BLUENESS)
    _, green, blue = np.median(density[inner], axis=0)
    return RedCellColour(float(green), float(blue / max(green, 1e-6)))


def look(density: Density, nucleus: Mask, red: RedCellColour) -> Kind | None:
    """Whether an object has the colour of a nucleus: a white cell, as pale as a smudge, or neither.

    Density (y, x, rgb) and nucleus (y, x) of the object's box.
    """
    _, green, blue = np.median(density[nucleus], axis=0)
    blueness = float(blue / max(green, 1e-6)) / max(red.blueness, 1e-6)
    times_red = float("inf") if red.green is None else float(green / max(red.green, 1e-6))
    if blueness > _GREY_BLUENESS or blue > _GREY * green:
        return None
    overlapping = _TWO_RED_CELLS * max(red.green or 0.0, red.densest)
    if blueness > _RED_BLUENESS and green < overlapping:
        return None
    return "smudge" if times_red < _PALE else "white cell"


def smudges(
    strength: NDArray[np.float64],
    nucleus_area: NDArray[np.float64],
    cell_area: NDArray[np.float64],
    pale: Mask,
    limit: float,
) -> Mask:
    """Which of an image's cells are smudges, compared with the others; shape (cell,).

    A smudge's chromatin hardly passes the limit, or is weak and either hardly denser than red
    cells or large and bare of cytoplasm. Where too few cells say what is usual, the pale ones are
    smudges.

    Parameters
    ----------
    strength
        Mean chromatin strength of each nucleus.
    nucleus_area, cell_area
        In red-cell areas.
    pale
        True where the nucleus is hardly denser than red cells (`look`). How dense those are depends
        on stain and focus: monocytes may be as pale.
    limit
        Limit of chromatin strength.
    """
    if np.count_nonzero(~pale) < _ENOUGH_CELLS:
        return pale
    usual = float(np.median(strength[~pale]))
    faint = strength - limit < _FAINT * (usual - limit)
    weak = is_weak(strength, nucleus_area, usual)
    smeared = (nucleus_area > _SMEARED_AREA) & (cell_area < _BARE * nucleus_area)
    return np.asarray(faint | (weak & (pale | smeared)))


def is_weak(strength: NDArray[np.float64], nucleus_area: NDArray[np.float64], usual: float) -> Mask:
    """Whose chromatin is weaker than that of any white cell of this size; shape (cell,).

    Parameters
    ----------
    strength
        Mean chromatin strength of each nucleus.
    nucleus_area
        In red-cell areas.
    usual
        Chromatin strength of a usual white cell.
    """
    limit = np.where(nucleus_area > _SWOLLEN_AREA, _SWOLLEN_STRENGTH, _WEAK)
    return np.asarray(strength < usual * limit)


def label_platelets(
    density: Density,
    strength: NDArray[np.float32],
    least: float,
    foreground: Mask,
    white_cells: Mask,
    red: RedCellColour,
    red_cell_px: float,
) -> NDArray[np.int32]:
    """Platelets numbered from 1, zero elsewhere; shape (y, x).

    Small objects of the hue of chromatin and not of the red cells' colour. They are paler than
    nuclei, so that they need not reach the limit of chromatin; rims of red cells look alike but
    stand beside a red cell.

    Parameters
    ----------
    density
        Optical density, shape (y, x, rgb).
    strength, least
        Chromatin strength, shape (y, x), 0 where the hue is another; and its limit.
    foreground, white_cells
        True where anything absorbs, and on white cells; shape (y, x).
    red
        Colour of the red cells; nothing is found without one.
    red_cell_px
        Diameter of a red cell in pixels.
    """
    empty = np.zeros(strength.shape, dtype=np.int32)
    if red.green is None:
        return empty
    green, blue = density[..., 1], density[..., 2]
    purple = (strength > 0) & (green > _PLATELET_DENSITY * red.green)
    purple &= blue < _PLATELET_BLUENESS[0] * red.blueness * green
    opened = cv2.morphologyEx(purple.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labelled, stats, _ = cv2.connectedComponentsWithStats(opened, ltype=cv2.CV_32S)
    parts = np.asarray(labelled, dtype=np.int32)
    area = stats[:, cv2.CC_STAT_AREA] / (np.pi / 4 * red_cell_px**2)
    width, height = (stats[:, i].astype(float) for i in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT))
    good = (area >= _PLATELET_AREA[0]) & (area <= _PLATELET_AREA[1])
    good &= (np.maximum(width, height) < 2.5 * np.minimum(width, height)) & (
        stats[:, cv2.CC_STAT_AREA] > 0.6 * width * height
    )
    # What touches a white cell is part of it or cannot be told from it.
    around = cv2.dilate(white_cells.astype(np.uint8), np.ones((5, 5), np.uint8))
    good[np.unique(parts[around > 0])] = False
    good[0] = False
    for number in np.flatnonzero(good):
        left, top, across, down = stats[number, :4]
        box = np.s_[max(0, top - 4) : top + down + 4, max(0, left - 4) : left + across + 4]
        own = (parts[box] == number).astype(np.uint8)
        ring = cv2.dilate(own, np.ones((9, 9))) - cv2.dilate(own, np.ones((5, 5))) > 0
        part = own > 0
        level = float(green[box][part].mean())
        contrast = level - float(np.median(green[box][ring])) if ring.any() else level
        good[number] = (
            float(foreground[box][ring].mean() if ring.any() else 0) < _PLATELET_NEIGHBOURS
            and contrast > _PLATELET_CONTRAST * red.green
            and float(strength[box][part].max()) > _PLATELET_PEAK * least
            and float(blue[box][part].mean()) < _PLATELET_BLUENESS[1] * red.blueness * level
        )
    numbers = np.zeros(count, dtype=np.int32)
    numbers[good] = np.arange(1, int(good.sum()) + 1)
    return np.asarray(numbers[parts], dtype=np.int32)
