"""Evaluation of a run on unseen data, compared with baselines that need no training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from plsctl.models.classification.cell_types import CellTypeReader
from plsctl.models.classification.labelled_cells import types_of
from plsctl.models.data.batches import spread
from plsctl.models.data.seen_samples import require_unseen
from plsctl.models.evaluation.gallery import draw_gallery
from plsctl.models.evaluation.judged_losses import JudgedLosses
from plsctl.models.evaluation.scores import ScoreFiles
from plsctl.models.evaluation.verdict import compare_with_baselines
from plsctl.models.evaluation.worst import (
    count_categories,
    draw_worst,
    keep_corrections,
    worst_samples,
    write_worst,
)
from plsctl.models.metrics.dark_rims import dark_rims_left
from plsctl.models.metrics.intervals import EVERYWHERE, Groups, groups_of, measured_mean
from plsctl.models.metrics.nuclei import NucleusFinder, NucleusScores, join_scores
from plsctl.models.metrics.similarity import METRICS
from plsctl.models.prediction.inputs import as_trained, read_stacks
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
Summary = dict[str, dict[str, object] | None]

LIMITS = {
    "ssim": (-1.0, 1.0), "ssim_grey": (-1.0, 1.0), "ssim_shifted": (-1.0, 1.0), "mae": (0.0, 2.0),
    "loss": (0.0, np.inf), "perceptual": (0.0, np.inf), "fourier": (0.0, np.inf),
}  # fmt: skip
"""Smallest and largest mean that there can be."""

LOSS_COLUMNS = {
    "loss": "loss", "perceptual": "perceptual_loss", "fourier": "fourier_loss",
}  # fmt: skip
"""In the table of samples."""


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
    image of the training targets. Writes what `ScoreFiles` names into the run folder.

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
        `data`, `own_data` (whether it is the run's own), `files` (their names), `split`,
        `samples`, `groups` (how many `positions` and `slides` they are of), `seen` (how many of
        them the run has seen in the training, see `Seen`); `metrics` {name: {mean, ci95}},
        `baselines` {name: the same}, `paired` {baseline: the same, of the differences sample by
        sample}, `losses` {prediction or baseline: the same, see `JudgedLosses`}, `ms_per_sample`
        and `nuclei` {prediction or baseline: agreement of nuclei, see `NucleusScores.summary`};
        with a 100x target `marks_left` {the same: share of dark rims and rings that is left, see
        `plsctl.models.metrics.dark_rims`}; `verdict`, `baseline`, `difference` and
        `verdict_text`: the run beside the best row without a network, see
        `plsctl.models.evaluation.verdict`, with `true`, `lost` and `invented` among the `nuclei`;
        with `types` also `cell_types` {prediction, `unstained` or `mean_target`: see
        `TypeAgreement.summary`}; `worst` {category: how many of the 100 worst samples, by the
        run's own loss}.

    Raises
    ------
    UserError
        If the data set lacks the split, the target or images of the run's recipe, or the run has
        learned from samples of the split.
    """
    data = data or open_data(run.path, run.config)
    predictor = predictor or Predictor(run, precision="float32")
    target_name = run.metadata.target
    numbers = data.split(split, target_name)
    seen = require_unseen(run, data, split, numbers)
    constants = mean_targets(data, target_name)
    finder, losses = nucleus_finder(data, target_name), JudgedLosses(run, data)
    measured: dict[str, _Row] = {}
    for start in range(0, len(numbers), BLOCK):
        part = numbers[start : start + BLOCK]
        target = data.read_target(target_name, part).astype(np.uint8)
        candidates = _candidates(predictor, data, part, constants)
        for name, images in candidates.items():
            row = measured.setdefault(name, _Row())
            row.scores.append({m: f(images, target) for m, f in METRICS.items()})
            row.losses.append(losses(images, target))
            row.nuclei.append(finder.compare(images, target))
            if target_name == RIMLESS_TARGET:
                row.rims.append(dark_rims_left(images, candidates["unstained"], target))
            if types is not None and name != "mean_colour":
                row.images.append(images)
        if on_samples is not None:
            on_samples(len(part))
    rows = data.table.set_index("sample").loc[numbers].reset_index()
    groups = groups_of(rows)
    joined = {name: _joined(row.scores) for name, row in measured.items()}
    lost = {name: _joined(row.losses) for name, row in measured.items()}
    counted = {name: join_scores(row.nuclei) for name, row in measured.items()}
    found = joined.pop("prediction")
    verdict = compare_with_baselines(
        found["ssim"],
        {name: values["ssim"] for name, values in joined.items()},
        counted["prediction"].counts(),
        groups,
    )
    files = ScoreFiles.of(run, data, split, numbers)
    result: dict[str, object] = {
        "data": str(data.path),
        "own_data": files.own,
        "files": files.names(),
        "split": split,
        "samples": len(numbers),
        "groups": _count_groups(rows),
        "seen": seen.as_dict(),
        "weights_sha256": predictor.weights_sha256,
        "metrics": _summary(found, groups),
        "baselines": {name: _summary(values, groups) for name, values in joined.items()},
        "paired": {
            name: _summary({m: found[m] - values[m] for m in METRICS}, groups, {})
            for name, values in joined.items()
        },
        "losses": {"perceptual_network": losses.network}
        | {name: _summary(values, groups) for name, values in lost.items()},
        "ms_per_sample": _time_of_prediction(predictor, data, numbers),
        "nuclei": vars(verdict.nuclei)
        | {name: values.summary(groups) for name, values in counted.items()},
        **verdict.as_dict(),
    }
    columns = {**found, **counted["prediction"].columns()}
    columns |= {LOSS_COLUMNS[name]: values for name, values in lost["prediction"].items()}
    if target_name == RIMLESS_TARGET:
        left = {name: np.concatenate(row.rims) for name, row in measured.items()}
        result["marks_left"] = {
            name: _measured_rims(values, groups) for name, values in left.items()
        }
        columns["marks_left"] = left["prediction"]
    if types is not None:
        names = types_of(data, numbers)
        targets = data.read_target(target_name, numbers).astype(np.uint8)
        result["cell_types"] = {
            name: types.compare(names, np.concatenate(row.images), targets, groups).summary()
            for name, row in measured.items()
            if row.images
        }
    worst = keep_corrections(worst_samples(rows, lost["prediction"]["loss"]), files.worst)
    write_worst(files.worst, worst)
    draw_worst(files.worst.with_suffix(".png"), predictor, data, worst)
    result["worst"] = count_categories(worst)
    rows.assign(**columns).to_csv(files.samples, index=False)
    files.write(result)
    by_loss = -lost["prediction"]["loss"]
    draw_gallery(files.gallery, predictor, data, numbers, found["ssim_grey"], "SSIM of luminance")
    draw_gallery(files.gallery_by_loss, predictor, data, numbers, by_loss, "loss")
    return result


