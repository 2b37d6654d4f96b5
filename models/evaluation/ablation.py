"""How much each set of LED images helps: the same model trained on several recipes.

papers/002 section 3.3.4 and table 4.1, on the user's own data. Every recipe gets the same budget
and its own run folder; what is finished is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student_t

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.classification.cell_types import CellTypeReader
from plsctl.models.classification.labelled_cells import learnable_types
from plsctl.models.data.batches import spread
from plsctl.models.evaluation.evaluate import evaluate
from plsctl.models.evaluation.gallery import draw_side_by_side
from plsctl.models.evaluation.paper_tables import BASE, Arm
from plsctl.models.evaluation.scores import read_results
from plsctl.models.metrics.intervals import SHARE, groups_of, measured_mean
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.folder import is_own
from plsctl.models.runs.registry import model_spec
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import file_digest
from plsctl.models.staining.preparation import check_crops
from plsctl.models.staining.task import SSIM
from plsctl.models.staining.train import train
from plsctl.process.dataset.reader import Dataset

LIMITS: dict[str, tuple[float, float]] = {
    "ssim": (-1.0, 1.0),
    "ssim_shifted": (-1.0, 1.0),
    "mae": (0.0, 2.0),
    "perceptual_loss": (0.0, np.inf),
    "fourier_loss": (0.0, np.inf),
    "nucleus_dice": SHARE,
}
"""What is compared, with the smallest and the largest mean that there can be."""

MEASURES = tuple(LIMITS)

SHOWN = 8
"""Samples in the picture of all models."""

Measure = dict[str, object]
Row = dict[str, object]


@dataclass(frozen=True)
class AblationResult:
    """Rows of the table, in the order of the recipes, and where they are written.

    `baselines` are rows without a network: `mean_target` and `unstained`.
    """

    out: Path
    target: str
    split: str
    rows: list[Row]
    baselines: list[Row]

    def as_dict(self) -> dict[str, object]:
        """The fields that `plsctl ablate --json` prints."""
        return {
            "out": str(self.out),
            "target": self.target,
            "split": self.split,
            "rows": self.rows,
            "baselines": self.baselines,
        }


def ablate(
    data: Dataset,
    out: Path,
    arms: Sequence[Arm],
    *,
    base: str | None = BASE,
    seeds: int = 1,
    split: str = "test",
    options: Mapping[str, object],
    fresh: bool = False,
    on_share: Callable[[str, float], None] | None = None,
) -> AblationResult:
    """Train and evaluate models on recipes with one budget; called again, it resumes.

    Parameters
    ----------
    out
        Folder of the run folders, `NAME-SEED`, and of `ablation.csv` and `ablation.json`, and of
        `models_SPLIT.png`: some samples by every row beside each other.
    arms
        The rows; one that starts from another comes after it.
    base
        The row that the others are compared with, sample by sample.
    seeds
        Runs of each row; their scores are averaged sample by sample.
    split
        Samples that are measured.
    options
        Of the training, as for `config_from_options`, without model, data, out, recipe and seed.
    fresh
        Throw old runs away.
    on_share
        Called with the run's name and the share of its training that is done.

    Raises
    ------
    UserError
        If the data set lacks a recipe's images or the target, or a training stops.
    """
    target = str(options.get("target", "20x"))
    data.split(split, target)
    for arm in arms:
        data.channels_for(arm.recipe)
        check_crops(model_spec(arm.model).losses, data)
    rows: list[Row] = []
    scores: dict[str, pd.DataFrame] = {}
    means: dict[str, NDArray[np.float64]] = {}
    found: dict[str, Any] = {}
    shown: dict[str, Run] = {}
    judge = _Judge(data, target)
    for arm in arms:
        runs = []
        for seed in range(seeds):
            asked: dict[str, object] = {**options, **arm.options, "recipe": arm.recipe}
            asked |= {"data": data.path, "out": out / f"{arm.name}-{seed}", "seed": seed}
            if arm.starts_from is not None:
                asked["from_run"] = out / f"{arm.starts_from}-{seed}"
            runs.append(_finished_run(arm.model, asked, data, split, fresh, judge, on_share))
        tables = [pd.read_csv(run.path / f"samples_{split}.csv") for run in runs]
        scores[arm.name] = _mean_over_runs(tables)
        means[arm.name] = np.array([table["ssim"].mean() for table in tables])
        results = [read_results(run.path / f"metrics_{split}.json", "evaluate") for run in runs]
        found = found or (results[0] or {})
        shown[arm.name] = runs[0]
        rows.append(_row(arm, runs, tables, scores[arm.name], means[arm.name]))
        rows[-1] |= _of_results(results)
    _compare(rows, scores, means, base, _groups(data, split, target))
    result = AblationResult(out, target, split, rows, _baselines(found))
    write_whole(out / "ablation.json", json.dumps(result.as_dict(), indent=1))
    write_whole(out / "ablation.csv", _flat([*rows, *result.baselines]).to_csv(index=False))
    numbers = spread(data.split(split, target), SHOWN)
    predictors = {
        name: Predictor(run, device=run.config.device, precision="float32")
        for name, run in shown.items()
    }
    draw_side_by_side(out / f"models_{split}.png", predictors, data, numbers)
    return result


class _Judge:
    """The classifier of cell types that reads all predictions; made when the first is evaluated."""

    def __init__(self, data: Dataset, target: str) -> None:
        self._data, self._target = data, target
        self._reader: CellTypeReader | None = None

    def reader(self, device: torch.device) -> CellTypeReader | None:
        """None where too few types of cells are known."""
        numbers = self._data.split("train", self._target)
        if self._reader is None:
            try:
                learnable_types(self._data, numbers)
            except UserError:
                return None
            self._reader = CellTypeReader(self._data, self._target, device=device)
        return self._reader


def _groups(data: Dataset, split: str, target: str) -> pd.DataFrame:
    """Slide and position of the samples, by their number."""
    rows = data.table.set_index("sample").loc[data.split(split, target)]
    return rows[[name for name in ("slide", "position") if name in rows.columns]]


def _of_results(results: Sequence[Mapping[str, Any] | None]) -> Row:
    """What the evaluations of a row's runs tell beyond their samples, on average."""
    known = [result for result in results if result is not None]
    kappas = [_kappa(result, "prediction") for result in known]
    times = [float(result["ms_per_sample"]["mean"]) for result in known]
    return {
        "kappa": float(np.mean(kappas)) if kappas and None not in kappas else None,  # type: ignore[arg-type]
        "ms_per_sample": float(np.mean(times)) if times else None,
    }


