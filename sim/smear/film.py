"""The grain that lies still on the slide: dried plasma between cells, roughness of red cells."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.sim.smear.textures import FILM_PIXEL_UM, FILM_TILE_PX
from plsctl.sim.smear.view import View

Image = NDArray[np.float32]

SOURCE_BLOCK_PX = 1000
"""OpenCV's cubic sampling wraps around a texture once, not twice: blocks stay below one period."""


def film_blocks(tile: Image, view: View) -> Iterator[tuple[tuple[slice, slice], Image]]:
    """The film's texture on a view, block by block as (place in the view, values).

    Sampling is cubic with places rounded to 1/32 of a texture pixel (1.6 nm).
    """
    step = view.grid_um / FILM_PIXEL_UM
    size = max(16, int(SOURCE_BLOCK_PX / step))
    angle = math.radians(view.rotation_deg)
    cos, sin = step * math.cos(angle), step * math.sin(angle)
    for top in range(0, view.shape[0], size):
        for left in range(0, view.shape[1], size):
            height, width = min(size, view.shape[0] - top), min(size, view.shape[1] - left)
            x, y = view.to_slide(left, top)
            offset_x = float(x) / FILM_PIXEL_UM % FILM_TILE_PX
            offset_y = float(y) / FILM_PIXEL_UM % FILM_TILE_PX
            values = cv2.warpAffine(
                tile,
                np.array([[cos, -sin, offset_x], [sin, cos, offset_y]]),
                (width, height),
                flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
            place = (slice(top, top + height), slice(left, left + width))
            yield place, values.astype(np.float32, copy=False)
