"""Runs that learn optics, what came of them, and sweeps of several.

A run folder holds, beside what every training writes (`task_run`):

result.json            accuracy with its interval, balanced accuracy, confusion matrix
filter.npz             the learned layer as a fixed filter
blur.png, layer.png    the learned blur; images before, in and behind the layer
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from plsctl.acquire.files.locations import location
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.compute.device import choose_device
from plsctl.models.compute.placement import Compute
from plsctl.models.compute.processes import ALONE, Processes
from plsctl.models.learned_optics.labelled_images import LabelledData, open_images
from plsctl.models.learned_optics.pictures import draw_blur, draw_layer
from plsctl.models.learned_optics.readers import OpticsNet
from plsctl.models.learned_optics.settings import OpticsRun
from plsctl.models.learned_optics.task import OpticsTask, middle
from plsctl.models.metrics.intervals import measured_share
from plsctl.models.runs.tensors import load_weights, read_tensors
from plsctl.models.training.checkpoint import Row, StepReport, TrainingResult
from plsctl.models.training.task_run import train_task

COLUMNS = (
    "pooling", "optics", "network", "pixels", "epochs", "best_epoch", "validation_images",
    "accuracy", "low", "high", "balanced_accuracy",
)  # fmt: skip
"""Of sweep.csv; low and high are the ends of the 95 % interval of the accuracy."""


@dataclass(frozen=True)
class OpticsResult:
    """A finished run, and how it reads the validation images.

    Parameters
    ----------
    scores
        As in result.json.
    drawn
        Whether the validation images were drawn at random from a folder.
    """

    config: OpticsRun
    training: TrainingResult
    scores: dict[str, Any]
    drawn: bool

    def row(self) -> dict[str, Any]:
        """Its row of sweep.csv."""
        accuracy = self.scores["accuracy"]
        low, high = accuracy["ci95"]
        side = self.scores["side_px"]
        return {
            "pooling": self.config.pooling,
            "optics": self.config.optics,
            "network": self.config.network,
            "pixels": side**2,
            "epochs": self.training.epochs,
            "best_epoch": self.training.best_epoch,
            "validation_images": self.scores["images"],
            "accuracy": accuracy["mean"],
            "low": low,
            "high": high,
            "balanced_accuracy": self.scores["balanced_accuracy"],
        }


def train_optics(
    config: OpticsRun,
    *,
    fresh: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> OpticsResult | None:
    """Train one run, or go on with it if it was stopped, and say how it reads.

    Of several processes the first one reads and writes; the others have no result.

    Raises
    ------
    UserError
        As `open_images` and `train_task`.
    """
    opened: list[tuple[LabelledData, bool]] = []

    def open_task(compute: Compute, processes: Processes) -> OpticsTask:
        data = open_images(config)
        opened.append((data, processes.first))
        return OpticsTask(config, compute, data)

    trained = train_task(config, open_task, fresh=fresh, on_epoch=on_epoch, on_step=on_step)
    ((data, is_first),) = opened
    if not is_first:
        return None
    folder = location(config.out)
    network = OpticsNet(config, len(data.types))
    tensors, _ = read_tensors(folder / "best.safetensors")
    load_weights(network, tensors, folder / "best.safetensors")
    scores = evaluate_optics(network, config, data)
    write_whole(folder / "result.json", json.dumps(scores, indent=1))
    network.cpu().optics.folded().save(folder / "filter.npz")
    draw_blur(folder / "blur.png", network.optics)
    draw_layer(folder / "layer.png", network.optics, *_examples(data))
    return OpticsResult(config, trained, scores, data.drawn)


def train_sweep(
    config: OpticsRun,
    *,
    fresh: bool = False,
    on_run: Callable[[OpticsRun], None] = lambda run: None,
    on_epoch: Callable[[Row], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> tuple[OpticsResult, ...]:
    """Train every run of a sweep; `out` then holds their folders, and sweep.csv of those done.

    Of several processes the first one has the results.

    Raises
    ------
    UserError
        As `train_optics`.
    """
    results: list[OpticsResult] = []
    for run in config.runs():
        on_run(run)
        result = train_optics(run, fresh=fresh, on_epoch=on_epoch, on_step=on_step)
        if result is None:
            continue
        results.append(result)
        if config.sweep:
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(each.row() for each in results)
            write_whole(location(config.out) / "sweep.csv", text.getvalue())
    return tuple(results)


def evaluate_optics(network: OpticsNet, config: OpticsRun, data: LabelledData) -> dict[str, Any]:
    """How a network reads the validation images.

    `confusion[i][j]` counts images of type i that are read as type j. The interval is that of
    independent images: those of one slide are not, so that across slides it is wider.
    """
    compute = Compute(choose_device(config.device))
    compute.place(network).eval()
    task = OpticsTask(config, compute, data)
    read, labels = [], []
    with torch.inference_mode():
        for batch in task.validation_batches(ALONE):
            read.append(network(batch.images).argmax(dim=1).cpu().numpy())
            labels.append(batch.labels.cpu().numpy())
    return scores_of(np.concatenate(labels), np.concatenate(read), data.types) | {
        "side_px": data.crop_px // config.pooling,
        "channel_weights": network.optics.channel_weights().detach().cpu().tolist(),
    }


def scores_of(
    labels: NDArray[np.int64], read: NDArray[np.int64], types: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy, balanced accuracy over the types that there are, and the confusion matrix."""
    confusion = np.zeros((len(types), len(types)), dtype=np.int64)
    np.add.at(confusion, (labels, read), 1)
    counts = confusion.sum(axis=1)
    recall = np.diag(confusion)[counts > 0] / counts[counts > 0]
    right = (labels == read).astype(np.int64)
    return {
        "types": list(types),
        "images": len(labels),
        "accuracy": measured_share(right, np.ones_like(right)),
        "balanced_accuracy": float(recall.mean()),
        "confusion": confusion.tolist(),
    }


def _examples(data: LabelledData) -> tuple[list[str], torch.Tensor]:
    """The types that have validation images, and the first one of each."""
    kinds, first = np.unique(data.validation.labels, return_index=True)
    images = middle(torch.from_numpy(data.validation.read(first)), data.crop_px)
    return [data.types[kind] for kind in kinds], images
