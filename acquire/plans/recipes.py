"""Recipes: YAML files that say which images a stack holds, in which order.

Those of papers/002 table 3.1 come with the package and are named without a path (`full`). What a
recipe lights follows from the table of the LED array; what its images are called does not, as
long as no LEDs are chosen by their place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import Field, PrivateAttr, field_validator

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import beside, real_path
from plsctl.acquire.files.mistakes import YamlPath
from plsctl.acquire.files.settings import Settings, load_settings, read_yaml, suggest
from plsctl.acquire.files.shipped import SHIPPED
from plsctl.acquire.leds.geometry import Led, LedGeometry
from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD, Frame, FrameSettings, LitFrame, coloured
from plsctl.acquire.plans.selection import Selection

ENDINGS = (".yaml", ".yml")

FOR_ANOTHER_ARRAY = (
    "This recipe is for the 43 LEDs of the paper: write one for yours (docs/recipes.md)."
)


class Recipe(Settings):
    """A recipe as its file describes it.

    Parameters
    ----------
    name
        What scans, data sets and runs call it; letters, digits, dots and hyphens.
    frames
        The images of a stack, in this order.
    """

    name: str = Field(examples=["ring-and-halves"])
    frames: tuple[FrameSettings, ...] = Field(
        min_length=1, examples=["[{pattern: brightfield}, {each: {na: [0, 0.4]}}]"]
    )

    _file: Path | None = PrivateAttr(default=None)
    _lines: dict[YamlPath, int] = PrivateAttr(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _can_be_called(cls, name: str) -> str:
        if not name or not all(sign.isalnum() or sign in "-_." for sign in name):
            raise ValueError("give a name of letters, digits, dots and hyphens, without blanks")
        return name

    @field_validator("frames")
    @classmethod
    def _bright_field_first(cls, frames: tuple[FrameSettings, ...]) -> tuple[FrameSettings, ...]:
        first = frames[0]
        is_plain = (first.pattern, first.own_label, first.colour) == (
            BRIGHTFIELD,
            BRIGHTFIELD,
            "white",
        )
        if not is_plain or first.variants:
            raise ValueError(
                "the first image must be the plain bright field, by which the passes are matched "
                "and cells are cut. Let the list begin with - {pattern: brightfield}"
            )
        return frames

    @property
    def file(self) -> Path | None:
        """Where it was read from; None for one that comes with the package."""
        return self._file

    @property
    def is_shipped(self) -> bool:
        """Whether it is one of the paper's, which every plsctl has."""
        return self._file is None

    @property
    def needs_array(self) -> bool:
        """Whether only the table of an LED array tells which images there are."""
        return any(entry.each is not None and entry.each.by_place for entry in self.frames)

    def images(self, geometry: LedGeometry | None = None) -> tuple[Frame, ...]:
        """Its images in their order, bright field first.

        Raises
        ------
        UserError
            LEDs are chosen by their place and there is no geometry, or none lies there.
        """
        return tuple(frame for frame, _, _ in self._expanded(geometry))

    def light(self, geometry: LedGeometry, bright_field_na: float) -> tuple[LitFrame, ...]:
        """Its images with the LEDs of an array.

        Parameters
        ----------
        bright_field_na
            The aperture that divides the LEDs into bright and dark field.

        Raises
        ------
        UserError
            It names an LED that the array lacks, or an image would be dark.
        """
        return tuple(
            LitFrame(frame, self._lit(number, led, geometry, bright_field_na), entry.weight,
                     entry.colour)
            for frame, number, led in self._expanded(geometry)
            for entry in (self.frames[number],)
        )  # fmt: skip

    def _expanded(self, geometry: LedGeometry | None) -> Iterator[tuple[Frame, int, str | None]]:
        """Every image with its entry's number, and the name of its LED where it is one of each."""
        seen: dict[str, int] = {}
        for number, entry in enumerate(self.frames):
            names: tuple[str | None, ...] = (None,)
            if entry.each is not None:
                names = self._each(number, entry.each, geometry)
            for name in names:
                led = entry.own_label if name is None else coloured(name, entry.colour)
                for variant in entry.variants or ("",):
                    frame = Frame(led, variant)
                    if frame.label in seen:
                        raise self._problem(
                            number, f"a second image would be called '{frame.label}'",
                            "Leave one of them out, or give it another label.",
                        )  # fmt: skip
                    seen[frame.label] = number
                    yield frame, number, name

    def _each(self, number: int, each: Selection, geometry: LedGeometry | None) -> tuple[str, ...]:
        if not each.by_place and each.leds is not None:
            return each.leds
        if geometry is None:
            raise self._problem(
                number, "this takes LEDs by their place, and no LED array is known here",
                "Name the microscope (--hardware FILE), or name the LEDs.",
            )  # fmt: skip
        return tuple(led.name for led in self._chosen(number, each, geometry))

    def _lit(
        self, number: int, name: str | None, geometry: LedGeometry, bright_field_na: float
    ) -> tuple[Led, ...]:
        entry = self.frames[number]
        if name is not None:
            return self._chosen(number, Selection(leds=(name,)), geometry)
        if entry.pattern is None:
            leds = self._chosen(number, entry, geometry)
        else:
            leds = geometry.pattern(entry.pattern, bright_field_na)
        if entry.pattern is not None and not leds:
            raise self._problem(
                number, f"the array has no LED for '{entry.pattern}'",
                f"The objective's aperture is {bright_field_na:g}, the LEDs lie at "
                f"{_aperture(geometry)}.",
            )  # fmt: skip
        if entry.own_label in geometry.names and [led.name for led in leds] != [entry.own_label]:
            raise self._problem(
                number, f"'{entry.own_label}' is the name of an LED, and others are lit",
                "Give the image another label.",
            )  # fmt: skip
        return leds

    def _chosen(self, number: int, selection: Selection, geometry: LedGeometry) -> tuple[Led, ...]:
        missing = [name for name in selection.leds or () if name not in geometry.names]
        if missing:
            raise self._problem(
                number,
                f"the array has no LED '{missing[0]}'",
                suggest(missing[0], _shortened(geometry.names, missing[0]))
                + (f" {FOR_ANOTHER_ARRAY}" if self.is_shipped else ""),
            )
        leds = selection.choose(geometry)
        if not leds:
            groups = sorted({led.group for led in geometry.leds if led.group})
            raise self._problem(
                number,
                "no LED of the array is there",
                f"Its {len(geometry.leds)} LEDs lie at {_aperture(geometry)}"
                + (f", in the groups {', '.join(groups)}." if groups else "."),
            )
        return leds

    def _problem(self, number: int, message: str, hint: str) -> UserError:
        field = f"frames.{number}"
        return UserError(
            f"recipe '{self.name}', {field}: {message}.",
            file=self._file,
            line=self._lines.get(("frames", number)),
            field=field,
            hint=hint,
        )

    def to_yaml(self) -> str:
        """The file that holds this recipe."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


def _shortened(names: tuple[str, ...], wanted: str, most: int = 12) -> list[str]:
    """Some of the names, that most like the wanted one among them."""
    import difflib

    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    shown = list(dict.fromkeys([*close, *names[:most]]))
    return shown if len(names) <= most else [*shown, f"... ({len(names)} in all)"]


def _aperture(geometry: LedGeometry) -> str:
    angles = geometry.angles_deg
    sines = [led.na for led in geometry.leds]
    return f"{angles.min():.1f} to {angles.max():.1f} deg (NA {min(sines):.2f} to {max(sines):.2f})"


# Where recipes come from ----------------------------------------------------------------------


@cache
def shipped_recipes() -> tuple[Recipe, ...]:
    """The recipes that come with the package, the largest first."""
    folder = Path(str(files("plsctl.hardware_configs"))) / "recipes"
    found = [load_settings(path, Recipe) for path in sorted(folder.glob("*.yaml"))]
    return tuple(sorted(found, key=lambda recipe: (-len(recipe.images()), recipe.name)))


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, the largest first."""
    return [recipe.name for recipe in shipped_recipes()]


