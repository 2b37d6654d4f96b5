"""Pictures of samples: the best and the worst of a run, and several runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plsctl.models.figures.crop_axes import bar_text, draw_bar
from plsctl.models.prediction.predictor import Predictor
from plsctl.process.dataset.reader import Dataset

SHOWN = 8


def draw_gallery(
    file: Path,
    predictor: Predictor,
    data: Dataset,
    numbers: NDArray[np.int64],
    values: NDArray[np.float64],
    what: str = "SSIM",
    count: int = SHOWN,
) -> None:
    """Best (left) and worst (right) samples: bright field, prediction, stained target.

    Parameters
    ----------
    values
        By which they are sorted, the best first at the highest, (n,): `what`, in words.
    """
    order = np.argsort(-values)
    half = min(count, -(-len(order) // 2))
    chosen = np.concatenate([order[:half], order[half:][-half:]])
    prediction, bright = predictor.predict_samples(data, numbers[chosen])
    target = data.read_target(predictor.run.metadata.target, numbers[chosen])
    run = predictor.run
    _draw(
        file,
        data,
        {"bright field": bright, "prediction": prediction, "stained": target},
        [f"#{numbers[place]}: {abs(values[place]):.3f}" for place in chosen],
        f"{run.path.name} ({run.metadata.model}, target {run.metadata.target}): "
        f"best to worst by {what}",
    )


def draw_side_by_side(
    file: Path, predictors: Mapping[str, Predictor], data: Dataset, numbers: NDArray[np.int64]
) -> None:
    """The same samples by several runs: bright field, each run's prediction, stained target.

    papers/002 figures 4.1 to 4.4 and 4.11 to 4.13.

    Parameters
    ----------
    predictors
        By the names that stand beside their rows; at least one, all of one target.
    """
    bright = np.empty(0)
    rows: dict[str, NDArray[np.generic]] = {"bright field": bright}
    for name, predictor in predictors.items():
        rows[name], rows["bright field"] = predictor.predict_samples(data, numbers)
    target = next(iter(predictors.values())).metadata.target
    rows["stained"] = data.read_target(target, numbers)
    _draw(file, data, rows, [f"#{number}" for number in numbers], f"target {target}")


def _draw(
    file: Path,
    data: Dataset,
    rows: Mapping[str, NDArray[np.generic]],
    titles: Sequence[str],
    heading: str,
) -> None:
    size = (1.1 * len(titles) + 0.6, 1.1 * len(rows) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (name, crops) in zip(axes, rows.items(), strict=True):
        for axis, crop in zip(line, crops, strict=True):
            axis.imshow(np.moveaxis(crop, 0, -1))
            axis.set(xticks=[], yticks=[])
            draw_bar(axis, data.crop_px, data.pixel_um)
        line[0].set_ylabel(name, fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    figure.suptitle(f"{heading}; {bar_text(data.crop_px, data.pixel_um)}", fontsize=8)
    figure.savefig(file, dpi=110)
