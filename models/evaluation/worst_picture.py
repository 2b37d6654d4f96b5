"""The worst predictions as one picture, to be looked through as papers/002 section 4.2.3 did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from plsctl.models.figures.crop_axes import bar_text, draw_bar
from plsctl.models.prediction.predictor import Predictor
from plsctl.process.dataset.reader import Dataset

COLUMNS = 5
"""Samples beside each other, each of them three crops wide."""

INCHES = 0.8
"""Side of a crop."""


def draw_worst(file: Path, predictor: Predictor, data: Dataset, worst: pd.DataFrame) -> None:
    """Draw each of the worst samples as bright field, prediction and stained image.

    Parameters
    ----------
    worst
        What `worst_samples` chose, worst first: `sample`, `error` and `category` are used.
    """
    numbers = worst["sample"].to_numpy(np.int64)
    prediction, bright = predictor.predict_samples(data, numbers)
    target = data.read_target(predictor.run.facts.target, numbers).astype(np.uint8)
    joined = np.concatenate([bright, prediction, target], axis=3)
    columns = min(COLUMNS, len(numbers))
    rows = -(-len(numbers) // columns)
    size = (3 * INCHES * columns + 0.2, (INCHES + 0.2) * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, crops, row in zip(axes, joined, worst.itertuples(), strict=False):
        axis.imshow(np.moveaxis(crops, 0, -1))
        axis.set_title(f"#{row.sample}: {row.error:.3f}, {row.category}", fontsize=7)
        for place in range(3):
            draw_bar(axis, data.crop_px, data.pixel_um, left_px=place * data.crop_px)
    run = predictor.run
    figure.suptitle(
        f"{run.path.name} ({run.facts.model}, target {run.facts.target}), worst first: bright "
        "field, prediction, stained; sample: mean absolute error, category; "
        f"{bar_text(data.crop_px, data.pixel_um)}",
        fontsize=8,
    )
    figure.savefig(file, dpi=110)
