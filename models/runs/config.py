"""Settings of a training run: one YAML file, or the options of `plsctl train`. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import beside, is_remote, location, real_path
from plsctl.acquire.files.mistakes import reason_of
from plsctl.acquire.files.settings import load_settings, suggest
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.plans.recipes import is_recipe_file, load_recipe, recipe_names
from plsctl.models.networks.sizes import (
    alignment_px,
    default_batch,
    network_parameters,
    receptive_radius_px,
)
from plsctl.models.runs.registry import MODELS, LossWeights, ModelSpec, model_spec
from plsctl.models.runs.training_settings import TrainingSettings

BUILT_IN_PERCEPTUAL = ("targets", "classifier")
"""Networks of the perceptual loss that need no file."""

# What a run takes over from the run it begins with, where it is not said otherwise.
INHERITED = ("data", "recipe", "target", "perceptual")
INHERITED_SIZES = ("blocks", "growth", "width")


class TrainingConfig(TrainingSettings):
    """A training run. Defaults are those of papers/002 section 3.6."""

    continuable = TrainingSettings.continuable | {"data"}
    leading = ("model", "data", "out")

    model: str
    """The network: `maenet`, `maepnet`, `maepfnet`, `maepf-rpgan-sn`, `unet` or `fast`."""
    data: Path
    """The data set, NAME.zarr; a path from the folder of this file."""
    out: Path
    recipe: str | None = None
    """Images to use, by the name or the file of a recipe; None takes all of the data set."""
    target: Literal["20x", "100x"] = "20x"
    """What is learnt: the stained image at 20x, or the one at 100x brought to its size."""
    blocks: int | None = Field(default=None, ge=1, le=64)
    """Depth of the network, in its own blocks; null: the model's own."""
    growth: int | None = Field(default=None, ge=1)
    """Channels that each growing convolution adds; null: the model's own."""
    width: int | None = Field(default=None, ge=2)
    """Channels inside the network; None takes the model's own (those of the input for RRDB)."""
    from_run: Path | None = None
    """Run whose weights and input scale this one begins with."""
    perceptual: str = "targets"
    """Network of the perceptual loss: "targets" for filters made from the stained targets,
    "classifier" for one that learns to tell the stained cells' types, or a file of VGG19
    weights."""
    tolerate_shift_px: int = Field(default=0, ge=0, le=8)
    """Targets may lie shifted by so many pixels against their stacks without being wrong."""
    margin: int | None = Field(default=None, ge=0)
    """Surroundings of the crop that the network sees and the loss does not, in pixels; None takes
    all that the data set has."""
    augment: Literal["none", "mirrors", "turns"] = "none"
    """Symmetries of the LED array under which samples are mirrored and turned."""
    augment_tolerance_deg: float = Field(default=1.5, ge=0, le=45)
    """How far an LED may stand from where a symmetry wants it."""
    augment_mask: float = Field(default=0.1, ge=0, le=1)
    """Largest share of images without such an LED; they are masked."""
    discriminator_rate: float = Field(default=4e-4, gt=0)
    """Rate of the discriminator, where there is one; it falls as the generator's does."""
    adversarial_reduction: Literal["mean", "sum"] = "mean"
    """Whether the adversarial losses are the mean over the pairs of a batch, or the sum, as the
    thesis writes them (2.30, 2.31): with 20 pairs the term is then 20 times larger."""
    train_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training samples that is used, drawn at random: papers/002 table 4.5."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the learning rate stays or falls to 0 along a cosine."""

    @field_validator("data", "out", "from_run")
    @classmethod
    def _own_folder(cls, path: Path | None) -> Path | None:
        return path and path.expanduser()

    @field_validator("model")
    @classmethod
    def _known_model(cls, name: str) -> str:
        if name not in MODELS:
            raise ValueError(f"there is no such model. {suggest(name, MODELS)}")
        return name

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None or is_recipe_file(name) or name in recipe_names():
            return name
        own = _recipe_of(info.data.get("data"))
        if name == own:
            return None  # all of its images
        known = [*recipe_names(), *([own] if own else [])]
        raise ValueError(
            f"there is no such recipe. {suggest(name, dict.fromkeys(known))} Or give the path of "
            "a YAML file"
        )

    @field_validator("perceptual")
    @classmethod
    def _is_a_place(cls, name: str) -> str:
        return name if name in BUILT_IN_PERCEPTUAL else str(location(name))

    @field_validator("blocks", "growth")
    @classmethod
    def _has_such_a_size(cls, size: int | None, info: ValidationInfo) -> int | None:
        spec = MODELS.get(info.data.get("model", ""))
        if size is not None and spec is not None and getattr(spec, str(info.field_name)) is None:
            raise ValueError(f"{spec.name} has no {info.field_name} to choose.")
        return size

    @property
    def spec(self) -> ModelSpec:
        """The named model this run trains."""
        return model_spec(self.model)

    @property
    def losses(self) -> LossWeights:
        """Weights of the loss terms."""
        return self.spec.losses

    @property
    def depth(self) -> int:
        """Blocks of the network: residual-in-residual ones, or gated ones at the coarsest scale."""
        return self.blocks or self.spec.blocks or 0

    @property
    def growth_channels(self) -> int:
        """Channels that each growing convolution adds."""
        return self.growth or self.spec.growth or 0

    @property
    def inner_width(self) -> int | None:
        """Channels inside the network; None for those of the input."""
        return self.width or self.spec.width

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""
        return self.batch or default_batch(self.depth)

    def parameters(self, channels: int) -> int:
        """Parameters of the network for so many input channels."""
        return network_parameters(
            self.spec.network, channels, self.depth, self.growth_channels, self.inner_width
        )

    @property
    def exact_halo_px(self) -> int:
        """How far a pixel of the network's output can look at most."""
        return receptive_radius_px(self.depth, self.spec.network)

    @property
    def alignment_px(self) -> int:
        """Multiple at which the network's tiles must begin."""
        return alignment_px(self.spec.network)

    def to_yaml(self, folder: Path) -> str:
        """The file in `folder` that repeats this run; like in any file, paths start there."""
        content = yaml.safe_load(super().to_yaml(folder))
        for name, path in self._paths().items():
            content[name] = path_from(path, folder)
        return yaml.safe_dump(content, sort_keys=False)

    def anchored(self, folder: Path) -> TrainingConfig:
        """The same with paths that do not start in `folder`, where its file lies, but here."""
        return self.model_copy(
            update={
                name: type(getattr(self, name))(place)
                if isinstance(getattr(self, name), str)
                else place
                for name, path in self._paths().items()
                for place in (beside(path, folder),)
            }
        )

    def _paths(self) -> dict[str, Path | str]:
        """The fields that are paths."""
        found: dict[str, Path | str] = {"data": self.data, "out": self.out}
        if self.from_run is not None:
            found["from_run"] = self.from_run
        if self.perceptual not in BUILT_IN_PERCEPTUAL:
            found["perceptual"] = self.perceptual
        if self.recipe is not None and is_recipe_file(self.recipe):
            found["recipe"] = self.recipe
        return found

    def recipe_file(self) -> str | None:
        """The content of its recipe's file; None of a recipe that has a name only."""
        if self.recipe is None or not is_recipe_file(self.recipe):
            return None
        return load_recipe(self.recipe).to_yaml()

    def with_recipe_in(self, folder: Path, content: str | None) -> TrainingConfig:
        """The same with a copy of its recipe's file in the run's folder, which then needs no other.

        Raises
        ------
        OSError
            The disk does not take it.
        """
        if content is None:
            return self
        copy = folder / "recipe.yaml"
        write_whole(copy, content)
        return self.model_copy(update={"recipe": str(copy)})

    def differences(self, other: Self) -> list[str]:
        """Fields that decide the result and in which the two runs differ."""
        mine, theirs = self.model_dump(), other.model_dump()
        for values in (mine, theirs):  # a path may be told in several ways
            for name in ("from_run", "perceptual"):
                if values[name] is not None and values[name] not in BUILT_IN_PERCEPTUAL:
                    values[name] = real_path(location(values[name]))
            if values["recipe"] is not None and is_recipe_file(values["recipe"]):
                values["recipe"] = load_recipe(values["recipe"]).to_yaml()
        return [
            name for name in mine if name not in self.continuable and mine[name] != theirs[name]
        ]


