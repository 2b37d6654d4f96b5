"""What becomes of a recipe's directions on an array: who stands for them, and what is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plsctl.acquire.leds.geometry import LedGeometry
from plsctl.acquire.plans.recipes import Recipe
from plsctl.acquire.plans.selection import ROUNDED_NA, Point, nearest_leds


@dataclass(frozen=True)
class Transfer:
    """The directions of one image on an array.

    Parameters
    ----------
    label
        The image; for `each`, all of its images.
    points
        How many directions are asked for.
    missing
        Those that have no LED near enough.
    shared
        How many of the others have to share an LED with one before them.
    shifts
        How far the LED of each direction that has one lies from it, as numerical apertures.
    """

    label: str
    points: int
    missing: tuple[Point, ...]
    shared: int
    shifts: tuple[float, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every direction has an LED of its own in its place."""
        return not self.missing and not self.shared and max(self.shifts) <= ROUNDED_NA

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "label": self.label,
            "directions": self.points,
            "missing": [list(point) for point in self.missing],
            "shared": self.shared,
            "mean_shift_na": float(np.mean(self.shifts)) if self.shifts else None,
            "largest_shift_na": max(self.shifts, default=None),
        }

    def __str__(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} of {self.points} directions have no LED near enough")
        if self.shared:
            parts.append(f"{self.shared} of {self.points} fall on an LED that is lit already")
        if self.shifts and max(self.shifts) > ROUNDED_NA:
            parts.append(
                f"the LEDs that stand for the directions lie NA {np.mean(self.shifts):.3f} beside "
                f"them on average, {max(self.shifts):.3f} at most"
            )
        return f"{self.label}: {'; '.join(parts) or 'every direction has its LED'}."


def transfers(recipe: Recipe, geometry: LedGeometry) -> tuple[Transfer, ...]:
    """What an array makes of each image that is given by directions (`na_points`)."""
    found = []
    for entry in recipe.frames:
        chosen = entry if entry.each is None else entry.each
        if chosen.na_points is None:
            continue
        near = nearest_leds(chosen.na_points, geometry)
        reached = [(led.led, far) for led, far in near if chosen.reaches(far)]
        pairs = zip(chosen.na_points, near, strict=True)
        found.append(
            Transfer(
                label=entry.own_label if entry.each is None else "each",
                points=len(near),
                missing=tuple(point for point, (_, far) in pairs if not chosen.reaches(far)),
                shared=len(reached) - len({led for led, _ in reached}),
                shifts=tuple(far for _, far in reached),
            )
        )
    return tuple(found)