def _kappa(result: Mapping[str, Any], row: str) -> float | None:
    found = result.get("cell_types", {}).get(row)
    return None if found is None else found["kappa"]


def _baselines(result: Mapping[str, Any]) -> list[Row]:
    """Rows of what needs no network, from an evaluation of any of the runs."""
    rows: list[Row] = []
    for name in ("mean_target", "unstained") if result else ():
        scores, nuclei = result["baselines"][name], result["nuclei"][name]
        rows.append(
            {
                "name": name,
                **{measure: scores[measure] for measure in ("ssim", "ssim_shifted", "mae")},
                "perceptual_loss": result["losses"][name]["perceptual"],
                "fourier_loss": result["losses"][name]["fourier"],
                "nucleus_dice": nuclei["dice"],
                "nuclei": nuclei["nuclei"],
                "nuclei_lost": nuclei["lost"],
                "nuclei_invented": nuclei["invented"],
                "kappa": _kappa(result, name),
            }
        )
    return rows


def _finished_run(
    model: str,
    options: Mapping[str, object],
    data: Dataset,
    split: str,
    fresh: bool,
    judge: _Judge,
    on_share: Callable[[str, float], None] | None,
) -> Run:
    config = config_from_options(model, options)

    def report(share: float) -> None:
        if on_share is not None:
            on_share(config.out.name, share)

    train(config, fresh=fresh, on_step=lambda step: report(step.share))
    report(1.0)
    run = Run.open(config.out)
    if not _is_evaluated(run, data, split):
        predictor = Predictor(run, device=config.device, precision="float32")
        types = judge.reader(predictor.device)
        evaluate(run, data, split, predictor=predictor, types=types)
    return run


