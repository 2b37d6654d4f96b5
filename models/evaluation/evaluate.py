"""Evaluation of a run on unseen data, compared with baselines that need no training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.classification.cell_types import CellTypeReader
from plsctl.models.classification.labelled_cells import types_of
from plsctl.models.data.batches import spread
from plsctl.models.data.seen_samples import require_unseen
from plsctl.models.evaluation.verdict import compare_with_baselines
from plsctl.models.evaluation.worst import (
    count_categories,
    draw_worst,
    keep_corrections,
    worst_samples,
    write_worst,
)
from plsctl.models.figures.crop_axes import bar_text, draw_bar
from plsctl.models.metrics.dark_rims import dark_rims_left
from plsctl.models.metrics.intervals import bootstrap_interval
from plsctl.models.metrics.nuclei import NucleusFinder, NucleusScores, join_scores
from plsctl.models.metrics.similarity import METRICS
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.folder import open_data
from plsctl.models.runs.run import Run
from plsctl.process.dataset.reader import Dataset

BLOCK = 64
"""Samples read and predicted at once."""

JUDGED_TARGETS = 200
"""At most so many training targets give white and the limit of chromatin."""

RIMLESS_TARGET = "100x"
"""Stained images without dark rims, for they are taken under oil; those at 20x have them too."""

Images = NDArray[np.uint8]
Scores = dict[str, NDArray[np.float64]]
Summary = dict[str, dict[str, object]]


def evaluate(
    run: Run,
    data: Dataset | None = None,
    split: str = "test",
    *,
    predictor: Predictor | None = None,
    types: CellTypeReader | None = None,
    on_samples: Callable[[int], None] | None = None,
) -> dict[str, object]:
    """Metrics of a run on a split, and of three baselines that need no network.

    `unstained` is the bright-field image, `mean_colour` the mean colour and `mean_target` the mean
    image of the training targets. Writes `metrics.json`, `samples_SPLIT.csv`,
    `worst_SPLIT.csv` and `worst_SPLIT.png` (papers/002 table 4.3) and `gallery_SPLIT.png` into the
    run folder.

    Parameters
    ----------
    data
        The data set; the run's own by default.
    types
        A classifier of stained cells that is to read the predictions as well.
    on_samples
        Called with the number of samples after each block.

    Returns
    -------
    dict
        `data`, `split`, `samples`, `metrics` {name: {mean, ci95}}, `baselines` {name: the same},
        `paired` {baseline: the same, of the differences sample by sample} and `nuclei` {prediction
        or baseline: agreement of nuclei, see `NucleusScores.summary`}; with a 100x target
        `marks_left` {the same: share of dark rims and rings that is left, see
        `plsctl.models.metrics.dark_rims`}; `verdict`, `baseline`, `difference` and `verdict_text`:
        the run
        beside the best row without a network, see `plsctl.models.evaluation.verdict`, with `true`,
        `lost` and
        `invented` among the `nuclei`; with `types` also `cell_types` {prediction or `unstained`:
        see `TypeAgreement.summary`}; `worst` {category: how many of the 100 worst samples}.

    Raises
    ------
    UserError
        If the data set lacks the split, the target or images of the run's recipe, or the run has
        learned from samples of the split.
    """
    data = data or open_data(run.path, run.config)
    predictor = predictor or Predictor(run)
    numbers = data.split(split, run.metadata.target)
    require_unseen(run, data, split, numbers)
    constants = mean_targets(data, run.metadata.target)
    finder = nucleus_finder(data, run.metadata.target)
    scores: dict[str, list[Scores]] = {}
    nuclei: dict[str, list[NucleusScores]] = {}
    dark_rims: dict[str, list[NDArray[np.float64]]] = {}
    seen: dict[str, list[Images]] = {}
    for start in range(0, len(numbers), BLOCK):
        part = numbers[start : start + BLOCK]
        target = data.read_target(run.metadata.target, part).astype(np.uint8)
        candidates = _candidates(predictor, data, part, constants)
        unstained = candidates["unstained"]
        for name, images in candidates.items():
            scores.setdefault(name, []).append({m: f(images, target) for m, f in METRICS.items()})
            nuclei.setdefault(name, []).append(finder.compare(images, target))
            if run.metadata.target == RIMLESS_TARGET:
                dark_rims.setdefault(name, []).append(dark_rims_left(images, unstained, target))
            if types is not None and name not in constants:
                seen.setdefault(name, []).append(images)
        if on_samples is not None:
            on_samples(len(part))
    joined = {
        name: {m: np.concatenate([block[m] for block in blocks]) for m in METRICS}
        for name, blocks in scores.items()
    }
    counted = {name: join_scores(blocks) for name, blocks in nuclei.items()}
    found = joined.pop("prediction")
    verdict = compare_with_baselines(
        found["ssim"],
        {name: values["ssim"] for name, values in joined.items()},
        counted["prediction"].counts(),
    )
    result: dict[str, object] = {
        "data": str(data.path),
        "split": split,
        "samples": len(numbers),
        "metrics": _summary(found),
        "baselines": {name: _summary(values) for name, values in joined.items()},
        "paired": {
            name: _summary({m: found[m] - values[m] for m in METRICS})
            for name, values in joined.items()
        },
        "nuclei": vars(verdict.nuclei)
        | {name: values.summary() for name, values in counted.items()},
        **verdict.as_dict(),
    }
    columns = {**found, **counted["prediction"].columns()}
    if dark_rims:
        left = {name: np.concatenate(blocks) for name, blocks in dark_rims.items()}
        result["marks_left"] = {name: _mean_of_measured(values) for name, values in left.items()}
        columns["marks_left"] = left["prediction"]
    if types is not None:
        names = types_of(data, numbers)
        targets = data.read_target(run.metadata.target, numbers).astype(np.uint8)
        result["cell_types"] = {
            name: types.compare(names, np.concatenate(blocks), targets).summary()
            for name, blocks in seen.items()
        }
    rows = data.table.set_index("sample").loc[numbers].reset_index()
    worst_list = run.path / f"worst_{split}.csv"
    worst = keep_corrections(worst_samples(rows, found["mae"]), worst_list)
    write_worst(worst_list, worst)
    draw_worst(run.path / f"worst_{split}.png", predictor, data, worst)
    result["worst"] = count_categories(worst)
    _write(run.path, split, data, numbers, columns, result)
    draw_gallery(run.path / f"gallery_{split}.png", predictor, data, numbers, found["ssim"])
    return result


def nucleus_finder(data: Dataset, target: str) -> NucleusFinder:
    """The nucleus finder with limits from the stained targets of the training split."""
    chosen = data.read_target(target, spread(data.split("train", target), JUDGED_TARGETS))
    return NucleusFinder(chosen.astype(np.uint8), data.pixel_um)


def mean_targets(data: Dataset, target: str) -> dict[str, Images]:
    """`mean_colour` and `mean_target` of the training split, each (1, 3, y, x) uint8."""
    numbers = data.split("train", target)
    total = np.zeros((3, data.crop_px, data.crop_px))
    for start in range(0, len(numbers), BLOCK):
        total += data.read_target(target, numbers[start : start + BLOCK]).sum(axis=0)
    image = total[None] / len(numbers)
    colour = np.broadcast_to(image.mean(axis=(2, 3), keepdims=True), image.shape)
    return {
        "mean_colour": np.rint(colour).astype(np.uint8),
        "mean_target": np.rint(image).astype(np.uint8),
    }


def _candidates(
    predictor: Predictor, data: Dataset, numbers: NDArray[np.int64], constants: dict[str, Images]
) -> dict[str, Images]:
    prediction, bright = predictor.predict_samples(data, numbers)
    repeated = {
        name: np.broadcast_to(image, (len(numbers), *image.shape[1:]))
        for name, image in constants.items()
    }
    return {"prediction": prediction, "unstained": bright, **repeated}


def _summary(scores: Scores) -> Summary:
    return {
        name: {"mean": float(values.mean()), "ci95": list(bootstrap_interval(values))}
        for name, values in scores.items()
    }


def _mean_of_measured(values: NDArray[np.float64]) -> dict[str, object] | None:
    measured = values[np.isfinite(values)]
    if not len(measured):
        return None
    return {
        "samples": len(measured),
        "mean": float(measured.mean()),
        "ci95": list(bootstrap_interval(measured)),
    }


def _write(
    folder: Path,
    split: str,
    data: Dataset,
    numbers: NDArray[np.int64],
    columns: Mapping[str, NDArray[np.generic]],
    result: dict[str, object],
) -> None:
    write_whole(folder / "metrics.json", json.dumps(result, indent=1))
    rows = data.table.set_index("sample").loc[numbers].reset_index()
    rows.assign(**columns).to_csv(folder / f"samples_{split}.csv", index=False)


def draw_gallery(
    file: Path,
    predictor: Predictor,
    data: Dataset,
    numbers: NDArray[np.int64],
    similarity: NDArray[np.float64],
    count: int = 8,
) -> None:
    """Best (left) and worst (right) samples by SSIM: bright field, prediction, stained target."""
    order = np.argsort(-similarity)
    half = min(count, -(-len(order) // 2))
    chosen = np.concatenate([order[:half], order[half:][-half:]])
    prediction, bright = predictor.predict_samples(data, numbers[chosen])
    target = data.read_target(predictor.run.metadata.target, numbers[chosen])
    rows = {"bright field": bright, "prediction": prediction, "stained": target}
    figure = Figure(figsize=(1.1 * len(chosen) + 0.6, 3.9), layout="constrained")
    axes = figure.subplots(3, len(chosen), squeeze=False)
    for line, (name, crops) in zip(axes, rows.items(), strict=True):
        for axis, crop in zip(line, crops, strict=True):
            axis.imshow(np.moveaxis(crop, 0, -1))
            axis.set(xticks=[], yticks=[])
            draw_bar(axis, data.crop_px, data.pixel_um)
        line[0].set_ylabel(name, fontsize=8)
    for axis, place in zip(axes[0], chosen, strict=True):
        axis.set_title(f"#{numbers[place]}: {similarity[place]:.3f}", fontsize=7)
    run = predictor.run
    figure.suptitle(
        f"{run.path.name} ({run.metadata.model}, target {run.metadata.target}): "
        "best to worst by SSIM; "
        f"{bar_text(data.crop_px, data.pixel_um)}",
        fontsize=8,
    )
    figure.savefig(file, dpi=110)
