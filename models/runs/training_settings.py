"""Settings that any training has, whatever is trained. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import yaml
from pydantic import Field

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import Settings

Precision = Literal["auto", "float32", "bfloat16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last", "winograd"]

BATCH = 32

LARGEST_SEED = 2**32 - 1
"""What every generator of random numbers takes, later epochs' included."""

Decay = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Decay, Decay], Field(examples=["[0.5, 0.9]"])]
"""Decays of Adam's running means, of the gradient and of its square."""


class TrainingSettings(Settings):
    """How long, how fast and where a network is trained; a task's settings extend it."""

    continuable: ClassVar[frozenset[str]] = frozenset(
        {
            "out",
            "epochs",
            "steps",
            "minutes",
            "patience",
            "device",
            "precision",
            "memory_format",
            "memory_gb",
            "threads",
            "tensorboard",
            "compile",
        }
    )
    """What may differ between a run and its continuation: when to stop, where and how fast."""
    leading: ClassVar[tuple[str, ...]] = ("out",)
    """Fields that stand first in the YAML file."""

    out: Path | None = None
    """The run folder; None trains in memory."""
    batch: int | None = Field(default=None, ge=1)
    """Samples in a batch; null: what suits the network."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Adam's learning rate at the beginning."""
    betas: Betas = (0.5, 0.9)
    """Decays of Adam's running means, of the gradient and of its square."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    """How the learning rate falls."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the running mean of the weights that is validated and kept; 0 switches it off."""
    epochs: int = Field(default=200, ge=1)
    """At most so many times through the training samples."""
    steps: int | None = Field(default=None, ge=1)
    """Stop after so many batches, whatever the size of the data set; the cosine schedule ends with
    them."""
    minutes: float | None = Field(default=None, gt=0)
    """Stop after this long, over all resumed parts; the cosine schedule ends with it."""
    patience: int = Field(default=20, ge=1)
    """Stop after this many epochs without a better validation loss."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Of the first weights and the order of the samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where is trained; `auto` takes a graphics card where there is one."""
    precision: Precision = "auto"
    """Number format of the convolutions; `auto` takes the faster one."""
    memory_format: MemoryFormat = "auto"
    """Order of the network's memory; "auto" takes what a short timing finds faster. "winograd" is
    by tiles, with fewer multiplications: RRDB networks in float32 on CPUs."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the CPU; null: one for each core."""
    compile: bool = False
    """Let torch.compile translate the network first."""
    tensorboard: bool = False
    """Write the curve for TensorBoard too."""
    memory_gb: float = Field(default=4.0, gt=0)
    """Data up to this size are held in memory; larger ones are streamed from the disk."""

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""
        return self.batch or BATCH

    def to_yaml(self, folder: Path) -> str:
        """The file in `folder` that repeats this run."""
        values = self.model_dump(mode="json")
        ordered = {name: values[name] for name in (*self.leading, *values)}
        return yaml.safe_dump(ordered, sort_keys=False)

    def require_same(self, before: Self, folder: Path) -> None:
        """Raise UserError where a run that was begun with settings `before` cannot be continued."""
        for name in before.differences(self):
            then, now = getattr(before, name), getattr(self, name)
            raise UserError(
                f"the run {folder} was begun with {name} = {then}, now it is {now}.",
                field=name,
                hint="Give the same settings to continue it, another --out, or --fresh.",
            )

    def differences(self, other: Self) -> list[str]:
        """Fields that decide the result and in which the two runs differ."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [
            name for name in mine if name not in self.continuable and mine[name] != theirs[name]
        ]