def is_recipe_file(name: str) -> bool:
    """Whether a recipe is named by the path of its file."""
    if name.startswith(SHIPPED):
        return False
    return name.endswith(ENDINGS) or "/" in name or os.sep in name


def load_recipe(name: str | Path, folder: Path = Path()) -> Recipe:
    """A recipe by its name (`full`) or by the path of its file, which starts at `folder`.

    Raises
    ------
    UserError
        There is no such recipe, or its file has a mistake.
    """
    text = str(name)
    if not is_recipe_file(text):
        return _shipped(text.removeprefix(SHIPPED).removesuffix(ENDINGS[0]), folder)
    path = beside(name, folder)
    if not path.is_file():
        stem = path.stem
        raise UserError(
            "there is no such recipe.",
            file=path,
            field="recipe",
            hint=f"The one that comes with plsctl is named without its ending: {stem}."
            if stem in recipe_names()
            else "Check the name; a path in a file starts at that file's folder.",
        )
    path = real_path(path)
    found = load_settings(path, Recipe)
    found._file, found._lines = path, read_yaml(path)[1]
    if found.name in recipe_names():
        raise UserError(
            f"'{found.name}' is the name of a recipe that comes with plsctl.",
            file=path,
            line=found._lines.get(("name",)),
            field="name",
            hint="Give yours another name.",
        )
    if not found.needs_array:
        found.images()
    return found


def _shipped(name: str, folder: Path) -> Recipe:
    for known in shipped_recipes():
        if known.name == name:
            return known
    hint = f"{suggest(name, recipe_names())} Or give the path of a YAML file."
    if (folder / f"{name}.yaml").is_file():
        hint = f"Write {name}.yaml for the file that lies there."
    raise UserError(f"there is no recipe '{name}'.", field="recipe", hint=hint)


def recipe(name: str) -> tuple[Frame, ...]:
    """The images of a recipe that comes with the package, bright field first.

    Raises
    ------
    UserError
        There is no recipe of that name.
    """
    return _shipped(name, Path()).images()
