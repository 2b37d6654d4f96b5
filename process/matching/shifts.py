"""How far the content of one image lies from where another shows it: what tells a camera's axes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from plsctl.acquire.arrays import FloatArray, Image
from plsctl.process.matching.correlation import grey_image, wide_edges
from plsctl.process.matching.overlap import find_overlap

_WORKING_PX = 640  # images are compared with their longer side shrunk to this


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
    most_second_ratio: float = 0.6

    def shift(self, before: Image, after: Image, reach_px: float) -> tuple[float, float] | None:
        """Where the content of `before` lies in `after`, pixels (x, y); None where in doubt.

        Parameters
        ----------
        before, after
            Images of one size, (y, x, rgb) or (y, x).
        reach_px
            Largest shift along x or y that is looked for.
        """
        shrink = max(1.0, max(before.shape[:2]) / _WORKING_PX)
        edges = [_small_edges(image, shrink) for image in (before, after)]
        if not all(image.any() for image in edges):
            return None
        found = find_overlap(*edges, angles_deg=(0.0,), reach_px=reach_px / shrink)
        if found.score < self.least_score or found.second_ratio > self.most_second_ratio:
            return None
        return -found.dx * shrink, -found.dy * shrink


def _small_edges(image: Image, shrink: float) -> FloatArray:
    edges = wide_edges(grey_image(image))
    size = (round(edges.shape[1] / shrink), round(edges.shape[0] / shrink))
    return np.asarray(cv2.resize(edges, size, interpolation=cv2.INTER_AREA)).astype(np.float32)
