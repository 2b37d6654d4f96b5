"""A check of the LED table: where each LED's light really comes from.

An LED's own image says little about its direction once it has helped to make the spectrum, which
then fits the direction it was told. So the LEDs are left out in turns: the others are put together,
and the image of the one left out is compared with what they predict around the place in the table,
and at the places of the other LEDs (two exchanged plugs). LEDs that are found elsewhere are left
out of all turns of a second pass, so that they mislead no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.aperture.grid import make_grid
from plsctl.process.aperture.image import SyntheticAperture
from plsctl.process.aperture.led_stack import LedStack
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct

Direction: TypeAlias = NDArray[np.float64]

STEPS = 6
"""Places tried from the table's to the farthest, first; then halfway between."""
TURNS = 7
"""Parts that the LEDs are divided into; each is left out once. Not 5: five arms of LEDs, in the
order of steepness, would lose one arm as a whole."""
DISTINCT = 0.8
"""An image is found where its residual is below this share of the median of all places tried."""
COVERED = 0.92
"""Least share of an LED's window that others must cover before it can count as moved."""
BETTER = 0.85
"""An LED counts as moved where its image fits there by this factor better than by the table."""


@dataclass(frozen=True)
class LedPlace:
    """Where an LED was found.

    Parameters
    ----------
    name
        Of the LED.
    table, found
        Direction cosines (x, y).
    moved_deg
        Angle between the two.
    at_table, at_found
        Relative residual of its image in both.
    like
        Another LED whose place in the table explains the image best; empty for none.
    verdict
        "agrees"; "moved"; or "unclear": the other LEDs do not tell where its image comes from.
    """

    name: str
    table: tuple[float, float]
    found: tuple[float, float]
    moved_deg: float
    at_table: float
    at_found: float
    like: str
    verdict: str


def check_geometry(
    stack: LedStack,
    settings: ApertureSettings | None = None,
    reach_deg: float = 4.0,
    tolerance_deg: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LedPlace]:
    """The best direction of every LED against the stack's, in the stack's order.

    Parameters
    ----------
    reach_deg
        How far from its place in the table an LED is looked for, besides the places of others.
    tolerance_deg
        From which angle on an LED counts as moved; at least what a field of this size can tell
        apart, wavelength / its width.

    Raises
    ------
    UserError
        Fewer than fourteen LEDs, or too few of them in bright field.
    """
    if len(stack) < 2 * TURNS:
        raise UserError(
            f"{len(stack)} LEDs are too few to check one by the others.",
            hint="Take the stack with a larger recipe, such as full.",
        )
    chosen = (settings or ApertureSettings()).model_copy(update={"recover_directions": False})
    grid = make_grid(stack, chosen.guard_px, chosen.upsampling)
    chosen = chosen.model_copy(update={"upsampling": grid.upsampling})  # also without some LEDs
    told_apart_deg = math.degrees(stack.wavelength_um / float(grid.period_um.min()))
    tolerance_deg = max(tolerance_deg, told_apart_deg)
    everyone = np.arange(len(stack))
    # In the order of steepness, the neighbours of an LED stay in when it is left out.
    ranks = np.argsort(np.argsort(stack.steepness, kind="stable"))
    places: list[LedPlace] = []
    suspects: list[int] = []
    for number in range(2):
        found = {}
        for turn in range(TURNS):
            out = np.union1d(everyone[ranks % TURNS == turn], suspects).astype(np.int64)
            seen = stack.take(np.setdiff1d(everyone, out))
            result = reconstruct(seen, chosen)
            for led in everyone[ranks % TURNS == turn]:
                place = _look(stack, int(led), result, reach_deg, tolerance_deg)
                if place.verdict == "moved" and _covered(stack, int(led), seen) < COVERED:
                    place = replace(place, verdict="unclear", like="")
                found[int(led)] = place
            progress(number * TURNS + turn + 1, 2 * TURNS)
        places = [found[led] for led in range(len(stack))]
        suspects = [led for led, place in found.items() if place.verdict == "moved"]
        if not suspects:
            break
    progress(2 * TURNS, 2 * TURNS)
    return places


