"""Nucleus, cytoplasm and background of images that show one white cell, by EK-means.

Three clusters of colour: nucleus, what else absorbs, background. The nucleus is the cluster with
the strongest chromatin; the cell is what absorbs and hangs together with it. Where that reaches
farther than a cell can, red cells touch it: what lies far from the nucleus, and necks, are cut off.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.background import BACKGROUND_LEVEL
from plsctl.process.chromatin import chromatin_strength
from plsctl.process.ek_means import ColourSpace, ek_means

CLUSTERS = 3

# In diameters of a disc as large as the nucleus with the bays between its lobes.
_CELL_ENDS = 0.6  # cytoplasm that ends nearer than this touches nothing
_REACH = 0.5  # cytoplasm is kept this far from the nucleus where it touches red cells
_NECK = 0.75  # and only where a disc of this diameter fits

Mask = NDArray[np.bool_]


def segment_crop(image: NDArray[np.uint8], space: ColourSpace = "lab") -> NDArray[np.uint8]:
    """Nucleus and cytoplasm of the white cell that an image shows.

    Parameters
    ----------
    image
        Shape (y, x, rgb), uint8; the white cell in the middle and nearly filling it.
    space
        Colour space of the clusters.

    Returns
    -------
    0 background, 128 cytoplasm, 255 nucleus, shape (y, x); all 0 without chromatin.

    Raises
    ------
    UserError
        The image is not (y, x, rgb) in 8 bits.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"cannot segment an image of shape {image.shape} and type {image.dtype}",
            hint="Give an 8-bit colour image, (y, x, rgb).",
        )
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), dtype=np.uint8)
    clusters = ek_means(smooth, CLUSTERS, space)
    labels = clusters.labels
    # The brightest cluster is the empty glass: seen as white, chromatin has its own hue again.
    white = np.maximum(clusters.centres_rgb[-1], 1)
    balanced = np.clip(smooth * (BACKGROUND_LEVEL / white), 0, 255).astype(np.uint8)
    nucleus = _central(_cleaned(_strongest(labels, chromatin_strength(balanced))))
    if not nucleus.any():
        return np.zeros(image.shape[:2], dtype=np.uint8)
    cell = _whole_cell(nucleus, labels < labels.max())
    return np.where(nucleus, 255, np.where(cell, 128, 0)).astype(np.uint8)


def _strongest(labels: NDArray[np.uint8], strength: NDArray[np.float32]) -> Mask:
    total = np.bincount(labels.ravel(), weights=strength.ravel(), minlength=CLUSTERS)
    mean = total / np.maximum(np.bincount(labels.ravel(), minlength=CLUSTERS), 1)
    if mean.max() == 0:
        return np.zeros(labels.shape, dtype=np.bool_)
    return np.asarray(labels == mean.argmax())


def _disc(diameter: float) -> NDArray[np.uint8]:
    size = 2 * max(1, round(diameter / 2)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), dtype=np.uint8)


def _cleaned(mask: Mask) -> Mask:
    """Without specks and pinholes smaller than a thirtieth of the image's height."""
    disc = _disc(mask.shape[0] / 30)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc)
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc)) > 0


def _central(mask: Mask) -> Mask:
    """The largest part near the middle, and other large parts that the border does not cut."""
    count, parts, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count == 1:
        return mask
    height, width = mask.shape
    x, y, wide, high, area = stats.T.astype(np.float64)
    area[0] = 0
    away = centres - np.array([width / 2, height / 2])
    main = int((area * np.exp(-np.square(away).sum(axis=1) / (2 * (height / 4) ** 2))).argmax())
    cut = (x == 0) | (y == 0) | (x + wide >= width) | (y + high >= height)
    lobes = (area > 0.1 * area[main]) & ~cut
    lobes[main] = True
    return np.asarray(lobes[parts])


def _whole_cell(nucleus: Mask, absorbing: Mask) -> Mask:
    hull = np.zeros(nucleus.shape, dtype=np.uint8)
    outlines = cv2.findContours(nucleus.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.vstack(outlines[0])), 1)
    diameter = 2 * float(np.sqrt(hull.sum() / np.pi))
    joined = _filled(_touching(nucleus, absorbing))
    distance = np.asarray(cv2.distanceTransform(1 - hull, cv2.DIST_L2, 5))
    if distance[joined].max() < _CELL_ENDS * diameter:
        return joined
    near = (joined & (distance < _REACH * diameter)).astype(np.uint8) | hull
    free = np.asarray(cv2.morphologyEx(near, cv2.MORPH_OPEN, _disc(_NECK * diameter))) > 0
    return _touching(nucleus, free)


def _touching(core: Mask, mask: Mask) -> Mask:
    """The parts of core and mask together that hold something of the core."""
    whole = core | mask
    parts = np.asarray(cv2.connectedComponents(whole.astype(np.uint8), connectivity=4)[1])
    return np.asarray(whole & np.isin(parts, np.unique(parts[core])))


def _filled(mask: Mask) -> Mask:
    """Without holes."""
    around = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(around, None, (0, 0), (2,))
    return np.asarray(around[1:-1, 1:-1] != 2)