def _is_evaluated(run: Run, data: Dataset, split: str) -> bool:
    """Whether the split was measured with these weights; training refuses other data before."""
    last = read_results(run.path / f"metrics_{split}.json", "evaluate")
    if (
        last is None
        or not (run.path / f"samples_{split}.csv").is_file()
        or not is_own(run.config, data)
    ):
        return False
    return bool(last.get("weights_sha256") == file_digest(run.path / "best.safetensors"))


def _mean_over_runs(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Each sample's measures, averaged over the runs; samples as the index."""
    joined = pd.concat([table.set_index("sample")[list(MEASURES)] for table in tables])
    return joined.groupby(level=0).mean()


def _row(
    arm: Arm,
    runs: Sequence[Run],
    tables: Sequence[pd.DataFrame],
    scores: pd.DataFrame,
    means: NDArray[np.float64],
) -> Row:
    curves = [pd.read_csv(run.path / "curve.csv") for run in runs]
    row: Row = {
        "name": arm.name,
        "model": arm.model,
        "recipe": arm.recipe,
        "images": len(runs[0].metadata.labels),
        "parameters": runs[0].metadata.parameters,
        "runs": len(runs),
        "epochs": float(np.mean([len(curve) for curve in curves])),
        "seconds": float(np.mean([curve["seconds"].iloc[-1] for curve in curves])),
        "validation_loss": _best(curves, "validation_loss", "min"),
        SSIM.column: _best(curves, SSIM.column, "max"),
    }
    groups = groups_of(tables[0].set_index("sample").loc[scores.index])
    row |= {
        measure: measured_mean(scores[measure].to_numpy(np.float64), groups, limits)
        for measure, limits in LIMITS.items()
    }
    row["ssim_of_runs"] = _over_runs(means)
    row["ssim_of_runs_sd"] = float(means.std(ddof=1)) if len(means) > 1 else None
    for measure in ("nuclei", "nuclei_lost", "nuclei_invented"):
        row[measure] = float(np.mean([table[measure].sum() for table in tables]))
    return row


def _best(curves: Sequence[pd.DataFrame], column: str, which: str) -> float | None:
    """Of the curves, on average; None of runs without a validation split."""
    if not all(column in curve for curve in curves):
        return None
    return float(np.mean([getattr(curve[column], which)() for curve in curves]))


def _over_runs(means: NDArray[np.float64]) -> Measure | None:
    """Mean of the runs with Student's interval: what other seeds would give. None of one run."""
    if len(means) < 2:
        return None
    mean, error = float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))
    half = error * float(student_t.ppf(0.975, len(means) - 1))
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def _compare(
    rows: list[Row],
    scores: Mapping[str, pd.DataFrame],
    means: Mapping[str, NDArray[np.float64]],
    base: str | None,
    groups: pd.DataFrame,
) -> None:
    """Add the differences in SSIM to the row that is compared with, where it is there.

    Sample by sample, each averaged over the runs; and run by run, those of equal seed.
    """
    for row in rows:
        name = str(row["name"])
        row["ssim_less_base"] = row["ssim_of_runs_less_base"] = None
        if base is not None and base in scores and name != base:
            differences = scores[name]["ssim"] - scores[base]["ssim"]
            row["ssim_less_base"] = measured_mean(
                differences.to_numpy(np.float64), groups_of(groups.loc[differences.index])
            )
            by_run: NDArray[np.float64] = np.subtract(means[name], means[base])
            row["ssim_of_runs_less_base"] = _over_runs(by_run)


def _flat(rows: Sequence[Row]) -> pd.DataFrame:
    """Measures as three columns each: mean, low and high end."""
    flat = []
    for row in rows:
        plain: Row = {}
        for name, value in row.items():
            if isinstance(value, dict):
                low, high = value["ci95"]
                plain |= {name: value["mean"], f"{name}_low": low, f"{name}_high": high}
            else:
                plain[name] = value
        flat.append(plain)
    return pd.DataFrame(flat)
