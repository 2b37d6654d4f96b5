"""Nucleus, cytoplasm and background of images that show one white cell, by EK-means or by HSV.

EK-means: three clusters of colour, nucleus, what else absorbs, background; the nucleus is the
cluster with the strongest chromatin. HSV: glass is the brightest of three classes of green, and
Otsu's limit of chromatin strength parts the nucleus from the rest of what absorbs. Either way the
cell is what absorbs and hangs together with the nucleus. Where it reaches farther than a cell can,
red cells touch it: what lies far from the nucleus, and necks, are cut off.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image, Mask
from plsctl.acquire.errors import UserError
from plsctl.process.segmentation.background import BACKGROUND_LEVEL, odd_disc
from plsctl.process.segmentation.cells import LEAST_SIDE_PX
from plsctl.process.segmentation.chromatin import chromatin_strength
from plsctl.process.segmentation.cytoplasm import optical_density
from plsctl.process.segmentation.ek_means import ColourSpace, ek_means
from plsctl.process.segmentation.object_kinds import USUAL_BLUENESS, RedCellColour, look

CLUSTERS = 3

# In diameters of a disc as large as the nucleus with the bays between its lobes.
_CELL_ENDS = 0.6  # cytoplasm that ends nearer than this touches nothing
_REACH = 0.5  # cytoplasm is kept this far from the nucleus where it touches red cells
_NECK = 0.75  # and only where a disc of this diameter fits

_LOBES_APART = 1.0  # distance of the middles of two lobes over the sum of their diameters

_UNDER_OTSU = 0.9  # of Otsu's limit: the blurred rim belongs to the nucleus
_LEAST_STRENGTH = 0.15

# An image of one cell, in shares of its shorter side.
_LARGE_NUCLEUS = 0.25
_OFF_CENTRE = 0.15
_MOST_OBLONG = 1.25
_SECOND_NUCLEUS = 0.5  # of the area of the one in the middle
_MOST_CUT = 0.15  # of the image's border that its nucleus takes
_LEAST_COMPACT = 0.42  # of its hull; cells that lie about the middle fill less
_LEAST_PX = 24.0  # diameter of its hull

Method: TypeAlias = Literal["ek-means", "hsv"]


def segment_crop(
    image: Image, space: ColourSpace = "lab", method: Method = "ek-means"
) -> NDArray[np.uint8]:
    """Nucleus and cytoplasm of the white cell that an image shows.

    Parameters
    ----------
    image
        Shape (y, x, rgb), uint8; the white cell in the middle and nearly filling it.
    space
        Colour space of the clusters of EK-means.
    method
        How nucleus and background are separated.

    Returns
    -------
    0 background, 128 cytoplasm, 255 nucleus, shape (y, x); all 0 without chromatin.

    Raises
    ------
    UserError
        The image is not (y, x, rgb) in 8 bits.
    """
    chromatin, absorbing = _parts(image, space, method)
    nucleus = _central(chromatin)
    if not nucleus.any():
        return np.zeros(image.shape[:2], dtype=np.uint8)
    cell = _whole_cell(nucleus, absorbing)
    return np.where(nucleus, 255, np.where(cell, 128, 0)).astype(np.uint8)


def shows_one_cell(image: Image, method: Method = "ek-means") -> bool:
    """Whether an image, (y, x, rgb), is nearly filled by one white cell in its middle.

    It is about square, its middle nucleus is a quarter as wide or more, whole, compact and of the
    colour of chromatin, and no other is half as large.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    if side < LEAST_SIDE_PX or max(height, width) > _MOST_OBLONG * side:
        return False
    chromatin, absorbing = _parts(image, "lab", method)
    nucleus = _central(chromatin)
    if not nucleus.any():
        return False
    hull = _hull(nucleus)
    compact = np.count_nonzero(nucleus) > _LEAST_COMPACT * np.count_nonzero(hull)
    border = np.concatenate([nucleus[0], nucleus[-1], nucleus[:, 0], nucleus[:, -1]])
    if not compact or border.mean() > _MOST_CUT or _disc_diameter(hull) < _LEAST_PX:
        return False
    if not _is_chromatin(image, nucleus, absorbing):
        return False
    x, y = np.argwhere(hull > 0).mean(axis=0)[::-1]
    centred = max(abs(x - width / 2), abs(y - height / 2)) < _OFF_CENTRE * side
    others = cv2.connectedComponentsWithStats((chromatin & ~nucleus).astype(np.uint8))[2]
    second = others[1:, cv2.CC_STAT_AREA].max(initial=0)
    lonely = second < _SECOND_NUCLEUS * np.count_nonzero(nucleus)
    return bool(_disc_diameter(hull) > _LARGE_NUCLEUS * side and centred and lonely)


