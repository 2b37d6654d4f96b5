"""`plsctl recipes`: which images a recipe holds, and what it lights on an array."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, console, emit, print_message

if TYPE_CHECKING:
    from plsctl.acquire.devices.hardware import Hardware
    from plsctl.acquire.leds.geometry import Led, LedGeometry
    from plsctl.acquire.plans.recipe_frames import LitFrame
    from plsctl.acquire.plans.recipes import Recipe

ROWS = 21
"""Height of the picture of an array, in lines; a line is as high as two signs are wide."""


def recipes(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|PATH",
            help="One recipe, image by image: a name, or the path of a YAML file.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            "--hardware", "-H", help="What they light on this microscope: a YAML file or a name."
        ),
    ] = None,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """List the recipes, their images, and the LEDs that they light on an array.

    Example: plsctl recipes le18deg --hardware simulator
    """
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.acquire.plans.recipes import load_recipe, shipped_recipes

    array = load_hardware(hardware) if hardware is not None else None
    found = shipped_recipes() if which is None else (load_recipe(which),)
    entries = [_entry(recipe, array, must_fit=which is not None) for recipe in found]
    emit({"recipes": entries}, json)
    if json:
        return
    if which is None:
        _print_list(entries, array)
    else:
        _print_one(found[0], entries[0], array)


def _entry(recipe: "Recipe", array: "Hardware | None", must_fit: bool) -> dict[str, Any]:
    """What is told of a recipe; `must_fit`: that the array cannot take it is an error."""
    from plsctl.acquire.plans.transfer import transfers

    if array is None:
        return _described(recipe.name, [frame.label for frame in recipe.images()])
    try:
        lit = recipe.light(array.geometry(), _aperture(array))
    except UserError as error:
        if must_fit:
            raise
        labels = [frame.label for frame in recipe.images()]
        return _described(recipe.name, labels) | {"frames": None, "problem": _problem(error)}
    labels = [frame.frame.label for frame in lit]
    frames = [_frame(frame, _aperture(array)) for frame in lit]
    entry = _described(recipe.name, labels) | {"frames": frames, "problem": None}
    directions = transfers(recipe, array.geometry())
    return entry | ({"directions": [each.as_dict() for each in directions]} if directions else {})


def _described(name: str, labels: Sequence[str]) -> dict[str, Any]:
    return {"name": name, "images": len(labels), "labels": list(labels)}


def _frame(lit: "LitFrame", bright_field_na: float) -> dict[str, Any]:
    apertures = [led.na for led in lit.leds]
    return {
        "label": lit.frame.label,
        "leds": [led.led for led in lit.leds],
        "names": [led.name for led in lit.leds],
        "na": [round(min(apertures), 4), round(max(apertures), 4)],
        "bright_field": lit.is_bright_field(bright_field_na),
        "weight": lit.weight,
        "colour": lit.colour,
    }


def _aperture(array: "Hardware") -> float:
    return array.objective(array.low_power).na


def _problem(error: UserError) -> str:
    return " ".join(part for part in (error.message, error.hint) if part)


def _print_list(entries: Sequence[dict[str, Any]], array: "Hardware | None") -> None:
    from rich.table import Table

    table = Table(box=None)
    table.add_column("recipe")
    table.add_column("images", justify="right")
    if array is not None:
        table.add_column("bright field", justify="right")
        table.add_column("dark field", justify="right")
    for entry in entries:
        cells = [entry["name"], str(entry["images"])]
        if entry.get("frames"):
            bright = sum(frame["bright_field"] for frame in entry["frames"])
            cells += [str(bright), str(entry["images"] - bright)]
        elif array is not None:
            cells += ["-", "-"]
        table.add_row(*cells)
    console.print(table)
    missing = [entry for entry in entries if entry.get("problem")]
    if missing and array is not None:
        names = ", ".join(entry["name"] for entry in missing)
        print_message(
            f"{names}: not for this array, which has "
            f"{counted(len(array.geometry().leds), 'LED')}. {missing[0]['problem']}"
        )
    elif array is None:
        print_message("What they light on an array: plsctl recipes NAME --hardware FILE.")


def _print_one(recipe: "Recipe", entry: dict[str, Any], array: "Hardware | None") -> None:
    from rich.markup import escape
    from rich.table import Table

    from plsctl.acquire.plans.transfer import transfers

    if array is None:
        console.print(escape(" ".join(entry["labels"])), highlight=False)
        print_message(f"{recipe.name}: {counted(entry['images'], 'image')}.")
        return
    table = Table(box=None)
    for title in ("image", "LEDs", "NA", "field", "light"):
        table.add_column(title)
    for frame in entry["frames"]:
        low, high = frame["na"]
        light = [frame["colour"]] if frame["colour"] != "white" else []
        light += [f"x {frame['weight']:g}"] if frame["weight"] != 1 else []
        table.add_row(
            escape(frame["label"]),
            escape(_shortened(frame["names"])),
            f"{low:.2f}" if low == high else f"{low:.2f}-{high:.2f}",
            "bright" if frame["bright_field"] else "dark",
            " ".join(light),
        )
    console.print(table)
    geometry, na = array.geometry(), _aperture(array)
    lit = {number for frame in entry["frames"][1:] or entry["frames"] for number in frame["leds"]}
    console.print(picture(geometry, lit, na), highlight=False, markup=False)
    print_message(
        "o lit in bright field, x in dark field, . not lit but for the bright-field image; x to "
        f"the right, y down, as in the image. NA {na:g} divides bright and dark field."
    )
    for lost in (each for each in transfers(recipe, geometry) if not each.is_whole):
        print_message(str(lost))
    bright = sum(frame["bright_field"] for frame in entry["frames"])
    print_message(
        f"{recipe.name}: {counted(entry['images'], 'image')} on {array.name}, {bright} of them "
        "bright field."
    )


def _shortened(names: Sequence[str], most: int = 3) -> str:
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])}, ... ({len(names)})"


def picture(geometry: "LedGeometry", lit: set[int], bright_field_na: float) -> str:
    """The array as the image's axes show it, in signs: direction cosines, x right and y down."""
    middle = ROWS // 2
    furthest = max(max(led.na for led in geometry.leds), 1e-6)
    signs = [[" "] * (2 * ROWS - 1) for _ in range(ROWS)]

    def sign(led: "Led") -> str:
        if led.led not in lit:
            return "."
        return "o" if led.is_within(bright_field_na) else "x"

    # Lit ones last: where two LEDs fall on one place, the lit one shows.
    for led in sorted(geometry.leds, key=lambda one: one.led in lit):
        x, y = led.direction
        row = middle + round(middle * y / furthest)
        column = 2 * middle + round(2 * middle * x / furthest)
        signs[row][column] = sign(led)
    return "\n".join("".join(row).rstrip() for row in signs)
