"""Whether a classifier of stained cells reads a prediction as the same type of cell.

It is trained here, on the stained images of the training split and the types in the data set's
table, and asked about stained images and predictions of cells it has not seen. What counts is not
how good it is but whether prediction and stained image make it say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from plsctl.acquire.arrays import Images
from plsctl.models.classification.labelled_cells import (
    Cells,
    labelled_cells,
    learnable_types,
    type_numbers,
)
from plsctl.models.classification.task import CellTypeSettings, CellTypeTask
from plsctl.models.compute.placement import Compute
from plsctl.models.data.batches import to_colour
from plsctl.models.metrics.intervals import Groups, measured_share
from plsctl.models.networks.classifier import CellTypeNet
from plsctl.models.training.trainer import Trainer
from plsctl.process.dataset.reader import Dataset

JUDGE_SEED = 1_000_003
"""Of the classifier that judges predictions: another one than any that a network was taught by."""

STEPS = 400


@dataclass(frozen=True)
class TypeAgreement:
    """How a classifier reads predictions and stained images of the same cells."""

    types: tuple[str, ...]
    labelled: NDArray[np.int64]
    on_stained: NDArray[np.int64]
    on_prediction: NDArray[np.int64]
    groups: Groups = ()
    """Their positions and slides, as for `mean_interval`."""

    def summary(self) -> dict[str, object]:
        """Agreement and accuracies with 95 % intervals, `kappa`, and the table of readings.

        `readings[i][j]` counts cells read as type i in the stained image and j in the prediction.
        """
        readings = np.zeros((len(self.types), len(self.types)), dtype=int)
        np.add.at(readings, (self.on_stained, self.on_prediction), 1)
        same = self.on_stained == self.on_prediction
        return {
            "types": list(self.types),
            "cells": len(self.labelled),
            "agreement": self._share(same),
            "kappa": kappa(readings),
            "accuracy_on_stained": self._share(self.on_stained == self.labelled),
            "accuracy_on_prediction": self._share(self.on_prediction == self.labelled),
            "readings": readings.tolist(),
        }

    def _share(self, right: NDArray[np.bool_]) -> dict[str, object] | None:
        return measured_share(right.astype(np.int64), np.ones(len(right), np.int64), self.groups)


def kappa(readings: NDArray[np.int_]) -> float | None:
    """Cohen's kappa of a table of readings: agreement beyond that of chance, 1 where it is whole.

    None where no cell was read, or both always read the same one type, which tells nothing.
    """
    total = int(readings.sum())
    if not total:
        return None
    by_chance = float(readings.sum(axis=0) @ readings.sum(axis=1)) / total**2
    if by_chance == 1:
        return None
    return float((np.trace(readings) / total - by_chance) / (1 - by_chance))


class CellTypeReader:
    """A classifier trained on the stained images of a data set's training split.

    Parameters
    ----------
    numbers
        The samples to learn from instead of the whole split.

    Raises
    ------
    UserError
        If the table has no types, or fewer than two with enough cells.
    """

    def __init__(
        self,
        data: Dataset,
        target: str,
        *,
        device: torch.device,
        seed: int = JUDGE_SEED,
        numbers: NDArray[np.int64] | None = None,
        on_share: Callable[[float], None] = lambda share: None,
    ) -> None:
        self._device = device
        numbers = data.split("train", target) if numbers is None else numbers
        self.types = learnable_types(data, numbers)
        cells = labelled_cells(data, target, numbers, self.types)
        self.cells = len(cells.labels)
        self.network = self._learn(cells, seed, on_share)

    def _learn(self, cells: Cells, seed: int, on_share: Callable[[float], None]) -> CellTypeNet:
        settings, compute = CellTypeSettings(epochs=1, seed=seed), Compute(self._device)
        task = CellTypeTask(settings, compute, self.types, cells, steps_per_epoch=STEPS)
        trainer = Trainer(
            settings, task, compute, on_step=lambda report: on_share(report.step / report.steps)
        )
        trainer.train()
        return cast(CellTypeNet, trainer.network.eval())

    def read(self, images: Images) -> NDArray[np.int64]:
        """Index of the type of each stained or predicted crop (n, 3, y, x)."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), 128):
                colour = to_colour(torch.from_numpy(images[start : start + 128]).to(self._device))
                parts.append(self.network(colour).argmax(dim=1).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def compare(
        self,
        names: NDArray[np.str_],
        predictions: Images,
        targets: Images,
        groups: Groups = (),
    ) -> TypeAgreement:
        """Readings of predictions beside those of stained images, of cells whose type is known.

        `groups` are the cells' positions and slides, as for `mean_interval`.
        """
        known = np.isin(names, self.types)
        return TypeAgreement(
            self.types,
            type_numbers(names[known], self.types),
            self.read(targets[known]),
            self.read(predictions[known]),
            tuple(level[known] for level in groups),
        )
