"""Patterns that an LED array can show, and the recipe in which they leave for any array.

An array lights some of its LEDs at one brightness: within one exposure no LED is brighter than
another. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.leds.array import MAX_LIGHT
from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD, FrameSettings
from plsctl.acquire.plans.recipes import Recipe

WHOLE = 1 + 1e-6
"""Room for rounding at a limit."""


@dataclass(frozen=True)
class ArrayLimits:
    """What an array can show in one exposure.

    Parameters
    ----------
    levels
        Steps of its brightness; 1 where it has none to set.
    max_light
        Most light at a time: LEDs times brightness.
    several
        Whether it lights more than one LED at a time.
    """

    levels: int = 255
    max_light: float = MAX_LIGHT
    several: bool = True

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"an array of {self.levels} levels shows nothing")
        if not self.max_light * self.levels * WHOLE >= 1:
            raise ValueError(f"at most {self.max_light:g} light is less than one LED's first step")


@dataclass(frozen=True)
class ShownPattern:
    """LEDs that are lit together, (LED,), and the step of their common brightness."""

    lit: NDArray[np.bool_]
    level: int
    levels: int

    @property
    def brightness(self) -> float:
        """Share of the full drive."""
        return self.level / self.levels

    @property
    def weights(self) -> NDArray[np.float64]:
        """Light of each LED, (LED,), as a share of its full drive."""
        return np.asarray(self.lit * self.brightness, dtype=np.float64)


def quantise(weights: NDArray[np.floating], limits: ArrayLimits) -> ShownPattern:
    """The pattern nearest to the weights, of all that an array can show.

    Nearest in the sum of squared differences. The brightest n LEDs are the best n there are, so
    that each n needs to be tried once.

    Parameters
    ----------
    weights
        Light of each LED, (LED,), 0 or above.

    Raises
    ------
    ValueError
        There are no LEDs, or a weight is negative or no number.
    """
    wanted = np.asarray(weights, dtype=np.float64)
    if not wanted.size or not np.all(wanted >= 0):
        raise ValueError("weights of LEDs are 0 or above, and there is at least one")
    order = np.argsort(-wanted, kind="stable")
    counts = np.arange(1, len(wanted) + 1 if limits.several else 2)
    most = np.floor(limits.max_light * limits.levels * WHOLE / counts)  # steps within the light
    counts, most = counts[most >= 1], np.minimum(most[most >= 1], limits.levels)
    sums = np.cumsum(wanted[order])[: len(counts)]
    levels = np.clip(np.round(limits.levels * sums / counts), 1, most)
    brightness = levels / limits.levels
    # |w - b m|^2 = |w|^2 - 2 b sum(w over m) + n b^2
    best = int(np.argmin(counts * brightness**2 - 2 * brightness * sums))
    lit = np.zeros(len(wanted), dtype=np.bool_)
    lit[order[: counts[best]]] = True
    return ShownPattern(lit, int(levels[best]), limits.levels)


def pattern_recipe(
    name: str, patterns: Sequence[ShownPattern], directions: NDArray[np.float64]
) -> Recipe:
    """The bright field and an image of each pattern, told by directions.

    Parameters
    ----------
    directions
        (LED, 2): direction cosines of the LEDs along the table's +x and +y.

    Raises
    ------
    ValueError
        A pattern is of another number of LEDs.
    """
    reach = _reach(directions)
    frames = [FrameSettings(pattern=BRIGHTFIELD)]
    for number, pattern in enumerate(patterns, start=1):
        if len(pattern.lit) != len(directions):
            raise ValueError(
                f"pattern {number} has {len(pattern.lit)} LEDs, and there are {len(directions)}"
            )
        points = tuple((round(float(x), 4), round(float(y), 4)) for x, y in directions[pattern.lit])
        frames.append(
            FrameSettings(
                na_points=points,
                na_reach=reach,
                label=f"learned-{number}",
                weight=round(pattern.brightness, 6),
            )
        )
    return Recipe(name=name, frames=tuple(frames))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the file that `load_recipe` reads."""
    write_whole(path, recipe.to_yaml())


def _reach(directions: NDArray[np.float64]) -> float:
    """Half the usual distance between neighbours: an LED farther away belongs elsewhere."""
    if len(directions) < 2:
        return 0.05
    apart = np.hypot(*(directions[:, None] - directions[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    return max(round(float(np.median(apart.min(axis=1))) / 2, 3), 0.001)