def _is_chromatin(image: Image, nucleus: Mask, absorbing: Mask) -> bool:
    """Whether a nucleus differs in colour from red cells, as `look` has it for fields."""
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), dtype=np.uint8)
    if absorbing.all():
        return False
    density = optical_density(_balanced(smooth, np.median(smooth[~absorbing], axis=0)))
    beside = absorbing & (cv2.dilate(nucleus.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)
    green = float(np.median(density[beside][:, 1])) if beside.any() else None
    return look(density, nucleus, RedCellColour(green, USUAL_BLUENESS)) == "white cell"


def _parts(image: Image, space: ColourSpace, method: Method) -> tuple[Mask, Mask]:
    """Masks of chromatin, and of everything but glass; both (y, x)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"cannot segment an image of shape {image.shape} and type {image.dtype}.",
            hint="Give an 8-bit colour image, (y, x, rgb).",
        )
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), dtype=np.uint8)
    chromatin, absorbing = _by_hsv(smooth) if method == "hsv" else _by_clusters(smooth, space)
    return _cleaned(chromatin), absorbing


def _by_clusters(smooth: Image, space: ColourSpace) -> tuple[Mask, Mask]:
    clusters = ek_means(smooth, CLUSTERS, space)
    labels = clusters.labels
    # The brightest cluster is the empty glass: seen as white, chromatin has its own hue again.
    strength = chromatin_strength(_balanced(smooth, clusters.centres_rgb[-1]))
    return _strongest(labels, strength), np.asarray(labels < labels.max())


def _by_hsv(smooth: Image) -> tuple[Mask, Mask]:
    green = smooth[..., 1]
    absorbing = green <= _brightest_of_three(green)
    if absorbing.all() or not absorbing.any():
        return np.zeros_like(absorbing), absorbing
    strength = chromatin_strength(_balanced(smooth, np.median(smooth[~absorbing], axis=0)))
    scaled = np.clip(strength[absorbing] * 150, 0, 255).astype(np.uint8)
    level = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0] / 150
    return strength >= max(_UNDER_OTSU * level, _LEAST_STRENGTH), absorbing


def _brightest_of_three(channel: NDArray[np.uint8]) -> int:
    """Upper of Otsu's two limits between three classes of an 8-bit channel."""
    counts = np.bincount(channel.ravel(), minlength=256).astype(np.float64)
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * np.arange(256))])
    # Between-class variance is, up to a constant, the sum of moment^2 / mass over the classes.
    low, high = np.triu_indices(256, 1)
    edges = ((np.zeros_like(low), low + 1), (low + 1, high + 1), (high + 1, np.full_like(low, 256)))
    variance = sum(
        np.square(moment[end] - moment[begin]) / np.maximum(mass[end] - mass[begin], 1e-9)
        for begin, end in edges
    )
    return int(high[int(np.argmax(variance))])


def _balanced(smooth: Image, white: NDArray[np.float64]) -> Image:
    return np.clip(smooth * (BACKGROUND_LEVEL / np.maximum(white, 1)), 0, 255).astype(np.uint8)


def _strongest(labels: NDArray[np.uint8], strength: NDArray[np.float32]) -> Mask:
    total = np.bincount(labels.ravel(), weights=strength.ravel(), minlength=CLUSTERS)
    mean = total / np.maximum(np.bincount(labels.ravel(), minlength=CLUSTERS), 1)
    if mean.max() == 0:
        return np.zeros(labels.shape, dtype=np.bool_)
    return np.asarray(labels == mean.argmax())


def _cleaned(mask: Mask) -> Mask:
    """Remove specks and pinholes smaller than a thirtieth of the image's height."""
    disc = odd_disc(mask.shape[0] / 30, 1)
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
    diameter = np.sqrt(4 / np.pi * area)
    # Lobes of one nucleus lie nearer to one another than two cells could.
    apart = np.linalg.norm(centres - centres[main], axis=1)
    lobes = (area > 0.1 * area[main]) & ~cut & (apart < _LOBES_APART * (diameter + diameter[main]))
    lobes[main] = True
    return np.asarray(lobes[parts])


def _whole_cell(nucleus: Mask, absorbing: Mask) -> Mask:
    hull = _hull(nucleus)
    diameter = _disc_diameter(hull)
    joined = _filled(_touching(nucleus, absorbing))
    distance = np.asarray(cv2.distanceTransform(1 - hull, cv2.DIST_L2, 5))
    if distance[joined].max() < _CELL_ENDS * diameter:
        return joined
    near = (joined & (distance < _REACH * diameter)).astype(np.uint8) | hull
    free = np.asarray(cv2.morphologyEx(near, cv2.MORPH_OPEN, odd_disc(_NECK * diameter, 1))) > 0
    return _touching(nucleus, free)


def _hull(mask: Mask) -> NDArray[np.uint8]:
    hull = np.zeros(mask.shape, dtype=np.uint8)
    outlines = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.vstack(outlines[0])), (1,))
    return hull


def _disc_diameter(mask: NDArray[np.uint8]) -> float:
    """Diameter of a disc as large as the mask."""
    return 2 * float(np.sqrt(np.count_nonzero(mask) / np.pi))


def _touching(core: Mask, mask: Mask) -> Mask:
    """The connected parts of core and mask together that contain core pixels."""
    whole = core | mask
    parts = np.asarray(cv2.connectedComponents(whole.astype(np.uint8), connectivity=4)[1])
    return np.asarray(whole & np.isin(parts, np.unique(parts[core])))


def _filled(mask: Mask) -> Mask:
    """Without holes."""
    around = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(around, None, (0, 0), (2,))
    return np.asarray(around[1:-1, 1:-1] != 2)
