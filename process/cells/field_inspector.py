"""Inspection of a field while a scan runs: stained or not, and how many white cells it shows."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.capture.content import shows_cells
from plsctl.process.segmentation.background import (
    BACKGROUND_LEVEL,
    fit_background,
    flatten_background,
)
from plsctl.process.segmentation.red_cells import foreground_mask
from plsctl.process.segmentation.segment import segment
from plsctl.process.segmentation.settings import SegmentationSettings

STAINED_GREEN_EXCESS = 0.12
"""Green excess above which a field counts as stained. Measured: simulated and real stained smears
0.2 to 0.55, unstained ones below 0.05."""


@dataclass(frozen=True)
class BrightfieldInspector:
    """Inspects bright-field images, (y, x, rgb), by their colours.

    Parameters
    ----------
    settings
        How white cells are found; give `pixel_um` where it is known.
    """

    settings: SegmentationSettings = field(default_factory=SegmentationSettings)

    def looks_stained(self, image: NDArray[np.uint8]) -> bool | None:
        """Whether the dark parts of a field are coloured as only a stain colours them.

        None where the field shows no cells: there is nothing to judge.
        """
        if not shows_cells(image):
            return None
        return green_excess(image) > STAINED_GREEN_EXCESS

    def white_cells(self, image: NDArray[np.uint8]) -> int:
        """How many white cells a stained field shows, cells cut by the border included."""
        return len(segment(image, self.settings).cells)


def green_excess(image: NDArray[np.uint8]) -> float:
    """How much denser the cells of a field are in green than in red and blue, relative to green.

    Eosin and the azures absorb green most. Unstained cells refract all colours alike, and
    haemoglobin takes more blue than green. Image (y, x, rgb), uint8; 0 where there are no cells.
    """
    flat = flatten_background(image, fit_background(image))
    smooth = np.asarray(cv2.GaussianBlur(flat, (0, 0), 2.0), dtype=np.uint8)
    cells = foreground_mask(smooth)
    if np.count_nonzero(cells) < 50:
        return 0.0
    values = np.maximum(smooth[cells].astype(np.float64), 1.0)
    red, green, blue = np.log(BACKGROUND_LEVEL / values).mean(axis=0)
    return float((green - (red + blue) / 2) / max(green, 1e-6))
