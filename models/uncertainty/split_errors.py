"""A run's predictions on the samples of a split, and their error at every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray, Images
from plsctl.models.data.seen_samples import require_unseen
from plsctl.models.metrics.intervals import Groups, groups_of
from plsctl.models.prediction.inputs import as_trained, read_stacks
from plsctl.models.prediction.predictor import Predictor
from plsctl.process.dataset.reader import Dataset

BLOCK = 64
"""Samples read and predicted at once."""


@dataclass(frozen=True)
class SplitErrors:
    """Samples of a split: `stacks` (n, image, 3, y, x), `prediction` and `target` (n, 3, y, x).

    `error` is that of each pixel, (n, y, x); `positions` says where on a slide each sample lies,
    `groups` is what `plsctl.models.metrics.intervals.groups_of` makes of it.
    """

    stacks: Images
    prediction: Images
    target: Images
    error: FloatArray
    positions: NDArray[np.str_]
    groups: Groups = ()


def read_errors(predictor: Predictor, data: Dataset, split: str) -> SplitErrors:
    """Predict a split; stacks are those of the crops, without their margin.

    Raises
    ------
    UserError
        If the data set lacks the split, the target or images of the run's recipe, or the run has
        learned from samples of the split.
    """
    metadata, target_name = predictor.run.metadata, predictor.run.metadata.target
    numbers = data.split(split, target_name)
    require_unseen(predictor.run, data, split, numbers)
    stacks, predictions = [], []
    for start in range(0, len(numbers), BLOCK):
        part = numbers[start : start + BLOCK]
        stacks.append(as_trained(metadata, data, read_stacks(metadata, data, part, 0)))
        predictions.append(predictor.predict_samples(data, part)[0])
    target = data.read_target(target_name, numbers).astype(np.uint8)
    prediction = np.concatenate(predictions)
    rows = data.table.set_index("sample").loc[numbers]
    places = [
        f"{slide} {position}"
        for slide, position in zip(rows["slide"], rows["position"], strict=True)
    ]
    return SplitErrors(
        np.concatenate(stacks),
        prediction,
        target,
        absolute_error(prediction, target),
        np.array(places),
        groups_of(rows),
    )


def absolute_error(prediction: Images, target: Images) -> FloatArray:
    """Mean over the colours of the absolute difference (n, 3, y, x), as a share of full scale."""
    difference = np.abs(prediction.astype(np.int16) - target.astype(np.int16))
    return np.asarray(difference.mean(axis=1) / 255, dtype=np.float32)
