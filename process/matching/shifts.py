"""How far the content of one image lies from where another shows it: what tells a camera's axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from plsctl.acquire.arrays import FloatArray, Image
from plsctl.process.matching.correlation import grey_image, wide_edges
from plsctl.process.matching.overlap import find_overlap

_WORKING_PX = 640  # images are compared with their longer side shrunk to this
_STILL_PX = 2.0  # what moves less is the dirt on the sensor
_PARTS, _PARTS_ALIKE = 5, 4
_LEAST_PART_SCORE = 0.3


@dataclass(frozen=True)
class EdgeShiftFinder:
    """Correlates the edges of two images that are neither turned nor scaled against each other.

    Parameters
    ----------
    least_score
        Correlation below which nothing is told. The same cells reach 0.9, others stay below 0.3.
    most_second_ratio
        Nothing is told where another shift fits nearly as well.
    """

    least_score: float = 0.55
    most_second_ratio: float = 0.75

    def shift(self, before: Image, after: Image, reach_px: float) -> tuple[float, float] | None:
        """Where the content of `before` lies in `after`, pixels (x, y); None where in doubt.

        Content that has not moved is taken for dirt on the sensor.

        Parameters
        ----------
        before, after
            Images of one size, (y, x, rgb) or (y, x).
        reach_px
            Largest shift along x or y that is looked for.
        """
        shrink = max(1.0, max(before.shape[:2]) / _WORKING_PX)
        first, second = (_small_edges(image, shrink) for image in (before, after))
        if not (first.any() and second.any()):
            return None
        found = find_overlap(first, second, angles_deg=(0.0,), reach_px=reach_px / shrink)
        if found.score < self.least_score or found.second_ratio > self.most_second_ratio:
            return None
        if math.hypot(found.dx, found.dy) < _STILL_PX:
            return None
        if not _agree_all_over(first, second, round(-found.dx), round(-found.dy)):
            return None
        return -found.dx * shrink, -found.dy * shrink


def _agree_all_over(before: FloatArray, after: FloatArray, dx: int, dy: int) -> bool:
    """Whether most parts of what both show are alike: a few specks are so by chance."""
    height, width = before.shape
    here = before[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    there = after[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    axis = 0 if here.shape[0] > here.shape[1] else 1
    parts = zip(*(np.array_split(image, _PARTS, axis) for image in (here, there)), strict=True)
    alike = sum(_correlation(one, other) >= _LEAST_PART_SCORE for one, other in parts)
    return alike >= _PARTS_ALIKE


def _correlation(one: FloatArray, other: FloatArray) -> float:
    one, other = one - one.mean(), other - other.mean()
    power = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / power if power > 0 else 0.0


def _small_edges(image: Image, shrink: float) -> FloatArray:
    edges = wide_edges(grey_image(image))
    size = (round(edges.shape[1] / shrink), round(edges.shape[0] / shrink))
    return np.asarray(cv2.resize(edges, size, interpolation=cv2.INTER_AREA)).astype(np.float32)
