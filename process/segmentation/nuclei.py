"""From chromatin to nuclei: lobes of one cell joined, touching cells parted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.segmentation.background import odd_disc
from plsctl.process.segmentation.cytoplasm import nearest_label

_LEAST_APART = 1.1  # red-cell diameters between the middles of nuclei of two cells that touch


def label_nuclei(
    chromatin: NDArray[np.bool_],
    red_cell_px: float,
    closing: float,
    lone_nucleus_area: float,
    least_area: float,
) -> NDArray[np.int32]:
    """Nuclei numbered from 1, zero elsewhere; specks are left out.

    Parameters
    ----------
    chromatin
        True on chromatin, shape (y, x).
    red_cell_px
        Diameter of a red cell in pixels.
    closing
        Lobes closer than twice this, in red-cell diameters, make one nucleus,
    lone_nucleus_area
        unless two of them have this area each, in red-cell areas: those are two cells that touch.
    least_area
        Of a nucleus, in red-cell areas.
    """
    opened = cv2.morphologyEx(
        chromatin.astype(np.uint8), cv2.MORPH_OPEN, odd_disc(0.2 * red_cell_px)
    )
    lobes = np.asarray(opened, dtype=np.uint8)
    labels = _joined(lobes, 2 * closing * red_cell_px)
    red_cell = np.pi / 4 * red_cell_px**2
    labels = _part_touching(labels, lobes, lone_nucleus_area * red_cell, _LEAST_APART * red_cell_px)
    area = np.bincount(labels[lobes > 0], minlength=int(labels.max()) + 1).astype(float)
    # A cell cut by the border shows only part of its nucleus.
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    least = np.full(area.size, least_area * red_cell)
    least[border] *= 0.9
    good = area >= least
    good[0] = False
    return renumbered(labels, good)


def renumbered(labels: NDArray[np.int32], kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Labels with the kept numbers counted from 1 and the others zero; kept[0] must be False."""
    numbers = np.zeros(kept.size, dtype=np.int32)
    numbers[kept] = np.arange(1, int(kept.sum()) + 1)
    return np.asarray(numbers[labels], dtype=np.int32)


def _joined(lobes: NDArray[np.uint8], reach: float) -> NDArray[np.int32]:
    """Numbers of lobes and the bays between them, one for all lobes nearer than `reach` pixels."""
    pad = odd_disc(reach).shape[0]
    # With room around the image the closing cannot erode what the border cuts.
    padded = cv2.copyMakeBorder(lobes, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, odd_disc(reach))
    # A closing bridges sides, not points that face each other; distance does both.
    near = np.asarray(cv2.distanceTransform(1 - padded, cv2.DIST_L2, 5)) <= reach / 2
    groups = cv2.connectedComponents((near | (closed > 0)).astype(np.uint8), ltype=cv2.CV_32S)[1]
    inner = np.where(closed > 0, groups, 0)[pad:-pad, pad:-pad]
    return np.ascontiguousarray(inner, dtype=np.int32)


def _part_touching(
    labels: NDArray[np.int32], lobes: NDArray[np.uint8], large: float, apart: float
) -> NDArray[np.int32]:
    """Give each lobe of at least `large` pixels a nucleus of its own where one holds several."""
    _, labelled, measured, centres = cv2.connectedComponentsWithStats(lobes, connectivity=8)
    parts, stats = np.asarray(labelled, dtype=np.int32), np.asarray(measured, dtype=np.int32)
    big = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= large)
    big = big[big > 0]  # 0 is the background
    owner = np.array([_label_at(labels, parts, stats, int(part)) for part in big], dtype=np.int32)
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
