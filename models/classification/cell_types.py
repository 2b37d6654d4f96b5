"""Whether a classifier of stained cells reads a prediction as the same type of cell.

It is trained here, on the stained images of the training split and the types in the data set's
table, and asked about stained images and predictions of cells it has not seen. What counts is not
how good it is but whether prediction and stained image make it say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import UserError
from plsctl.models.data.batches import to_colour
from plsctl.models.metrics.intervals import measured_share
from plsctl.models.networks.classifier import CellTypeNet
from plsctl.process.dataset.reader import Dataset

FEWEST_OF_A_TYPE = 8
"""Types with fewer labelled training cells cannot be learned and are left out."""

JUDGE_SEED = 1_000_003
"""Of the classifier that judges predictions: another one than any that a network was taught by."""

STEPS = 400
BATCH = 32
RATE = 2e-3
LIGHT = 0.1
"""Brightness and colour of the training images are changed at random by up to this share."""


@dataclass(frozen=True)
class TypeAgreement:
    """How a classifier reads predictions and stained images of the same cells."""

    types: tuple[str, ...]
    labelled: NDArray[np.int64]
    on_stained: NDArray[np.int64]
    on_prediction: NDArray[np.int64]

    def summary(self) -> dict[str, object]:
        """Agreement and accuracies with 95 % intervals, and the table of readings.

        `readings[i][j]` counts cells read as type i in the stained image and j in the prediction.
        """
        readings = np.zeros((len(self.types), len(self.types)), dtype=int)
        np.add.at(readings, (self.on_stained, self.on_prediction), 1)
        same = self.on_stained == self.on_prediction
        return {
            "types": list(self.types),
            "cells": len(self.labelled),
            "agreement": _share(same),
            "accuracy_on_stained": _share(self.on_stained == self.labelled),
            "accuracy_on_prediction": _share(self.on_prediction == self.labelled),
            "readings": readings.tolist(),
        }


def _share(right: NDArray[np.bool_]) -> dict[str, object] | None:
    return measured_share(int(right.sum()), len(right))


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
        self.types, known = learnable_types(data, numbers)
        images = data.read_target(target, numbers[known]).astype(np.uint8)
        labels = self._numbered(types_of(data, numbers[known]))
        self.cells = len(labels)
        self.network = self._learn(images, labels, seed, on_share)

    def _numbered(self, names: NDArray[np.str_]) -> NDArray[np.int64]:
        return np.array([self.types.index(name) for name in names], dtype=np.int64)

    def _learn(
        self,
        images: Images,
        labels: NDArray[np.int64],
        seed: int,
        on_share: Callable[[float], None],
    ) -> CellTypeNet:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        network = CellTypeNet(len(self.types)).to(self._device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
        # Rare types come as often as common ones.
        share = 1 / np.bincount(labels)[labels]
        for step in range(STEPS):
            part = rng.choice(len(labels), BATCH, p=share / share.sum())
            batch = varied(to_colour(torch.from_numpy(images[part])), rng).to(self._device)
            loss = functional.cross_entropy(
                network(batch),
                torch.from_numpy(labels[part]).to(self._device),
                label_smoothing=0.05,
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            on_share((step + 1) / STEPS)
        return network.eval()

    def read(self, images: Images) -> NDArray[np.int64]:
        """Index of the type of each stained or predicted crop (n, 3, y, x)."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), 128):
                colour = to_colour(torch.from_numpy(images[start : start + 128]).to(self._device))
                parts.append(self.network(colour).argmax(dim=1).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def compare(
        self, names: NDArray[np.str_], predictions: Images, targets: Images
    ) -> TypeAgreement:
        """Readings of predictions beside those of stained images, of cells whose type is known."""
        known = np.isin(names, self.types)
        return TypeAgreement(
            self.types,
            self._numbered(names[known]),
            self.read(targets[known]),
            self.read(predictions[known]),
        )


def learnable_types(
    data: Dataset, numbers: NDArray[np.int64], instead: str = ""
) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Types with enough cells among samples, and which of the samples have such a type.

    Raises
    ------
    UserError
        If there are fewer than two; `instead` ends the remedy.
    """
    names = types_of(data, numbers)
    found, counts = np.unique(names[names != ""], return_counts=True)
    types = tuple(str(name) for name in found[counts >= FEWEST_OF_A_TYPE])
    if len(types) < 2:
        raise UserError(
            f"a classifier needs 2 types of cells with at least {FEWEST_OF_A_TYPE} training cells "
            f"each, the data set has {len(types)}.",
            file=data.path,
            field="type",
            hint=f"Label cells: plsctl dataset label DATA.zarr FILE.csv{instead}.",
        )
    return types, np.asarray(np.isin(names, types))


def types_of(data: Dataset, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.str_]:
    """The cell types of samples in the data set's table; empty where there is none."""
    rows = data.table.set_index("sample").loc[list(numbers)]
    if "type" not in rows.columns:
        return np.full(len(rows), "")
    return np.asarray(rows["type"].fillna("").astype(str).to_numpy(), dtype=np.str_)


def varied(colour: Tensor, rng: np.random.Generator) -> Tensor:
    """Stained crops (B, 3, H, W) mirrored, turned and a little brighter or darker, at random."""
    if rng.random() < 0.5:
        colour = colour.flip(3)
    colour = torch.rot90(colour, int(rng.integers(4)), dims=(2, 3))
    change = 1 + LIGHT * rng.uniform(-1, 1, (len(colour), 3, 1, 1))
    return (colour + 1) * torch.from_numpy(change).to(colour.dtype) - 1
