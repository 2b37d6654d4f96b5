"""Where a bright-field image shows cells, and where bare glass: there is nothing to judge on glass.

In and out of focus, stained and unstained, cells vary in brightness over a few pixels by 5 to 17 %;
glass, under the noise of a well exposed image, by 0.1 to 0.4 % (simulated smear, 20x).
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from plsctl.acquire.arrays import Image
from plsctl.acquire.store.records import Box

TILE_PX = 64
"""Side of the parts that are looked at; smaller images are one part."""

FINE_PX, COARSE_PX = 2.0, 8.0
"""Detail between these widths (sigma of Gaussian filters): above noise, below uneven light."""

LEAST_CONTRAST = 0.015
"""Standard deviation of that detail, relative to the mean, from which a part shows cells."""

LEAST_SHARE = 0.02
"""Share of parts with cells from which a field shows cells: a speck of dust is none."""


def cell_tiles(image: Image) -> list[Box]:
    """The parts of a bright-field image, (y, x, rgb), that show cells: left, top, right, bottom."""
    green = image[..., 1].astype(np.float32)
    detail = cv2.GaussianBlur(green, (0, 0), FINE_PX) - cv2.GaussianBlur(green, (0, 0), COARSE_PX)
    return [
        (left, top, right, bottom)
        for left, top, right, bottom in _tiles(green.shape[1], green.shape[0])
        if detail[top:bottom, left:right].std()
        > LEAST_CONTRAST * max(float(green[top:bottom, left:right].mean()), 1.0)
    ]


def shows_cells(image: Image) -> bool:
    """Whether a bright-field image, (y, x, rgb), shows enough to be judged."""
    height, width = image.shape[:2]
    return len(cell_tiles(image)) > LEAST_SHARE * len(_tiles(width, height))


def _tiles(width: int, height: int) -> list[Box]:
    across, down = (max(1, side // TILE_PX) for side in (width, height))
    columns = np.linspace(0, width, across + 1).astype(int).tolist()
    rows = np.linspace(0, height, down + 1).astype(int).tolist()
    return [
        (left, top, right, bottom)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
