"""Telling types of stained cells apart, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.classification.labelled_cells import (
    NO_CELLS,
    CellBatch,
    Cells,
    labelled_cells,
    learnable_types,
    varied,
)
from plsctl.models.compute.placement import Compute
from plsctl.models.compute.processes import Processes
from plsctl.models.data.batches import to_colour
from plsctl.models.networks.classifier import CellTypeNet
from plsctl.models.runs.training_settings import Betas, TrainingSettings
from plsctl.models.training.checkpoint import Row, TrainingResult
from plsctl.models.training.task import Score, Step, Task
from plsctl.models.training.task_run import train_task
from plsctl.process.dataset.reader import Dataset


class CellTypeSettings(TrainingSettings):
    """How the classifier is trained."""

    learning_rate: float = 2e-3
    betas: Betas = (0.9, 0.999)
    schedule: Literal["one_cycle"] = "one_cycle"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"


class CellTypeRun(CellTypeSettings):
    """A run that trains the classifier on a data set."""

    leading = ("data", "target", "out")

    data: Path
    out: Path
    target: str = "20x"
    epochs: int = 20


class CellTypeTask(Task[CellBatch]):
    """Cross-entropy on batches in which rare types come as often as common ones.

    Parameters
    ----------
    steps_per_epoch
        None for as many as take each cell once, on average.
    """

    best = shown = Score("accuracy", "accuracy", higher_is_better=True)

    def __init__(
        self,
        settings: CellTypeSettings,
        compute: Compute,
        types: tuple[str, ...],
        train: Cells,
        validation: Cells = NO_CELLS,
        steps_per_epoch: int | None = None,
    ) -> None:
        self._settings, self._compute = settings, compute
        self._types, self._train, self._validation = types, train, validation
        self._steps = steps_per_epoch or -(-len(train.labels) // settings.batch_size)
        self.validation_samples = len(validation.labels)
        self.metadata = {
            "types": list(types),
            "samples": {"train": len(train.labels), "validation": self.validation_samples},
        }

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._steps

    def network(self, resumed: bool) -> CellTypeNet:
        """With random weights."""
        return CellTypeNet(len(self._types))

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam with decaying weights."""
        return torch.optim.AdamW(network.parameters(), weight_decay=1e-3)

    def batches(self, epoch: int, processes: Processes) -> Iterator[CellBatch]:
        """Cells drawn with replacement, their light and direction at random."""
        rng = np.random.default_rng((self._settings.seed, epoch))
        images, labels = self._train
        share = 1 / np.bincount(labels)[labels]
        for _ in range(self._steps):
            part = rng.choice(len(labels), self._settings.batch_size, p=share / share.sum())
            colour = varied(to_colour(torch.from_numpy(images[part])), rng)
            yield self._batch(colour, labels[part], processes)

    def _batch(self, colour: Tensor, labels: NDArray[np.int64], processes: Processes) -> CellBatch:
        mine, device = processes.share(np.arange(len(labels))), self._compute.device
        taken = torch.from_numpy(labels[mine]).to(device)
        return CellBatch(colour[mine].to(device), taken, len(labels), processes.weight(labels))

    def step(self, network: Callable[[Any], Tensor], batch: CellBatch) -> Step:
        """Scores of the types, and their cross-entropy."""
        output = self._compute.run(network, batch.images).float()
        loss = functional.cross_entropy(output, batch.labels, label_smoothing=0.05)
        return Step(output, batch.labels, {"loss": loss})

    def validation_batches(self, processes: Processes) -> Iterator[CellBatch]:
        """The split in its own order."""
        images, labels = self._validation
        for start in range(0, len(labels), self._settings.batch_size):
            part = slice(start, start + self._settings.batch_size)
            yield self._batch(to_colour(torch.from_numpy(images[part])), labels[part], processes)

    def scores(self, network: Callable[[Any], Tensor], batch: CellBatch) -> dict[str, Tensor]:
        """Cross-entropy, and the share of cells that are read right."""
        output, labels, terms = self.step(network, batch)
        return terms | {"accuracy": (output.argmax(dim=1) == labels).float().mean()}


def train_cell_types(
    config: CellTypeRun, *, fresh: bool = False, on_epoch: Callable[[Row], None] | None = None
) -> TrainingResult:
    """Train a classifier on the types in a data set's table, or go on with a stopped run.

    Raises
    ------
    UserError
        As `learnable_types` and `train_task`.
    """

    def open_task(compute: Compute, processes: Processes) -> CellTypeTask:
        data = Dataset.open(config.data)
        numbers = data.split("train", config.target)
        types = learnable_types(data, numbers)
        train, validation = labelled_cells(data, config.target, numbers, types), NO_CELLS
        if data.has_split("validation", config.target):
            numbers = data.split("validation", config.target)
            validation = labelled_cells(data, config.target, numbers, types)
        return CellTypeTask(config, compute, types, train, validation)

    return train_task(config, open_task, fresh=fresh, on_epoch=on_epoch)
