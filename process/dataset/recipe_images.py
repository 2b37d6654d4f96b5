"""Which images of a data set a recipe means: by its name, or by its file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import Led, LedGeometry
from plsctl.acquire.plans.recipes import is_recipe_file, load_recipe
from plsctl.process.dataset.records import DatasetFrame


def recipe_name(recipe: str | Path | None, own: str) -> str:
    """What a recipe is called; `own` where all images are meant.

    Raises
    ------
    UserError
        Its file is missing or has a mistake.
    """
    if recipe is None:
        return own
    return load_recipe(recipe).name if is_recipe_file(str(recipe)) else str(recipe)


def recipe_labels(
    recipe: str | Path | None, own: str, frames: Sequence[DatasetFrame]
) -> tuple[str, ...]:
    """Labels of the images that a recipe takes, in its order.

    Parameters
    ----------
    recipe
        The name of a recipe that comes with plsctl, `own`, or the path of a file; None is `own`.
    own
        The recipe of the data set or run, which holds the frames and no others.
    frames
        What is held; LEDs that a file chooses by their place are sought among them.

    Raises
    ------
    UserError
        There is no such recipe, or its file has a mistake.
    """
    if recipe is None or str(recipe) == own:
        return tuple(frame.label for frame in frames)
    try:
        found = load_recipe(recipe)
    except UserError as error:
        if error.field == "recipe" and error.file is None:
            error.hint = f"{error.hint} The data set itself holds '{own}'."
        raise
    if any(entry.each is not None and entry.each.group is not None for entry in found.frames):
        raise UserError(
            f"recipe '{found.name}' takes each LED of a group, and a data set knows no groups.",
            file=found.file,
            hint="Name the LEDs, or give their angles or azimuths.",
        )
    array = _array_of(frames)
    return tuple(frame.label for frame in found.images(array if array.leds else None))


def _array_of(frames: Sequence[DatasetFrame]) -> LedGeometry:
    """The LEDs of which there are single images."""
    leds: dict[str, Led] = {}
    for frame in frames:
        if frame.direction is None or len(frame.leds) != 1:
            continue
        name = (frame.led or frame.label).removesuffix(f"-{frame.colour}")
        x, y = frame.direction
        z = -math.sqrt(max(1 - x**2 - y**2, 0.0))
        leds.setdefault(name, Led(frame.leds[0], name, x, y, z, ""))
    return LedGeometry(tuple(leds.values()))