def _look(
    stack: LedStack, led: int, result: SyntheticAperture, reach_deg: float, tolerance_deg: float
) -> LedPlace:
    """Compare one image with the predictions around its place and at the places of others."""
    table = stack.directions[led]
    step = math.sin(math.radians(reach_deg)) / STEPS
    around = _around(table, step, STEPS)
    others = np.delete(np.arange(len(stack)), led)
    candidates = np.concatenate([around, stack.directions[others]])
    wrong = result.compare_with(stack.amplitude[led], candidates)
    # A minimum at the rim of what was tried is none; it only casts doubt on a poor one within.
    at_rim = np.isclose(np.abs(around - table).max(axis=1), step * STEPS)
    rim = np.append(at_rim, np.zeros(len(others), bool))
    best = int(np.argmin(np.where(rim, np.inf, wrong)))
    beyond = float(wrong[rim].min()) < BETTER * float(wrong[best])
    at_table = at_found = float(wrong[len(around) // 2])
    like, found = "", candidates[best]
    if best >= len(around):
        like, at_found = stack.names[others[best - len(around)]], float(wrong[best])
    else:
        finer = _around(found, step / 2, 2)
        again = result.compare_with(stack.amplitude[led], finer)
        found, at_found = _between(finer, again), float(again.min())
    moved_deg = _angle_deg(table, found)
    verdict = "agrees"
    if beyond or at_found > DISTINCT * float(np.median(wrong)):
        verdict = "unclear"
    elif moved_deg > tolerance_deg and at_found < BETTER * at_table:
        verdict = "moved"
    return LedPlace(
        name=stack.names[led],
        table=(float(table[0]), float(table[1])),
        found=(float(found[0]), float(found[1])),
        moved_deg=moved_deg,
        at_table=at_table,
        at_found=at_found,
        like=like if verdict == "moved" else "",
        verdict=verdict,
    )


def _covered(stack: LedStack, led: int, others: LedStack) -> float:
    """Share of what the lens sees under an LED that it sees under some of the others, too.

    At the end of an arm the rest is extrapolated; places further in then look better than they are.
    """
    along = np.linspace(-1, 1, 41) * stack.na
    disc = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    seen = stack.directions[led] + disc[np.hypot(*disc.T) <= stack.na]
    away = np.hypot(*(seen[:, None] - others.directions).transpose(2, 0, 1))
    return float((away.min(axis=1) <= stack.na).mean())


def _around(middle: Direction, step: float, steps: int) -> NDArray[np.float64]:
    """Directions on a square grid around one, itself in the middle, (n, 2)."""
    along = np.arange(-steps, steps + 1) * step
    x, y = np.meshgrid(along, along, indexing="ij")
    return np.asarray(middle + np.stack([x.ravel(), y.ravel()], axis=1))


def _between(grid: NDArray[np.float64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest point of parabolas through the best direction of a square grid and its sides."""
    side = math.isqrt(len(grid))
    best = int(np.argmin(wrong))
    found = np.array(grid[best])
    for axis, stride in ((0, side), (1, 1)):
        if not 0 < (best // stride) % side < side - 1:
            continue
        before, here, after = (wrong[best + stride * n] for n in (-1, 0, 1))
        bend = before - 2 * here + after
        if bend > 0:
            step = grid[best + stride, axis] - grid[best, axis]
            found[axis] += step * 0.5 * (before - after) / bend
    return found


def _angle_deg(one: Direction, other: Direction) -> float:
    """Angle between two directions given by their cosines along x and y."""
    a, b = (np.append(s, math.sqrt(max(0.0, 1 - float(s @ s)))) for s in (one, other))
    return math.degrees(math.acos(min(1.0, float(np.dot(a, b)))))
