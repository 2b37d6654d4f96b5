"""Calibration of predicted errors, on unseen samples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.figures.crop_axes import bar_text, draw_bar
from plsctl.models.metrics.intervals import SHARE, Groups, measured_mean
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.folder import is_own, score_tag
from plsctl.models.runs.run import Run
from plsctl.models.uncertainty.error_model import ErrorModel
from plsctl.models.uncertainty.split_errors import SplitErrors, read_errors
from plsctl.process.dataset.reader import Dataset

BINS = 10
RANKED_PIXELS = 200_000
SHOWN = 8


@dataclass(frozen=True)
class _Measured:
    """Predicted and measured errors, (n, y, x), as shares of full scale."""

    predicted: FloatArray
    error: FloatArray


def measure_calibration(
    run: Run, data: Dataset | None = None, split: str = "test", *, device: str = "auto"
) -> dict[str, object]:
    """How true the predicted errors are on a split.

    Writes `uncertainty_SPLIT.json` (what is returned), `uncertainty_SPLIT.png` (the calibration
    curve) and `uncertainty_maps_SPLIT.png` (maps of some samples) into the run folder; for another
    data set than the run's own its name and a digest of its cells follow SPLIT (`tag`).

    Returns
    -------
    dict
        Errors are shares of full scale. `data`, `own_data` (whether it is the run's), `tag`,
        `split`, `samples`, `mean_error`, `curve` (one entry for
        each tenth of the pixels, from the most certain: `predicted` and `measured` error),
        `calibration_error` (mean distance of the two), `calibration_error_share` (of the mean
        error), `coverage` {share of the pixels: how large it really is, of errors below the limit
        of that share, `mean` and `ci95` over samples, positions
        and slides}, `worst_tenth_share` (share of all error in
        the tenth of the pixels that is said to be worst; 0.1 for a map that says nothing),
        `best_tenth_share` (the same for the pixels that are worst: no map can say more),
        `pixel_correlation` and `sample_correlation` (by rank, of predicted and measured error, of
        pixels and of samples' means).

    Raises
    ------
    UserError
        If the run has no uncertainty, or the data set lacks the split.
    """
    data = data or Dataset.open(run.config.data)
    model = ErrorModel(run, device)
    found = read_errors(Predictor(run, device=device, precision="float32"), data, split)
    numbers = data.split(split, run.metadata.target)
    tag = score_tag(run.config, run.metadata, data, split, numbers)
    both = _Measured(model.errors(found.stacks, found.prediction), found.error)
    curve = _curve(both)
    result: dict[str, object] = {
        "data": str(data.path),
        "own_data": is_own(run.config, data),
        "tag": tag,
        "split": split,
        "samples": len(found.stacks),
        "mean_error": float(found.error.mean()),
        "curve": curve,
        **_distances(both, curve),
        "coverage": {
            share: _coverage(both, limit, found.groups)
            for share, limit in model.metadata.limits.items()
        },
        **_ranks(both),
    }
    write_whole(run.path / f"uncertainty_{tag}.json", json.dumps(result, indent=1))
    what = f"{len(found.stacks)} {split} samples"
    draw_curve(run.path / f"uncertainty_{tag}.png", curve, what)
    draw_maps(
        run.path / f"uncertainty_maps_{tag}.png", found, both.predicted, run.metadata.pixel_um
    )
    return result


def _curve(both: _Measured) -> list[dict[str, float]]:
    """Means of the predicted and the measured error over each tenth of the pixels."""
    predicted, error = both.predicted.ravel(), both.error.ravel()
    return [
        {"predicted": float(predicted[group].mean()), "measured": float(error[group].mean())}
        for group in np.array_split(np.argsort(predicted), BINS)
    ]


def _distances(both: _Measured, curve: list[dict[str, float]]) -> dict[str, object]:
    error = both.error.ravel()
    apart = float(np.mean([abs(point["predicted"] - point["measured"]) for point in curve]))
    mean = max(float(error.mean()), 1e-12)
    tenth = len(error) // BINS
    worst = np.partition(error, len(error) - tenth)[len(error) - tenth :]
    return {
        "calibration_error": apart,
        "calibration_error_share": apart / mean,
        "worst_tenth_share": curve[-1]["measured"] / mean / BINS,
        "best_tenth_share": float(worst.mean()) / mean / BINS,
    }


def _coverage(both: _Measured, limit: float, groups: Groups) -> dict[str, object]:
    inside = (both.error <= limit * both.predicted).mean(axis=(1, 2), dtype=np.float64)
    return {"limit": limit} | (measured_mean(inside, groups, SHARE) or {})


def _ranks(both: _Measured) -> dict[str, object]:
    step = max(1, both.error.size // RANKED_PIXELS)
    pixels = both.predicted.ravel()[::step], both.error.ravel()[::step]
    samples = both.predicted.mean(axis=(1, 2)), both.error.mean(axis=(1, 2))
    return {
        "pixel_correlation": _rank_correlation(*pixels),
        "sample_correlation": _rank_correlation(*samples),
    }


def _rank_correlation(first: FloatArray, second: FloatArray) -> float | None:
    """None where one of them is the same everywhere."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def draw_curve(file: Path, curve: list[dict[str, float]], what: str) -> None:
    """Measured error over predicted error, one point for each tenth of the pixels of `what`."""
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axis = figure.subplots()
    predicted = [255 * point["predicted"] for point in curve]
    measured = [255 * point["measured"] for point in curve]
    highest = 1.05 * max(*predicted, *measured)
    axis.plot([0, highest], [0, highest], color="0.7", linewidth=1, label="as predicted")
    axis.plot(predicted, measured, marker="o", label="tenths of the pixels")
    axis.set(
        xlim=(0, highest),
        ylim=(0, highest),
        xlabel="error predicted (grey values of 255)",
        ylabel="error measured (grey values of 255)",
    )
    axis.set_title(f"Calibration on {what}", fontsize=10)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)


def draw_maps(file: Path, found: SplitErrors, predicted: FloatArray, pixel_um: float) -> None:
    """Samples from the smallest to the largest error, with the errors measured and predicted."""
    order = np.argsort(found.error.mean(axis=(1, 2)))
    count = min(SHOWN, len(order))
    chosen = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
    rows: dict[str, NDArray[Any]] = {
        "prediction": found.prediction,
        "stained": found.target,
        "error measured": 255 * found.error,
        "error predicted": 255 * predicted,
    }
    highest = 255 * float(np.percentile(found.error[chosen], 99))
    side_px = found.error.shape[-1]
    figure = Figure(figsize=(1.1 * count + 1.4, 1.15 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    scale = ScalarMappable(Normalize(0, highest), "magma")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, place in zip(line, chosen, strict=True):
            if images.ndim == 4:
                axis.imshow(np.moveaxis(images[place], 0, -1))
            else:
                axis.imshow(images[place], cmap=scale.cmap, norm=scale.norm)
            axis.set(xticks=[], yticks=[])
            draw_bar(axis, side_px, pixel_um)
        line[0].set_ylabel(name, fontsize=8)
    figure.colorbar(scale, ax=axes[2:], label="grey values of 255", shrink=0.9)
    bars = bar_text(side_px, pixel_um)
    figure.suptitle(f"smallest to largest error; {bars}", fontsize=9)
    figure.savefig(file, dpi=110)
