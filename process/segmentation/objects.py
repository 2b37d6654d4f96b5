"""Objects of one piece of an image, a whole field or a tile: nuclei, whole cells and platelets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image, Mask
from plsctl.process.segmentation.cells import Cell, label_boxes, measure_cells
from plsctl.process.segmentation.chromatin import chromatin_strength, estimate_strength
from plsctl.process.segmentation.cytoplasm import grow_cells, optical_density
from plsctl.process.segmentation.ek_means import ek_means
from plsctl.process.segmentation.nuclei import label_nuclei, renumbered
from plsctl.process.segmentation.object_kinds import (
    Kind,
    RedCellColour,
    label_platelets,
    look,
    red_cell_colour,
)
from plsctl.process.segmentation.red_cells import foreground_mask
from plsctl.process.segmentation.settings import HsvLimits, SegmentationSettings

_FIELD_CLUSTERS = 8
_WORKING_DIAMETER_PX = (
    24.0  # images are brought to this red-cell diameter before they are segmented
)

Labels: TypeAlias = NDArray[np.int32]
Strength: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """An image at the working scale, its background flat: what the steps look at; all (y, x)."""

    flat: Image
    smooth: Image
    strength: Strength
    foreground: Mask

    @classmethod
    def of(cls, flat: Image, hue: tuple[int, int]) -> Scene:
        smooth = np.asarray(cv2.GaussianBlur(flat, (0, 0), 1.0), dtype=np.uint8)
        return cls(flat, smooth, chromatin_strength(smooth, hue), foreground_mask(flat))


@dataclass(frozen=True)
class Objects:
    """Nuclei numbered from 1 with what they belong to, and the colour they were held against."""

    labels: Labels
    chromatin: Mask
    kinds: tuple[Kind, ...]
    red: RedCellColour
    least: float | None


@dataclass(frozen=True)
class Piece:
    """What is found in one piece of an image, in its own pixels; masks and labels (y, x)."""

    found: dict[int, Cell]
    whole: Labels
    nuclei: Mask
    least: float | None


def find_piece(
    flat: Image,
    red_cell_px: float,
    settings: SegmentationSettings,
    red: RedCellColour | None = None,
) -> Piece:
    """Everything with the hue of chromatin, by the numbers of its labels.

    Parameters
    ----------
    flat
        Shape (y, x, rgb), the background flat.
    red_cell_px
        Diameter of a red cell in pixels.
    red
        Colour of the red cells, where this piece is not to say it.
    """
    work = to_working_scale(flat, red_cell_px)
    scene = Scene.of(work, settings.hue)
    density = optical_density(scene.smooth)
    objects = find_objects(scene, density, settings, red)
    nuclei = objects.chromatin & (objects.labels > 0)
    whole = grow_cells(work, objects.labels, nuclei, scene.foreground, _WORKING_DIAMETER_PX)
    platelets = label_platelets(
        density,
        scene.strength,
        objects.least or settings.least_strength,
        scene.foreground,
        whole > 0,
        objects.red,
        _WORKING_DIAMETER_PX,
    )
    whole = np.where(platelets > 0, platelets + len(objects.kinds), whole).astype(np.int32)
    small: list[Kind] = ["platelet"] * int(platelets.max())
    kinds = (*objects.kinds, *small)
    strength = scene.strength
    nuclei |= platelets > 0
    if whole.shape != flat.shape[:2]:
        whole, nuclei, strength = _to_image_scale(flat.shape[:2], whole, nuclei, strength)
    found = {
        n: replace(c, kind=kinds[n - 1]) for n, c in measure_cells(whole, nuclei, strength).items()
    }
    return Piece(found, whole, nuclei, objects.least)


def find_objects(
    scene: Scene,
    density: NDArray[np.float32],
    settings: SegmentationSettings,
    known: RedCellColour | None = None,
    may_raise: bool | None = None,
) -> Objects:
    """Objects with the hue of chromatin, without what has the colour of red cells, or of dirt.

    Where red cells pass the limit it is raised above them, unless the settings fix it or
    `may_raise` says otherwise.
    """
    if may_raise is None:
        may_raise = settings.strength is None
    least: float | None = None
    if settings.limits is None or settings.method == "ek-means":
        least = settings.strength or estimate_strength(
            scene.strength, scene.foreground, settings.least_strength
        )
    labels, chromatin = _label(scene, least, settings)
    red = known or red_cell_colour(density, scene.foreground, labels, _WORKING_DIAMETER_PX)
    looks = _looks(density, labels, chromatin, red)
    if least is not None and may_raise and "white cell" in looks and None in looks:
        # Red cells passed the limit: above them nuclei are clean.
        of_red = np.isin(labels, np.flatnonzero([kind is None for kind in looks]) + 1) & chromatin
        above = float(np.percentile(scene.strength[of_red], 90))
        if above > least:
            raised, purer = _label(scene, above, settings)
            red = replace(red, densest=float(np.median(density[..., 1][of_red])))
            again = _looks(density, raised, purer, red)
            if "white cell" in again:
                least, labels, chromatin, looks = above, raised, purer, again
    kept = np.array([False] + [kind is not None for kind in looks])
    kinds = tuple(kind for kind in looks if kind is not None)
    return Objects(renumbered(labels, kept), chromatin, kinds, red, least)


def _label(
    scene: Scene, least: float | None, settings: SegmentationSettings
) -> tuple[Labels, Mask]:
    """Numbered nuclei, and chromatin, at the limit given; None: within fixed limits of HSV."""
    if least is None:
        chromatin = _within(scene.smooth, settings.limits or HsvLimits())
    elif settings.method == "ek-means":
        chromatin = _chromatin_clusters(scene.smooth, scene.strength, least)
    else:
        chromatin = np.asarray(scene.strength >= least)
    labels = label_nuclei(
        chromatin,
        _WORKING_DIAMETER_PX,
        settings.closing,
        settings.lone_nucleus_area,
        settings.nucleus_area[0],
    )
    return labels, chromatin


def _looks(
    density: NDArray[np.float32], labels: Labels, chromatin: Mask, red: RedCellColour
) -> list[Kind | None]:
    found: list[Kind | None] = []
    for number, box in enumerate(label_boxes(labels), start=1):
        core = (labels[box] == number) & chromatin[box]
        found.append(look(density[box], core, red))
    return found


def _chromatin_clusters(smooth: Image, strength: Strength, least: float) -> Mask:
    """The clusters of colours whose mean strength reaches the limit of chromatin; (y, x)."""
    # Balanced: nuclei are a hundredth of a field, and would share a cluster with red cells.
    labels = ek_means(smooth, _FIELD_CLUSTERS, balance=0.5).labels
    total = np.bincount(labels.ravel(), weights=strength.ravel(), minlength=_FIELD_CLUSTERS)
    mean = total / np.maximum(np.bincount(labels.ravel(), minlength=_FIELD_CLUSTERS), 1)
    return np.asarray((mean >= least)[labels])


def _within(smooth: NDArray[np.uint8], limits: HsvLimits) -> NDArray[np.bool_]:
    hsv = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV)
    low, high = zip(limits.hue, limits.saturation, limits.value, strict=True)
    return np.asarray(cv2.inRange(hsv, low, high)) > 0


def to_working_scale(flat: NDArray[np.uint8], red_cell_px: float) -> NDArray[np.uint8]:
    """The image, (y, x, rgb), in pixels of the size in which the steps' limits are told."""
    zoom = _WORKING_DIAMETER_PX / red_cell_px
    if 0.8 < zoom < 1.25:  # near enough: keep the pixels as they are
        return flat
    size = (max(1, round(flat.shape[1] * zoom)), max(1, round(flat.shape[0] * zoom)))
    mode = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(flat, size, interpolation=mode), dtype=np.uint8)


def _to_image_scale(
    shape: tuple[int, ...],
    labels: NDArray[np.int32],
    nuclei: NDArray[np.bool_],
    strength: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.float32]]:
    size = (shape[1], shape[0])
    large = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT)
    whole = large.astype(np.int32)
    core = cv2.resize(nuclei.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
    level = np.asarray(cv2.resize(strength, size, interpolation=cv2.INTER_LINEAR), np.float32)
    return whole, core & (whole > 0), level
