"""What continues a run: weights, their average, the optimiser and the curve, in one file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

from plsctl.models.networks.generators import Generator
from plsctl.models.runs.tensors import (
    load_weights,
    optimiser_tensors,
    part,
    read_tensors,
    restore_optimiser,
    write_tensors,
)
from plsctl.models.staining.adversary import Adversary

Row = dict[str, float]


@dataclass
class Progress:
    """Where a run stands; stored with the weights after every epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
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
    """The outcome of `train`."""

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
    file: Path,
    network: Generator,
    average: Generator | None,
    optimiser: torch.optim.Optimizer,
    adversary: Adversary | None,
    progress: Progress,
) -> None:
    """Write everything at once: the file is that of one epoch or of the next, never between."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    tensors |= optimiser_tensors(optimiser, "optimiser.")
    if adversary is not None:
        tensors |= {f"adversary.{name}": value for name, value in adversary.tensors().items()}
    write_tensors(file, tensors, vars(progress))


def load_checkpoint(
    file: Path,
    network: Generator,
    average: Generator | None,
    optimiser: torch.optim.Optimizer,
    adversary: Adversary | None,
) -> Progress:
    """Put a checkpoint back into networks and optimisers.

    Raises
    ------
    UserError
        If the file is damaged or of another network.
    """
    tensors, state = read_tensors(file)
    load_weights(network, part(tensors, "network."), file)
    if average is not None:
        load_weights(average, part(tensors, "average."), file)
    restore_optimiser(optimiser, part(tensors, "optimiser."))
    if adversary is not None:
        adversary.restore(part(tensors, "adversary."))
    return Progress(**state)  # type: ignore[arg-type]
