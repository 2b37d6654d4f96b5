"""Where an image of high power lies in one of low power: what tells two objectives apart."""

from __future__ import annotations

import math

from plsctl.acquire.arrays import Image
from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import HighPowerPlace
from plsctl.process.matching.locate import place_highres

_TILE_ERROR_PX = 0.3
"""Standard error of the place of one tile, in pixels of the low image."""


class StainHighPowerFinder:
    """Finds images by the contrast of the stain (`plsctl match --method log`)."""

    def find(self, low: Image, high: Image, ratio: float) -> HighPowerPlace | None:
        """Where `high` lies in `low`, both (y, x, rgb); None where in doubt.

        `ratio` is about how many pixels of `high` make one of `low`.
        """
        try:
            placed = place_highres(low, high, ratio)
        except UserError:  # too small to be told apart
            return None
        if not placed.trusted or placed.weight <= 0:
            return None
        motion = placed.motion
        return HighPowerPlace(
            motion.factor, motion.offset, _TILE_ERROR_PX / math.sqrt(placed.weight)
        )
