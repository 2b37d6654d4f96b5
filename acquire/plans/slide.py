"""The slide file: what is scanned, with what, and how (`slide.yaml`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from plsctl.acquire.devices.calibrations import calibrated, read_calibrations
from plsctl.acquire.devices.hardware import Hardware, find_file, load_hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location
from plsctl.acquire.files.settings import Settings, load_settings, read_yaml, suggest
from plsctl.acquire.files.shipped import SHIPPED
from plsctl.acquire.files.tables import number, read_table
from plsctl.acquire.plans.exposures import ExposureTable, load_exposures
from plsctl.acquire.plans.recipes import Recipe, is_recipe_file, load_recipe, recipe_names
from plsctl.acquire.store.records import PASSES, PassName

HEIGHT_COLUMNS = ("x_um", "y_um", "z_um")
"""Of a table of heights of focus."""

Range = Annotated[tuple[float, float], Field(examples=["[10000, 12000]"])]

_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10)),
}
"""Windows keeps these names for itself."""


class Region(Settings):
    """The rectangle of the slide that is scanned, in stage micrometres.

    Parameters
    ----------
    x_um
        First and last stage position, as [low, high].
    y_um
        First and last stage position, as [low, high].
    overlap
        Share of a field's side that it has in common with the next field.
    """

    x_um: Range
    y_um: Range
    overlap: float = Field(default=0.05, ge=0, lt=0.9)

    @model_validator(mode="after")
    def _ordered(self) -> Region:
        for name in ("x_um", "y_um"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name} must be [low, high] with low below high")
        return self

    @property
    def centre_um(self) -> tuple[float, float]:
        """The middle of the region (x, y)."""
        return sum(self.x_um) / 2, sum(self.y_um) / 2


class FocusSettings(Settings):
    """How focus is found, and from where to where the heights found hold.

    Parameters
    ----------
    mode
        `surface`: searched at some points, and again after every `refresh_positions`, which refines
        the surface through all of them; `every`: at every position, or every Nth; `grid`: on a
        coarse grid before the pass; `map`: heights from a file or set by hand; `fixed`: the
        hardware file's `focus_z_um` everywhere.
    points
        Places at which focus is searched first, spread over the region.
    range_um
        How far above, and how far below, a search goes from where focus is expected.
    step_um
        Distance between the heights that a sweep tries.
    """

    mode: Literal["surface", "every", "grid", "map", "fixed"] = "surface"
    points: int = Field(default=5, ge=1, le=49)
    every: int = Field(default=1, ge=1)
    """Mode `every`: search at every so manieth position, the first one included."""
    grid_um: float = Field(default=1500.0, gt=0)
    """Mode `grid`: side of the squares, in each of which focus is searched once."""
    map: str | None = Field(default=None, examples=["heights.csv"])
    """Mode `map`: table of heights (CSV: x_um, y_um, z_um, in stage micrometres)."""
    heights_um: list[tuple[float, float, float]] = Field(
        default=[], examples=["[[10000, 5000, 5012], [12000, 5000, 5016]]"]
    )
    """Mode `map`: the same, set by hand: places and heights, each [x, y, z]."""
    range_um: float = Field(default=40.0, gt=0)
    step_um: float = Field(default=2.0, gt=0)
    refresh_positions: int = Field(default=20, ge=0)
    """Search again after this many positions, against drift; 0: never."""
    refresh_minutes: float = Field(default=15.0, ge=0)
    """Search again after this time, for example after a pause or a resume; 0: never."""
    method: Literal["one-shot", "sweep"] = "one-shot"
    """`one-shot`: from two images under opposite LEDs, and by a sweep where these do not tell;
    `sweep`: by sweeps alone."""
    on_failure: Literal["neighbours", "skip", "stop"] = "neighbours"
    """Where focus is not found at a position: `neighbours`: its height is taken from what was
    measured elsewhere, which is noted with it; `skip`: it is left out; `stop`: the scan stops."""

    @model_validator(mode="after")
    def _has_heights(self) -> FocusSettings:
        named = [name for name in ("map", "heights_um") if getattr(self, name)]
        if self.mode == "map" and len(named) != 1:
            raise ValueError(
                "mode: map needs one of `map`, a table of heights, and `heights_um`, heights set "
                "by hand"
            )
        if self.mode != "map" and named:
            raise ValueError(
                f"{named[0]} is used with mode: map alone. Write it, or leave both out"
            )
        return self


class PassSettings(Settings):
    """One pass: the objective it is taken with, and its own exposure table where it has one.

    Parameters
    ----------
    objective
        Name of an objective under `turret.objectives` in the hardware file.
    exposures
        Exposure table (CSV) of this pass; null: the slide's, or `exposures_OBJECTIVE.csv` beside
        it where the objective is not that of the first pass.
    """

    objective: str
    exposures: str | None = None


class ReturnSettings(Settings):
    """How the slide is found again after staining.

    Parameters
    ----------
    search
        `edges`: by the edges that the images share; `none`: the slide is taken to lie where it
        lay.
    fields
        Fields that must confirm the place that was found.
    """

    search: Literal["edges", "none"] = "edges"
    fields: int = Field(default=5, ge=2, le=25)
    reach_um: float = Field(default=450.0, gt=0, le=3000)
    """Largest shift along x or y that is searched, together with a few degrees of rotation."""


class StopSettings(Settings):
    """When a pass may end early.

    Parameters
    ----------
    white_cells
        The pass ends once so many white cells have been seen; null: never early.
    """

    white_cells: int | None = Field(default=None, gt=0)


def _default_passes() -> dict[PassName, PassSettings]:
    return {
        "unstained": PassSettings(objective="20x"),
        "stained": PassSettings(objective="20x"),
        "highres": PassSettings(objective="100x"),
    }


class Slide(Settings):
    """A slide and how it is scanned, as `slide.yaml` says.

    Parameters
    ----------
    slide
        Name of the slide, and of the scan's folder: letters, digits, dots, hyphens.
    patient
        Name of the patient; data sets can be divided by it.
    stain
        What the slide will be stained with; noted with the data.
    hardware
        The microscope: path of its hardware file, or the name of one that comes with plsctl.
    region
        What is scanned.
    recipe
        The images of one position in the unstained pass; the other passes take bright field.
    exposures
        Exposure table (CSV): a path, or `shipped:exposures_20x.csv` for the simulator.
    focus
        How focus is found and kept.
    passes
        The passes `unstained`, `stained` and `highres`, those that are taken, with their
        objectives; by default 20x, 20x and 100x.
    slide_return
        How the stained slide is found again.
    stop
        When a pass ends before all positions are taken.
    """

    slide: str = Field(examples=["S001"])
    patient: str | None = None
    stain: str = "Romanowsky"
    hardware: str = Field(examples=["our_microscope.yaml", "simulator"])
    region: Region
    recipe: str = "full"
    exposures: str = "exposures_20x.csv"
    focus: FocusSettings = FocusSettings()
    passes: dict[PassName, PassSettings] = Field(default_factory=_default_passes, min_length=1)
    slide_return: ReturnSettings = ReturnSettings()
    stop: StopSettings = StopSettings()

    _file: Path = PrivateAttr(default=Path())

    @field_validator("slide")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not name:
            raise ValueError("it is empty. Give the slide's name, such as S001")
        wrong = sorted(set(re.sub(r"[\w.-]", "", name)))
        if wrong:
            allowed = re.sub(r"[^\w.-]+", "-", name)
            listed = " and ".join("blanks" if sign == " " else f"'{sign}'" for sign in wrong)
            raise ValueError(
                f"{listed} cannot stand in a slide's name, for its folder is called so. Use "
                f"letters, digits, dots and hyphens, such as {allowed}"
            )
        if name[0] in ".-" or name.endswith(".") or name.split(".")[0].upper() in _DEVICES:
            raise ValueError("no folder can be called so. Give another name, such as S001")
        if len(name) > 100:
            raise ValueError("it has more than 100 characters. Give a shorter one")
        return name

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, name: str) -> str:
        plain = name.removeprefix(SHIPPED).removesuffix(".yaml")
        if not is_recipe_file(name) and plain not in recipe_names():
            raise ValueError(
                f"there is no such recipe. {suggest(name, recipe_names())} "
                "Or give the path of a YAML file"
            )
        return name

    @property
    def file(self) -> Path:
        """The slide file."""
        return self._file

    def load_hardware(self) -> Hardware:
        """The hardware configuration the slide file names, with its calibrations."""
        try:
            hardware = load_hardware(self.hardware, self.file.parent)
            return calibrated(hardware, read_calibrations(hardware))
        except UserError as error:
            if error.field == "hardware" and error.file is None:
                error.file = str(self.file)
            raise

    def load_recipe(self) -> Recipe:
        """The recipe that the slide file names; a path starts at its folder.

        Raises
        ------
        UserError
            There is no such file, or it has a mistake.
        """
        try:
            return load_recipe(self.recipe, self.file.parent)
        except UserError as error:
            # A field of that name in the recipe's file is another mistake.
            if error.field != "recipe" or (error.file and Path(error.file).is_file()):
                raise
            raise UserError(
                f"there is no recipe at {error.file}.",
                file=self.file,
                line=read_yaml(self.file)[1].get(("recipe",)),
                field="recipe",
                hint=f"{error.hint} A scan that has begun keeps its recipe: plsctl scan FOLDER "
                "goes on without the file.",
            ) from None

    def load_exposures(self, pass_name: PassName = "unstained") -> ExposureTable:
        """The exposure table of a pass."""
        return load_exposures(self.exposures_file(pass_name))

    def load_heights(self) -> list[tuple[float, float, float]]:
        """Heights of focus (x, y, z, stage micrometres) that the slide file names or lists."""
        if self.focus.map is None:
            return self.focus.heights_um
        path = find_file(self.focus.map, self.file.parent)
        return [
            tuple(number(row, name, path, line) for name in HEIGHT_COLUMNS)  # type: ignore[misc]
            for line, row in read_table(path, HEIGHT_COLUMNS)
        ]

    def exposures_file(self, pass_name: PassName) -> Path:
        """Where the exposure table of a pass stands.

        A pass that names none has that of the slide, or, where its objective is another one than
        the first pass's, the `exposures_OBJECTIVE.csv` beside it.

        Raises
        ------
        UserError
            A pass with another objective has no table of its own.
        """
        settings = self.passes.get(pass_name)
        # In the order of work, whatever the order in the file.
        first = next(self.passes[name] for name in PASSES if name in self.passes).objective
        if settings is None or settings.exposures or settings.objective == first:
            own = settings.exposures if settings is not None else None
            return find_file(own or self.exposures, self.file.parent)
        own = _beside_table(self.exposures, f"exposures_{settings.objective}.csv")
        path = find_file(own, self.file.parent)
        if not path.is_file():
            raise UserError(
                f"the pass '{pass_name}' is taken at {settings.objective} and has no exposures of "
                f"its own: there is no {path}.",
                file=self.file,
                field=f"passes.{pass_name}.exposures",
                hint=f"Measure them: plsctl calibrate exposures --objective {settings.objective} "
                f"--brightfield-only --hardware {self.hardware} -o {path}. Or name a table, "
                "or leave the pass out.",
            )
        return path

    def pass_settings(self, name: PassName) -> PassSettings:
        """Settings of one pass; `UserError` when the slide file leaves it out."""
        try:
            return self.passes[name]
        except KeyError:
            raise UserError(
                f"the slide file has no pass '{name}'.",
                file=self.file,
                field="passes",
                hint=f"It has {', '.join(self.passes)}.",
            ) from None


def _beside_table(table: str, name: str) -> str:
    if table.startswith(SHIPPED):
        return f"{SHIPPED}{name}"
    return str(Path(table).with_name(name))


def load_slide(path: str | Path) -> Slide:
    """Read a slide file; every mistake is a `UserError` that points at its line."""
    path = location(path)
    slide = load_settings(path, Slide)
    slide._file = path
    return slide
