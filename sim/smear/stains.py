"""The colours of a Romanowsky stain (papers/002 section 1.2), as absorbance at the three LEDs.

Absorbances are natural logarithms of intensity at 630, 530 and 460 nm. Azure B alone is blue, eosin
alone red; on chromatin the two form the purple complex that gives the stain its name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float32]

HAEMOGLOBIN = np.array([0.006, 0.055, 0.11], np.float32)
"""Per micrometre of dried red cell, stained or not."""


@dataclass(frozen=True)
class Stain:
    """Absorbance (3,) of each dyed substance at its usual amount, for one slide."""

    chromatin: Colour
    azure: Colour
    eosin: Colour
    eosinophil_granule: Colour
    basophil_granule: Colour
    red_cell: Colour
    platelet: Colour
    precipitate: Colour
    background: Colour


def make_stain(seed: int, variation: float) -> Stain:
    """The stain of one slide.

    Parameters
    ----------
    seed
        The slide's seed.
    variation
        How much strength and tint differ from slide to slide and cell to cell; 0 gives the same
        stain always, 1 the spread between laboratories.
    """
    rng = np.random.default_rng((seed, 0x57A1))
    azure, eosin = np.exp(variation * np.array([0.16, 0.20]) * rng.standard_normal(2))
    # Old or acid stain leans to magenta, fresh or alkaline stain to blue.
    lean = variation * 0.14 * rng.standard_normal()
    tint = np.array([1.0 + lean, 1.0 - 0.25 * lean, 1.0 - lean])

    def colour(red: float, green: float, blue: float, strength: float) -> Colour:
        absorbance: Colour = (np.array([red, green, blue]) * tint * strength).astype(np.float32)
        return absorbance

    return Stain(
        chromatin=colour(0.72, 1.52, 0.46, azure),
        azure=colour(0.52, 0.36, 0.07, azure),
        eosin=colour(0.03, 0.24, 0.09, eosin),
        eosinophil_granule=colour(0.06, 0.95, 0.72, eosin),
        basophil_granule=colour(1.45, 1.75, 0.62, azure),
        red_cell=colour(0.02, 0.34, 0.15, eosin),
        platelet=colour(0.42, 0.70, 0.18, azure),
        precipitate=colour(1.5, 2.1, 1.0, azure),
        background=colour(0.012, 0.020, 0.008, azure),
    )
