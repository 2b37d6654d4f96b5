"""What continues a run: weights, their average, the optimiser and the curve, in one file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from plsctl.models.runs.tensors import read_tensors, write_tensors

Row = dict[str, float]


@dataclass
class Progress:
    """Where a run stands; stored with the weights after every epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    """Value of the best epoch; negative where higher ones are better, so that less is better."""
    best_epoch: int = 0
    history: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class StepReport:
    """How far a run has come, after a step.

    `share` of the run is done, in [0, 1]; with a limit on time it may run ahead of
    `step` / `steps`. `loss` is the last one that was read, None before the first.
    `samples_per_s` is the mean over the running epoch.
    """

    step: int
    steps: int
    share: float
    loss: float | None
    samples_per_s: float


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training.

    `metrics` are those of the best epoch, of the validation split where there is one.
    """

    run: Path
    epochs: int
    best_epoch: int
    seconds: float
    stopped: str
    metrics: Row

    def as_dict(self) -> dict[str, object]:
        """The fields that `plsctl train --json` prints."""
        return {
            "run": str(self.run),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 1),
            "stopped": self.stopped,
            "metrics": self.metrics,
        }


def save_checkpoint(
    file: Path, parts: Mapping[str, Mapping[str, Tensor]], progress: Progress
) -> None:
    """Write everything at once: the file is that of one epoch or of the next, never between.

    Parameters
    ----------
    parts
        Tensors by the name of their part, then by their own; in the file PART.NAME.
    """
    tensors = {
        f"{part}.{name}": value for part, held in parts.items() for name, value in held.items()
    }
    write_tensors(file, tensors, vars(progress))


def load_checkpoint(file: Path) -> tuple[dict[str, dict[str, Tensor]], Progress]:
    """The parts of a checkpoint, and where its run stands.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    tensors, state = read_tensors(file)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, own = name.split(".", 1)
        parts.setdefault(part, {})[own] = value
    return parts, Progress(**state)  # type: ignore[arg-type]
