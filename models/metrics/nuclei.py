"""Nuclei in predictions compared with stained images: agreement, lost and invented ones.

What the paper feared most is a network that invents nuclei or takes them away (papers/002 chapter
5). Nuclei are what the segmentation of stained smears finds, with one limit of chromatin, taken
from stained training targets, for all images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import local_maxima, reconstruction

from plsctl.acquire.arrays import Images, Mask
from plsctl.models.metrics.intervals import (
    SHARE,
    Groups,
    measured_mean,
    measured_rate,
    measured_share,
)
from plsctl.process.segmentation.background import BACKGROUND_LEVEL
from plsctl.process.segmentation.scale import RED_CELL_UM
from plsctl.process.segmentation.segment import segment, slide_settings
from plsctl.process.segmentation.settings import SegmentationSettings

PRESENT_SHARE = 0.25
"""A nucleus is missing from the other image if its nuclei cover less than this share of it."""

LOBES_APART = 0.25
"""Gap, in red-cell diameters, that the lobes of one nucleus may have."""

BACKGROUND_PERCENTILE = 95

NECK = 0.85
"""A neck is at most this share of the width of the lobes that it divides."""

SMALLEST_UM = 0.8
"""Parts of a smaller radius are no lobes: granules of chromatin, bumps of the outline."""

SMOOTHING_UM = 0.3


@dataclass(frozen=True)
class NucleusCounts:
    """Whole nuclei of the stained images, and of these how many the predictions lose or invent."""

    true: int
    lost: int
    invented: int


@dataclass(frozen=True)
class NucleusScores:
    """One value per sample, (n,).

    `dice` is NaN where neither image has a nucleus. Nuclei that the crop's border cuts count for
    `dice` only: how much of them is seen is chance. `lobes` and `lobes_shown` are those of the
    whole nuclei that are in both images, in the stained one and in the other; `lobes_same` counts
    the nuclei that have equally many.
    """

    dice: NDArray[np.float64]
    stained: NDArray[np.int64]
    lost: NDArray[np.int64]
    invented: NDArray[np.int64]
    lobes: NDArray[np.int64]
    lobes_shown: NDArray[np.int64]
    lobes_same: NDArray[np.int64]

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """As columns of a table."""
        return {
            "nucleus_dice": self.dice,
            "nuclei": self.stained,
            "nuclei_lost": self.lost,
            "nuclei_invented": self.invented,
            "lobes": self.lobes,
            "lobes_shown": self.lobes_shown,
        }

    def counts(self) -> NucleusCounts:
        """Whole nuclei over all samples, and how many are lost or invented."""
        return NucleusCounts(*(int(x.sum()) for x in (self.stained, self.lost, self.invented)))

    def summary(self, groups: Groups = ()) -> dict[str, object]:
        """Means with intervals over samples in their groups; None where nothing can be measured.

        `lost` and `invented` are also given per nucleus of the stained images. `lobes` holds the
        mean number in a stained nucleus, the mean difference (prediction less stained, of samples)
        and the share of nuclei with equally many.
        """
        counts = self.counts()
        nuclei, lost, invented = counts.true, counts.lost, counts.invented
        return {
            "dice": measured_mean(self.dice, groups, SHARE),
            "nuclei": nuclei,
            "lost": lost,
            "invented": invented,
            "lost_share": measured_share(self.lost, self.stained, groups),
            "invented_share": measured_rate(self.invented, self.stained, groups),
            "lobes": self._lobes(nuclei - lost, groups),
        }

    def _lobes(self, nuclei: int, groups: Groups) -> dict[str, object] | None:
        if not nuclei:
            return None
        off = np.where(self.stained > self.lost, self.lobes_shown - self.lobes, np.nan)
        return {
            "nuclei": nuclei,
            "mean": float(self.lobes.sum() / nuclei),
            "difference": measured_mean(off, groups),
            "same_share": measured_share(self.lobes_same, self.stained - self.lost, groups),
        }


def join_scores(parts: list[NucleusScores]) -> NucleusScores:
    """The scores of several blocks of samples as one."""
    names = [field.name for field in fields(NucleusScores)]
    return NucleusScores(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


@dataclass(frozen=True)
class _Nucleus:
    """One nucleus: its pixels, and where its image in a prediction is looked for."""

    area: Mask
    around: Mask


class NucleusFinder:
    """Finds nuclei in stained and predicted crops, by the same limits.

    Parameters
    ----------
    targets
        Stained crops of the training split, (n, 3, y, x): white and the limit of chromatin come
        from them.
    pixel_um
        Pixel of the crops.
    """

    def __init__(self, targets: Images, pixel_um: float) -> None:
        white = np.percentile(targets, BACKGROUND_PERCENTILE, axis=(0, 2, 3))
        self._gain = BACKGROUND_LEVEL / np.maximum(white, 1)
        settings = SegmentationSettings(flat_field=False, pixel_um=pixel_um)
        self._settings = slide_settings((self._flat(crop) for crop in targets), settings)
        self._pixel_um = pixel_um
        self._closing_px = 2 * round(LOBES_APART * RED_CELL_UM / pixel_um / 2) + 1

    def _flat(self, crop: Images) -> Images:
        scaled = np.moveaxis(crop, 0, -1) * self._gain
        return np.ascontiguousarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))

    def nuclei(self, crop: Images) -> Mask:
        """Pixels of nuclei in a crop (3, y, x); shape (y, x)."""
        return segment(self._flat(crop), self._settings).nucleus_mask

    def compare(self, predictions: Images, targets: Images) -> NucleusScores:
        """Compare nuclei of predictions with those of stained crops, both (n, 3, y, x)."""
        rows = [
            self._compare(self.nuclei(prediction), self.nuclei(target))
            for prediction, target in zip(predictions, targets, strict=True)
        ]
        dice, *counts = zip(*rows, strict=True)
        return NucleusScores(
            np.array(dice, dtype=np.float64),
            *(np.array(column, dtype=np.int64) for column in counts),
        )

    def _compare(self, shown: Mask, stained: Mask) -> tuple[float, int, int, int, int, int, int]:
        total = int(shown.sum()) + int(stained.sum())
        dice = 2 * int((shown & stained).sum()) / total if total else np.nan
        whole, invented = self._whole(stained), self._missing(self._whole(shown), stained)
        kept = [n for n in whole if shown[n.area].mean() >= PRESENT_SHARE]
        lobes = [
            (count_lobes(n.area, self._pixel_um), count_lobes(shown & n.around, self._pixel_um))
            for n in kept
        ]
        return (
            dice,
            len(whole),
            self._missing(whole, shown),
            invented,
            sum(stained_count for stained_count, _ in lobes),
            sum(shown_count for _, shown_count in lobes),
            sum(first == second for first, second in lobes),
        )

    @staticmethod
    def _missing(nuclei: list[_Nucleus], other: Mask) -> int:
        """How many nuclei are not in the other image."""
        return sum(bool(other[nucleus.area].mean() < PRESENT_SHARE) for nucleus in nuclei)

    def _whole(self, mask: Mask) -> list[_Nucleus]:
        """The nuclei of a mask that the crop's border does not cut."""
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (self._closing_px,) * 2)
        pad = self._closing_px
        padded = np.pad(mask.astype(np.uint8), pad)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[pad:-pad, pad:-pad]
        number, labels = cv2.connectedComponents(np.ascontiguousarray(closed), connectivity=8)
        border = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
        found = []
        for label in range(1, number):
            part = labels == label
            # A closed pocket between lobes may hang together with none of them.
            if label not in border and (part & mask).any():
                around = cv2.dilate(part.astype(np.uint8), disc).astype(bool)
                found.append(_Nucleus(part & mask, around))
        return found


def count_lobes(nucleus: Mask, pixel_um: float) -> int:
    """Number of lobes in a mask (y, x), connected or not."""
    if not nucleus.any():
        return 0
    padded = np.pad(nucleus.astype(np.uint8), 2)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = cv2.GaussianBlur(depth, (0, 0), SMOOTHING_UM / pixel_um)
    smallest = SMALLEST_UM / pixel_um
    # Differences of logarithms are ratios of widths; what is too narrow for a lobe lies even.
    height = np.log(np.maximum(depth, smallest / 2).astype(np.float64))
    # Flooded to below every drop of less than a neck's, heights have one summit for each lobe.
    flooded = reconstruction(height + np.log(NECK), height)  # type: ignore[no-untyped-call]
    highest = local_maxima(np.round(flooded, 6))  # type: ignore[no-untyped-call]
    summits = highest & (depth >= smallest)
    count, _ = cv2.connectedComponents(summits.astype(np.uint8), connectivity=8)
    return int(count) - 1
