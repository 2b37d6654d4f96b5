"""Whether the images fit a mirrored, transposed or turned LED table better than the one given.

Each table is given a short run on a small part of the field, with the LEDs inside the aperture
alone: the others start from what these have found. In focus a table turned by 180 degrees fits as
well as the right one, whatever the sample: the phase changes its sign. Tables are told apart up to
that, and by it too where the images are clearly out of focus.
"""

from __future__ import annotations

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
"""Part of a field that is looked at."""

LEAST_LEDS = 8
"""With fewer inside the aperture, all tables fit."""

BETTER = 0.8
"""Another table is told where its residual is below this share of the given one's."""

TOO_LARGE = 0.01
"""Relative residual of a whole reconstruction above which something is wrong. Right tables leave
.001 to .005, and .014 in the worst of the small fields tried; wrong ones .012 to .5."""

_ROUNDS = 6
_TABLES: Mapping[str, tuple[tuple[int, int, int, int], ...]] = {
    "": ((1, 0, 0, 1),),
    "turned by 180 degrees": ((-1, 0, 0, -1),),
    "mirrored": ((-1, 0, 0, 1), (1, 0, 0, -1)),
    "transposed (x and y exchanged)": ((0, 1, 1, 0), (0, -1, -1, 0)),
    "turned by 90 degrees": ((0, -1, 1, 0), (0, 1, -1, 0)),
}


def residual_note(residual: float) -> str:
    """What a user should know of a whole reconstruction's residual; empty where it is usual."""
    if residual <= TOO_LARGE:
        return ""
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
    """

    residual: float
    best: str
    best_residual: float

    @property
    def sentence(self) -> str:
        """What a user should know; empty where nothing speaks against the table."""
        if not self.best:
            return ""
        return (
            f"The images fit better with the LED table {self.best}: relative residual "
            f"{self.best_residual:.4f}, {self.residual:.4f} as it is. Check the table and the "
            "camera's orientation (`camera` in the hardware file)."
        )


def check_orientation(stacks: Sequence[LedStack]) -> TableFit | None:
    """Try the symmetric images of an LED table; None where too few LEDs could tell.

    Parameters
    ----------
    stacks
        Of one pass, a part of a field each.
    """
    chosen = [_small(stack) for stack in stacks]
    if not chosen or min(len(stack) for stack in chosen) < LEAST_LEDS:
        return None
    try:
        fits = {
            name: min(_residual(chosen, np.reshape(turn, (2, 2))) for turn in turns)
            for name, turns in _TABLES.items()
        }
    except UserError:  # black images, or a pixel too coarse for the lens
        return None
    own = fits[""]
    best = min(fits, key=fits.__getitem__)
    if fits[best] >= BETTER * own:
        best = ""
    return TableFit(own, best, fits[best])


def check_pass(reader: PassReader, wavelength_um: float = 0.53) -> TableFit | None:
    """The same of an unstained pass, by two of its positions, in green; None without the LEDs."""
    single = [f for f in reader.attributes.frames if f.bright_field and f.direction is not None]
    if len({f.led for f in single if f.colour == "white"}) < LEAST_LEDS or not reader.names:
        return None
    stacks = []
    for index in sorted({len(reader.names) // 3, 2 * len(reader.names) // 3}):
        name = reader.names[index]
        window = liveliest_window(reader.brightfield(name)[..., 1].astype(np.float32))
        stacks.append(stack_from_pass(reader, name, 1, wavelength_um, window))
    return check_orientation(stacks)


def liveliest_window(image: FloatArray, side_px: int = SIDE_PX) -> tuple[slice, slice]:
    """Rows and columns of the part of an image, (y, x), that varies most."""
    height, width = image.shape
    side = min(side_px, height, width)
    corners = [
        (top, left)
        for top in range(0, height - side + 1, side // 2)
        for left in range(0, width - side + 1, side // 2)
    ]
    spread = [float(image[top : top + side, left : left + side].std()) for top, left in corners]
    top, left = corners[int(np.argmax(spread))]
    return slice(top, top + side), slice(left, left + side)


def _small(stack: LedStack) -> LedStack:
    """A small part of a stack's field, under the LEDs inside the aperture."""
    central = stack.amplitude[int(np.argmin(stack.steepness))]
    inside = np.flatnonzero(stack.steepness <= stack.na)
    return stack.take(inside).part(liveliest_window(central))


def _residual(stacks: Sequence[LedStack], turn: NDArray[np.int64]) -> float:
    settings = ApertureSettings(rounds=_ROUNDS, recover_directions=False)
    found = []
    for stack in stacks:
        turned = stack.lit_from(stack.directions @ turn.T)
        found.append(reconstruct(turned, settings).total_residual(turned))
    return float(np.mean(found))
