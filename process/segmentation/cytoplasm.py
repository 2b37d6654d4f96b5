"""From the nucleus to the whole cell: how far the cytoplasm reaches.

Cytoplasm is what absorbs beside a nucleus, is neither background nor red cell, and hangs together
with the nucleus. Red cells are recognised by the direction of their optical density (red, green,
blue), which thickness does not change, learnt from the foreground far from any nucleus.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.segmentation.background import BACKGROUND_LEVEL, odd_disc

_REACH = 0.85  # cytoplasm ends at most this many red-cell diameters from its nucleus


def optical_density(flat: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logarithm of background over image, of an image (y, x, rgb) with a flat background."""
    levels = np.clip(np.arange(256, dtype=np.float32), 1, None)
    return np.asarray(cv2.LUT(flat, np.log(BACKGROUND_LEVEL / levels)), dtype=np.float32)


def _red_cell_likeness(
    density: NDArray[np.float32], sample: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """1 where `wanted` pixels have the density of a red cell, learnt from `sample`; (y, x)."""
    result = np.zeros(sample.shape, dtype=np.uint8)
    known = density[sample]
    if len(known) < 200:
        return result
    known = known[:: max(1, len(known) // 20_000)]
    middle = np.median(known, axis=0)
    length = float(np.linalg.norm(middle))
    direction = middle / max(length, 1e-6)

    def split(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        along = values @ direction
        return along, np.linalg.norm(values - along[:, None] * direction, axis=1)

    spread = float(np.percentile(split(known)[1], 80))
    along, across = split(density[wanted])
    result[wanted] = (along > 0.45 * length) & (across < max(1.5 * spread, 0.25 * length))
    return result


def nearest_label(labels: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Distance in pixels to the nearest labelled pixel, and its label; both (y, x)."""
    outside = (labels == 0).astype(np.uint8)
    distance, zones = cv2.distanceTransformWithLabels(
        outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    inside = labels > 0
    label_of_zone = np.zeros(int(zones.max()) + 1, dtype=np.int32)
    label_of_zone[zones[inside]] = labels[inside]
    return np.asarray(distance, np.float32), np.asarray(label_of_zone[zones], np.int32)


def _connected_to(core: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    count, parts = cv2.connectedComponents(mask | core, connectivity=4, ltype=cv2.CV_32S)
    touched = np.zeros(count, dtype=np.bool_)
    touched[np.unique(parts[core > 0])] = True
    touched[0] = False
    return np.asarray(touched[parts])


def grow_cells(
    flat: NDArray[np.uint8],
    labels: NDArray[np.int32],
    chromatin: NDArray[np.bool_],
    foreground: NDArray[np.bool_],
    red_cell_px: float,
) -> NDArray[np.int32]:
    """Whole cells around their nuclei.

    Parameters
    ----------
    flat
        Image with a flat background, (y, x, rgb).
    labels
        Closed nuclei numbered from 1, zero elsewhere; shape (y, x).
    chromatin, foreground
        True on nuclei and on anything that absorbs; shape (y, x).
    red_cell_px
        Diameter of a red cell in pixels.

    Returns
    -------
    Labels of whole cells with the numbers of their nuclei, shape (y, x).
    """
    if not labels.any():
        return labels
    distance, nearest = nearest_label(labels)
    density = optical_density(np.asarray(cv2.GaussianBlur(flat, (0, 0), 1.0), dtype=np.uint8))
    far = foreground & (distance > 1.2 * red_cell_px)
    near = distance <= _REACH * red_cell_px
    likeness = _red_cell_likeness(density, far, near)
    red = cv2.morphologyEx(likeness, cv2.MORPH_OPEN, odd_disc(0.12 * red_cell_px, 1))
    core = (labels > 0).astype(np.uint8)
    faint = density[..., 1] > 0.06
    cytoplasm = (near & (faint | foreground) & (red == 0)).astype(np.uint8) | core
    # Opening cuts the rims of red cells off; what is left must hang together with a nucleus.
    opened = cv2.morphologyEx(cytoplasm, cv2.MORPH_OPEN, odd_disc(0.3 * red_cell_px, 1))
    held = _connected_to(core, np.asarray(opened, dtype=np.uint8)).astype(np.uint8)
    whole = cv2.morphologyEx(held, cv2.MORPH_CLOSE, odd_disc(0.25 * red_cell_px, 1))
    return np.asarray(np.where(whole > 0, nearest, 0), dtype=np.int32)