def _recipe_of(data: Path | None) -> str | None:
    """The recipe of a data set, where there is one."""
    from plsctl.process.dataset.format import read_attributes

    try:
        return None if data is None else read_attributes(location(data)).recipe
    except (UserError, OSError):
        return None


def path_from(path: Path | str, folder: Path) -> str:
    """A path as it is told in a file of `folder`, so that both may be moved together."""
    place = location(path)
    if is_remote(place):
        return place.as_posix()
    try:
        return Path(os.path.relpath(real_path(place), real_path(folder))).as_posix()
    except ValueError:  # another drive of Windows
        return str(real_path(place))


def read_config(path: Path) -> TrainingConfig:
    """The run that a YAML file describes; paths in it start at its folder.

    Raises
    ------
    UserError
        The file is missing or has a mistake.
    """
    return load_settings(path, TrainingConfig).anchored(path.parent)


def config_from_options(model: str, options: Mapping[str, object]) -> TrainingConfig:
    """The run that a model's name and the options of `plsctl train` ask for.

    Raises
    ------
    UserError
        If an option is missing or its value is not allowed.
    """
    model_spec(model)
    return _checked(_inherited({"model": model, **options}))


def config_from_file(path: Path, options: Mapping[str, object]) -> TrainingConfig:
    """The run that a YAML file describes; options given beside it take precedence.

    Raises
    ------
    UserError
        If the file or an option is wrong; the message names line and field.
    """
    config = read_config(location(path))
    if not options and config.from_run is None:
        return config
    return _checked(_inherited(config.model_dump(exclude_unset=True) | dict(options)))


def _inherited(values: dict[str, object]) -> dict[str, object]:
    """Fill in what a run takes over from the one it begins with."""
    if values.get("from_run") is None:
        return values
    file = Path(str(values["from_run"])) / "config.yaml"
    own = Path(str(values.get("out"))) / "config.yaml"
    if not file.is_file() and own.is_file():
        file = own  # a run that has begun holds the same, and needs its start no more
    if not file.is_file():
        raise UserError(
            f"{file.parent} is not a run folder.",
            field="from",
            hint="Name a folder that `plsctl train` wrote.",
        )
    start = read_config(file)
    same = start.spec.network == model_spec(str(values["model"])).network
    names = (*INHERITED, *INHERITED_SIZES) if same else INHERITED
    return {name: getattr(start, name) for name in names} | values


def _checked(values: Mapping[str, object]) -> TrainingConfig:
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else None
        known = TrainingConfig.model_fields.get(name or "")
        option = "--from" if name == "from_run" else f"--{(name or '').replace('_', '-')}"
        if problem["type"] == "missing":
            raise UserError(f"{option} is missing.", field=name, hint="Add it.") from None
        reason, hint = reason_of(problem, known)
        raise UserError(f"{option} {problem['input']}: {reason}.", field=name, hint=hint) from None
