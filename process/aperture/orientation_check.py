"""Whether the images fit a mirrored, transposed or turned LED table better than the one given.

Each table is given a short run on small parts of the field, with the LEDs inside the aperture
alone: the others start from what these have found. One such part may fit a wrong table better by
chance: two that lie apart must agree, or nothing can be judged. In focus a table turned by 180
degrees fits as well as the right one, whatever the sample: the phase changes its sign. Tables are
told apart up to that, and by it too where the images are clearly out of focus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.reader import PassReader
from plsctl.process.aperture.led_stack import LedStack, stack_from_pass
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct

SIDE_PX = 64
"""Side of a part of a field that is looked at."""

PARTS = 2
"""So many parts are looked at, and must agree."""

LEAST_LEDS = 8
"""With fewer inside the aperture, all tables fit."""

BETTER = 0.8
"""Another table is told where its residual is below this share of the given one's."""

TOO_LARGE, LEAST_SIDE_PX = 0.01, 96
"""Relative residual of a whole reconstruction above which something is wrong. Right tables leave
.001 to .008 in fields of that side and more, wrong ones .012 to .5."""

TOO_LARGE_IN_SMALL = 0.03
"""The same in smaller fields, in which right tables leave up to .014: between the two limits
nothing can be judged."""

_ROUNDS = 6
_TABLES: Mapping[str, tuple[tuple[int, int, int, int], ...]] = {
    "": ((1, 0, 0, 1),),
    "turned by 180 degrees": ((-1, 0, 0, -1),),
    "mirrored": ((-1, 0, 0, 1), (1, 0, 0, -1)),
    "transposed (x and y exchanged)": ((0, 1, 1, 0), (0, -1, -1, 0)),
    "turned by 90 degrees": ((0, -1, 1, 0), (0, 1, -1, 0)),
}


def residual_note(residual: float, side_px: int) -> str:
    """What a user should know of a whole reconstruction's residual; empty where it is usual.

    Parameters
    ----------
    side_px
        The shorter side of the field.
    """
    if residual <= TOO_LARGE:
        return ""
    if side_px < LEAST_SIDE_PX and residual <= TOO_LARGE_IN_SMALL:
        return (
            f"The relative residual {residual:.4f} does not tell whether the LED table is right: "
            f"fields of less than {LEAST_SIDE_PX} px, such as this of {side_px}, leave up to "
            f"{TOO_LARGE_IN_SMALL:g} with a right one."
        )
    return (
        f"The relative residual {residual:.4f} is too large (at most {TOO_LARGE:g} where all is "
        "right): the LED table, the camera's orientation, pixel size, NA or wavelengths may be "
        "wrong. Check the LEDs with --geometry NAME.csv."
    )


@dataclass(frozen=True)
class TableFit:
    """How well the images fit the LED table, and the best of its symmetric images.

    Parameters
    ----------
    residual
        Relative residual with the table.
    best
        What fits best, such as "mirrored"; empty for the table itself.
    best_residual
        Its relative residual.
    unknown
        Why nothing can be said of the table; empty where it can.
    """

    residual: float = math.nan
    best: str = ""
    best_residual: float = math.nan
    unknown: str = ""

    @property
    def sentence(self) -> str:
        """What a user should know; empty where nothing speaks against the table."""
        if self.unknown:
            return (
                "Whether the LED table is mirrored, transposed or turned cannot be judged: "
                f"{self.unknown}."
            )
        if not self.best:
            return ""
        return (
            f"The images fit better with the LED table {self.best}: relative residual "
            f"{self.best_residual:.4f}, {self.residual:.4f} as it is. Check the table and the "
            "camera's orientation (`camera` in the hardware file)."
        )


def check_orientation(stacks: Sequence[LedStack]) -> TableFit:
    """Try the symmetric images of an LED table.

    Parameters
    ----------
    stacks
        Of one pass, a field or a part of one each.
    """
    parts = [part for stack in stacks for part in _small(stack, -(-PARTS // len(stacks)))]
    fewest = min((len(part) for part in parts), default=0)
    if fewest < LEAST_LEDS:
        return TableFit(
            unknown=f"{fewest} single LEDs inside the aperture are too few, {LEAST_LEDS} are needed"
        )
    if len(parts) < PARTS:
        return TableFit(
            unknown=f"the field has room for one part of {SIDE_PX} px only, and {PARTS} that lie "
            "apart must agree"
        )
    try:
        fits = {
            name: min((_residuals(parts, np.reshape(turn, (2, 2))) for turn in turns), key=sum)
            for name, turns in _TABLES.items()
        }
    except UserError as error:  # black images, or a pixel too coarse for the lens
        return TableFit(unknown=error.message.rstrip("."))
    own = fits[""]
    best = min(fits, key=lambda name: sum(fits[name]))
    if sum(fits[best]) >= BETTER * sum(own):
        best = ""
    if any(found > mine for found, mine in zip(fits[best], own, strict=True)):
        return TableFit(unknown=f"parts of the field contradict each other, one fits better {best}")
    return TableFit(float(np.mean(own)), best, float(np.mean(fits[best])))


def check_pass(reader: PassReader, wavelength_um: float = 0.53) -> TableFit | None:
    """The same of an unstained pass, by two of its positions, in green; None without the LEDs."""
    single = [f for f in reader.attributes.frames if f.bright_field and f.direction is not None]
    if len({f.led for f in single if f.colour == "white"}) < LEAST_LEDS or not reader.names:
        return None
    stacks = []
    chosen = sorted({len(reader.names) // 3, 2 * len(reader.names) // 3})
    for index in chosen:
        name = reader.names[index]
        green = reader.brightfield(name)[..., 1].astype(np.float32)
        for window in lively_windows(green, -(-PARTS // len(chosen))):
            stacks.append(stack_from_pass(reader, name, 1, wavelength_um, window))
    return check_orientation(stacks)


def lively_windows(
    image: FloatArray, count: int, side_px: int = SIDE_PX
) -> list[tuple[slice, slice]]:
    """Rows and columns of the parts of an image, (y, x), that vary most, and do not overlap.

    There are fewer than `count` where the image has no room for more.
    """
    height, width = image.shape
    side = min(side_px, height, width)
    windows = [
        (slice(top, top + side), slice(left, left + side))
        for top in range(height % side // 2, height - side + 1, side)
        for left in range(width % side // 2, width - side + 1, side)
    ]
    windows.sort(key=lambda window: -image[window].std())
    return windows[:count]


def _small(stack: LedStack, count: int) -> list[LedStack]:
    """Small parts of a stack's field, under the LEDs inside the aperture."""
    central = stack.amplitude[int(np.argmin(stack.steepness))]
    inside = stack.take(np.flatnonzero(stack.steepness <= stack.na))
    return [inside.part(window) for window in lively_windows(central, count)]


def _residuals(stacks: Sequence[LedStack], turn: NDArray[np.int64]) -> list[float]:
    """Of every part, with one turn of the table."""
    settings = ApertureSettings(rounds=_ROUNDS, recover_directions=False)
    turned = [stack.lit_from(stack.directions @ turn.T) for stack in stacks]
    return [float(reconstruct(stack, settings).total_residual(stack)) for stack in turned]
