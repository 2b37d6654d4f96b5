"""The frozen network of a run's perceptual loss: made once, kept in the run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plsctl.acquire.errors import UserError
from plsctl.models.classification.cell_types import CellTypeReader
from plsctl.models.classification.labelled_cells import learnable_types
from plsctl.models.compute.device import choose_device
from plsctl.models.data.batches import some_of, spread, to_colour
from plsctl.models.networks.features import ClassifierFeatures, StainFeatures, VggFeatures
from plsctl.models.runs.config import BUILT_IN_PERCEPTUAL, TrainingConfig
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import file_digest, read_tensors, write_tensors
from plsctl.process.dataset.reader import Dataset

Features = StainFeatures | ClassifierFeatures | VggFeatures

FILE = "perceptual.safetensors"

FEATURE_TARGETS = 256
"""At most so many training targets make the filters, or scale a classifier's maps."""


def check_features(config: TrainingConfig, data: Dataset) -> None:
    """Find out before anything is written whether there can be such a network.

    Raises
    ------
    UserError
        If the file does not hold VGG19, or the data set has too few cells of known types.
    """
    if not config.losses.perceptual:
        return
    if config.perceptual == "classifier":
        learnable_types(data, _numbers(config, data), ", or use --perceptual targets")
    elif config.perceptual not in BUILT_IN_PERCEPTUAL:
        VggFeatures.load(Path(config.perceptual))


def make_features(config: TrainingConfig, data: Dataset) -> dict[str, str] | None:
    """Make the network, write it into the run folder, and describe it; None for losses without.

    A file of VGG19 weights stays where it is. A run that is continued compares with the very same
    network: what was made is read again.
    """
    if not config.losses.perceptual:
        return None
    if config.perceptual not in BUILT_IN_PERCEPTUAL:
        file = Path(config.perceptual)
        return {
            "network": "VGG19 block4_conv4 before activation",
            "file": str(file),
            "sha256": file_digest(file),
        }
    numbers = _numbers(config, data)
    targets = some_targets(data, config.target, numbers)
    features: StainFeatures | ClassifierFeatures
    if config.perceptual == "targets":
        with torch.no_grad():
            features = StainFeatures.from_targets(targets)
        metadata = {"network": "principal components of the stained training targets"}
    else:
        reader = CellTypeReader(
            data,
            config.target,
            device=choose_device(config.device),
            seed=config.seed,
            numbers=numbers,
        )
        features = ClassifierFeatures.from_classifier(reader.network, targets)
        metadata = {
            "network": "classifier of the stained training cells",
            "types": ", ".join(reader.types),
            "cells": str(reader.cells),
        }
    file = config.out / FILE
    write_tensors(file, features.state_dict(), {})
    return {**metadata, "sha256": file_digest(file)}


def run_features(run: Run) -> Features | None:
    """The network of a run's perceptual loss, or None where the loss has none."""
    config = run.config
    if not config.losses.perceptual:
        return None
    if config.perceptual not in BUILT_IN_PERCEPTUAL:
        return VggFeatures.load(Path(config.perceptual))
    made = StainFeatures() if config.perceptual == "targets" else ClassifierFeatures()
    made.load_state_dict(read_tensors(run.path / FILE)[0])
    return made.eval()


def require_same_features(run: Run) -> None:
    """Raise UserError where a run's loss would go on with another network than it began with.

    Raises
    ------
    UserError
        If the file of weights is missing, or has another SHA-256 than the run has noted.
    """
    noted = run.metadata.perceptual
    if noted is None or "sha256" not in noted:
        return
    made = run.config.perceptual in BUILT_IN_PERCEPTUAL
    file = run.path / FILE if made else Path(run.config.perceptual)
    hint = "Take it from a copy, or begin the run anew with --fresh."
    if not file.is_file():
        raise UserError(
            "the network of the run's perceptual loss is missing.",
            file=file,
            field="perceptual",
            hint=hint,
        )
    found = file_digest(file)
    if found != noted["sha256"]:
        raise UserError(
            f"the run {run.path} was begun with another network of the perceptual loss: SHA-256 "
            f"{noted['sha256'][:12]}..., that of this file is {found[:12]}....",
            file=file,
            field="perceptual",
            hint=hint,
        )


def _numbers(config: TrainingConfig, data: Dataset) -> NDArray[np.int64]:
    return some_of(data.split("train", config.target), config.train_share)


def some_targets(data: Dataset, target: str, numbers: NDArray[np.int64]) -> Tensor:
    """Stained training images (n, 3, y, x), colours in [-1, 1], spread over the split."""
    chosen = spread(numbers, FEATURE_TARGETS)
    return to_colour(torch.from_numpy(data.read_target(target, chosen).astype(np.uint8)))
