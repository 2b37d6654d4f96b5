"""Settings of a run that learns optics with the network behind them. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import beside, location
from plsctl.acquire.files.mistakes import reason_of
from plsctl.acquire.files.settings import Settings, load_settings, suggest
from plsctl.models.runs.config import path_from
from plsctl.models.runs.training_settings import Betas, TrainingSettings

MODEL = "learned-optics"

NETWORKS = ("small",)
"""Networks that can read the grey image, by name (`readers`)."""

CROP_PX = 200

Optics = Literal["learned", "frozen"]


class SweepEntry(Settings):
    """One run of a sweep."""

    pooling: int = Field(ge=1, le=6, examples=["4"])
    """Side of the squares of pixels that are averaged."""
    optics: Optics = "learned"
    """Whether light and blur are learned with the network, or stay flat."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"pooling-{self.pooling}" + ("" if self.optics == "learned" else "-frozen")


class OpticsRun(TrainingSettings):
    """A run that learns optics and a network that tells types of cells apart (papers/000)."""

    continuable = TrainingSettings.continuable | {"data"}
    leading = ("model", "data", "out")

    model: Literal["learned-optics"]
    """What is trained; always `learned-optics`."""
    data: Path
    """A data set whose table has types, or a folder with a folder of images for each type."""
    out: Path
    """The run folder, or the folder of a sweep's run folders."""
    target: Literal["20x", "100x"] = "20x"
    """Of a data set: which stained images."""
    network: str = "small"
    """What reads the grey image."""
    optics: Optics = "learned"
    """Whether light and blur are learned with the network, or stay flat."""
    pooling: int = Field(default=1, ge=1, le=6)
    """Side of the squares of pixels that are averaged."""
    blur: Literal["pupil", "spectrum"] = "pupil"
    """Weights in the pupil of a lens, or of the image's spectrum as papers/000 has them."""
    blur_px: int = Field(default=63, ge=1)
    """Odd side of the blur's kernel, and of the grid of its weights."""
    blur_each: bool = False
    """Whether every channel has a blur of its own."""
    order: Literal["blur_then_add", "add_then_blur"] = "blur_then_add"
    """The order of light on its way to a sensor, or that of the code behind papers/000."""
    edge: Literal["reflect", "wrap"] = "reflect"
    """What lies beyond an image: its mirror image, or its other side."""
    crop_px: int | None = Field(default=None, ge=8)
    """Side of what is cut out of the middle; null: 200, or all of smaller images."""
    rotation_deg: float = Field(default=25.0, ge=0, le=180)
    """Training images are turned by up to so much, either way."""
    flips: bool = True
    """Whether training images are mirrored, either way, at random."""
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    """Of a folder that is not divided into train and validation: share of each type that is drawn
    for validation."""
    sweep: tuple[SweepEntry, ...] = Field(default=(), examples=["[{pooling: 4}]"])
    """Runs of their own, in folders of `out`; none: one run with the settings above."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Adam's learning rate at the beginning."""
    betas: Betas = (0.9, 0.999)
    """Decays of Adam's running means, of the gradient and of its square."""
    patience: int = Field(default=10, ge=1)
    """Stop after this many epochs without a better validation accuracy."""

    @field_validator("data", "out")
    @classmethod
    def _own_folder(cls, path: Path) -> Path:
        return path.expanduser()

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError(f"there is no such network. {suggest(name, NETWORKS)}")
        return name

    @field_validator("blur_px")
    @classmethod
    def _has_a_middle(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError("a kernel has a middle: give an odd number of pixels")
        return size

    @field_validator("sweep")
    @classmethod
    def _each_once(cls, sweep: tuple[SweepEntry, ...]) -> tuple[SweepEntry, ...]:
        names = [entry.name for entry in sweep]
        if len(set(names)) < len(names):
            raise ValueError("the same run stands in the sweep twice")
        return sweep

    @model_validator(mode="after")
    def _one_blur_after_the_sum(self) -> Self:
        if self.blur_each and self.order == "add_then_blur":
            raise ValueError("with order: add_then_blur all channels have one blur (blur_each)")
        return self

    def to_yaml(self, folder: Path) -> str:
        """The file in `folder` that repeats this run; like in any file, paths start there."""
        content = yaml.safe_load(super().to_yaml(folder))
        content |= {name: path_from(getattr(self, name), folder) for name in ("data", "out")}
        return yaml.safe_dump(content, sort_keys=False)

    def runs(self) -> tuple[OpticsRun, ...]:
        """The runs of its sweep, or itself."""
        return tuple(
            self.model_copy(
                update={
                    "pooling": entry.pooling, "optics": entry.optics, "sweep": (),
                    "out": self.out / entry.name,
                }
            )
            for entry in self.sweep
        ) or (self,)  # fmt: skip


def optics_run(values: dict[str, object], file: Path | None = None) -> OpticsRun:
    """The run that options ask for, or a YAML file with options that take precedence.

    Paths in the file start at its folder.

    Raises
    ------
    UserError
        A field or option is unknown, missing or wrong.
    """
    unknown = next((name for name in values if name not in OpticsRun.model_fields), None)
    if unknown is not None:
        raise UserError(
            f"{MODEL} has no setting --{unknown.replace('_', '-')}.",
            field=unknown,
            hint="Its settings: docs/reference/learned-optics.md.",
        )
    if file is not None:
        config = load_settings(location(file), OpticsRun)
        paths = {name: beside(getattr(config, name), file.parent) for name in ("data", "out")}
        values = config.model_dump(exclude_unset=True) | paths | values
    try:
        return OpticsRun.model_validate({"model": MODEL} | values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else ""
        option = f"--{name.replace('_', '-')}"
        if problem["type"] == "missing":
            raise UserError(f"{option} is missing.", field=name, hint="Add it.") from None
        reason, hint = reason_of(problem, OpticsRun.model_fields.get(name))
        told = f"{option} {problem['input']}: {reason}." if name else f"{reason}."
        raise UserError(told, field=name or None, hint=hint) from None