@dataclass
class _Row:
    """What was measured of the prediction, or of an image without a network, block by block."""

    scores: list[Scores] = field(default_factory=list)
    losses: list[Scores] = field(default_factory=list)
    nuclei: list[NucleusScores] = field(default_factory=list)
    rims: list[NDArray[np.float64]] = field(default_factory=list)
    images: list[Images] = field(default_factory=list)


def _joined(blocks: Sequence[Scores]) -> Scores:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _measured_rims(values: NDArray[np.float64], groups: Groups) -> dict[str, object] | None:
    found = measured_mean(values, groups, (0.0, np.inf))
    return found and {"samples": int(np.isfinite(values).sum())} | found


def _count_groups(rows: pd.DataFrame) -> dict[str, int]:
    """Independent groups of the samples: cells of one slide are alike."""
    names = ("positions", "slides")
    return {
        name: len(np.unique(level)) for name, level in zip(names, groups_of(rows), strict=False)
    }


def _time_of_prediction(
    predictor: Predictor, data: Dataset, numbers: NDArray[np.int64]
) -> dict[str, object]:
    """Time that the network takes for a sample, and where; reading is not counted."""
    run = predictor.run
    stacks = read_stacks(run.metadata, data, numbers[: predictor.batch], run.metadata.margin_px)
    stacks = as_trained(run.metadata, data, stacks)
    began = time.perf_counter()
    predictor.predict(stacks)
    spent_ms = 1000 * (time.perf_counter() - began)
    return {
        "mean": spent_ms / len(stacks),
        "device": predictor.device.type,
        "precision": str(predictor.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


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


def _summary(
    scores: Scores, groups: Groups, within: Mapping[str, tuple[float, float]] = LIMITS
) -> Summary:
    return {
        name: measured_mean(values, groups, within.get(name, EVERYWHERE))
        for name, values in scores.items()
    }
