"""What is trained: the part of a training that the loop (`trainer`) does not know.

A task opens its data, makes the network and says what a batch costs and what the validation split
scores. The loop does the rest: steps, checkpoints, curves, averages, several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from plsctl.models.compute.processes import Processes

Called = Callable[[Any], Tensor]
"""A network as it is called in training, which may be wrapped or compiled."""


class TaskBatch(Protocol):
    """A batch of samples, as the task likes it.

    `size` counts its samples in all processes; `weight` is what makes the mean over the processes'
    losses the mean over samples (1.0 in one process).
    """

    @property
    def size(self) -> int:
        """Samples in all processes."""

    @property
    def weight(self) -> float:
        """Of this process's share."""


Batches = TypeVar("Batches", bound=TaskBatch)


class Step(NamedTuple):
    """What a network made of a batch.

    `terms` are scalars by name, of which "loss" is the sum that is lowered. An opponent compares
    `output` with `wanted`.
    """

    output: Tensor
    wanted: Tensor
    terms: dict[str, Tensor]


class Opponent(Protocol):
    """A second network that is trained against the first."""

    def generator_loss(self, output: Tensor, wanted: Tensor) -> Tensor:
        """The term that it adds to the first network's loss, weighted."""

    def update(self, output: Tensor, wanted: Tensor, share: float, weight: float) -> Tensor:
        """One step of its own; its loss before the step.

        Parameters
        ----------
        share
            Of its learning rate, which falls as the first network's does.
        weight
            That of the batch.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Everything that continues it."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""


@dataclass(frozen=True)
class Score:
    """A column `validation_NAME` of the curve, and what people call it."""

    name: str
    label: str
    higher_is_better: bool = False

    @property
    def column(self) -> str:
        """In curve.csv."""
        return f"validation_{self.name}"


LOSS = Score("loss", "loss")


class Task(Protocol[Batches]):
    """A network, its data and its losses.

    Derive from it: only `network`, `steps_per_epoch`, `batches` and `step` are needed. What can go
    wrong with the data is found when a task is made, before the run folder is.
    """

    best: Score = LOSS
    """The score by which the best epoch is chosen."""
    shown: Score = LOSS
    """The score that is drawn and told beside the loss."""
    drawn: Mapping[str, str] = {"loss": "k"}
    """Terms of the loss in the picture of the curve, each with its colour."""
    validation_samples: int = 0
    """Samples of the validation split; 0 where there is none."""
    metadata: Mapping[str, object] = {}
    """What a run folder keeps about task and data, for JSON; a run is continued on the same."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    def network(self, resumed: bool) -> nn.Module:
        """The network at the beginning of a run; of a resumed one the weights are put in later."""

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """What changes the network's weights; the loop sets the rate of each step."""
        return torch.optim.Adam(network.parameters(), fused=True)

    def opponent(self) -> Opponent | None:
        """The other side of adversarial training."""
        return None

    def batches(self, epoch: int, processes: Processes) -> Iterator[Batches]:
        """Batches of the training split, this process's share.

        What is drawn at random depends on the seed and the epoch (from 0) only, so that a run that
        is stopped and continued has the curve of one that was not.
        """

    def step(self, network: Called, batch: Batches) -> Step:
        """Output and loss terms of a training batch."""

    def validation_batches(self, processes: Processes) -> Iterator[Batches]:
        """Batches of the validation split, this process's share."""
        return iter(())

    def scores(self, network: Called, batch: Batches) -> dict[str, Tensor]:
        """Means over a validation batch; "loss" is one of them."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """What else the checkpoint keeps."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        return


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of what is drawn within an epoch (from 0): the same whenever that epoch is run."""
    return seed + (epoch + 1) * 1_000_003
