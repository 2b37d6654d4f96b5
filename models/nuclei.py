"""Nuclei in predictions beside those in stained images: how well they agree, which are lost or new.

What the paper feared most is a network that invents nuclei or takes them away (papers/002 chapter
5). Nuclei are what the segmentation of stained smears finds, with one limit of chromatin, taken
from stained training targets, for all images.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.models.metrics import bootstrap_interval, bootstrap_ratio
from plsctl.process.background import BACKGROUND_LEVEL
from plsctl.process.cell_scale import RED_CELL_UM
from plsctl.process.segmentation import SegmentationSettings, segment, slide_settings

Images = NDArray[np.uint8]
Mask = NDArray[np.bool_]

PRESENT_SHARE = 0.25
"""A nucleus of which less than this is covered by nuclei of the other image is not in it."""

LOBES_APART = 0.25
"""Gap, in red-cell diameters, that the lobes of one nucleus may have."""

BACKGROUND_PERCENTILE = 95


@dataclass(frozen=True)
class NucleusScores:
    """One value per sample, (n,).

    `dice` is NaN where neither image has a nucleus. Nuclei that the crop's border cuts count for
    `dice` only: how much of them is seen is chance.
    """

    dice: NDArray[np.float64]
    stained: NDArray[np.int64]
    lost: NDArray[np.int64]
    invented: NDArray[np.int64]

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """As columns of a table."""
        return {
            "nucleus_dice": self.dice,
            "nuclei": self.stained,
            "nuclei_lost": self.lost,
            "nuclei_invented": self.invented,
        }

    def summary(self) -> dict[str, object]:
        """Means with intervals over samples; None where there is nothing to measure.

        `lost` and `invented` are also given per nucleus of the stained images.
        """
        measured = self.dice[np.isfinite(self.dice)]
        dice = (
            {"mean": float(measured.mean()), "ci95": list(bootstrap_interval(measured))}
            if len(measured)
            else None
        )
        return {
            "dice": dice,
            "nuclei": int(self.stained.sum()),
            "lost": int(self.lost.sum()),
            "invented": int(self.invented.sum()),
            "lost_share": _share(self.lost, self.stained),
            "invented_share": _share(self.invented, self.stained),
        }


def _share(counts: NDArray[np.int64], nuclei: NDArray[np.int64]) -> dict[str, object] | None:
    if not nuclei.sum():
        return None
    interval = bootstrap_ratio(counts.astype(np.float64), nuclei.astype(np.float64))
    return {"mean": float(counts.sum() / nuclei.sum()), "ci95": list(interval)}


def join_scores(parts: list[NucleusScores]) -> NucleusScores:
    """The scores of several blocks of samples as one."""
    names = ("dice", "stained", "lost", "invented")
    return NucleusScores(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


class NucleusJudge:
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
        self._closing_px = 2 * round(LOBES_APART * RED_CELL_UM / pixel_um / 2) + 1

    def _flat(self, crop: Images) -> Images:
        scaled = np.moveaxis(crop, 0, -1) * self._gain
        return np.ascontiguousarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))

    def nuclei(self, crop: Images) -> Mask:
        """Pixels of nuclei in a crop (3, y, x); shape (y, x)."""
        return segment(self._flat(crop), self._settings).nucleus_mask

    def compare(self, predictions: Images, targets: Images) -> NucleusScores:
        """Nuclei of predictions beside those of stained crops, both (n, 3, y, x)."""
        rows = [
            self._compare(self.nuclei(prediction), self.nuclei(target))
            for prediction, target in zip(predictions, targets, strict=True)
        ]
        dice, stained, lost, invented = zip(*rows, strict=True)
        counts = (np.array(column, dtype=np.int64) for column in (stained, lost, invented))
        return NucleusScores(np.array(dice, dtype=np.float64), *counts)

    def _compare(self, predicted: Mask, stained: Mask) -> tuple[float, int, int, int]:
        total = int(predicted.sum()) + int(stained.sum())
        dice = 2 * int((predicted & stained).sum()) / total if total else np.nan
        count, lost = self._missing(stained, predicted)
        return dice, count, lost, self._missing(predicted, stained)[1]

    def _missing(self, first: Mask, second: Mask) -> tuple[int, int]:
        """Whole nuclei of the first mask, and how many of them are not in the second."""
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (self._closing_px,) * 2)
        pad = self._closing_px
        padded = np.pad(first.astype(np.uint8), pad)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[pad:-pad, pad:-pad]
        number, labels = cv2.connectedComponents(np.ascontiguousarray(closed), connectivity=8)
        border = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
        whole = [label for label in range(1, number) if label not in border]
        covered = [float(second[(labels == label) & first].mean()) for label in whole]
        return len(whole), sum(share < PRESENT_SHARE for share in covered)
