"""How much each set of LED images helps: the same model trained on several recipes.

papers/002 section 3.3.4 and table 4.1, on the user's own data. Every recipe gets the same budget
and its own run folder; what is finished is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.evaluation.evaluate import evaluate
from plsctl.models.evaluation.paper_tables import BASE, Arm
from plsctl.models.evaluation.scores import read_scores
from plsctl.models.metrics.intervals import bootstrap_interval
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.registry import model_spec
from plsctl.models.runs.run import Run
from plsctl.models.staining.preparation import check_crops
from plsctl.models.staining.task import SSIM
from plsctl.models.staining.train import train
from plsctl.process.dataset.reader import Dataset

MEASURES = ("ssim", "ssim_shifted", "mae", "nucleus_dice")

Measure = dict[str, object]
Row = dict[str, object]


@dataclass(frozen=True)
class AblationResult:
    """Rows of the table, in the order of the recipes, and where they are written."""

    out: Path
    target: str
    split: str
    rows: list[Row]

    def as_dict(self) -> dict[str, object]:
        """The fields that `plsctl ablate --json` prints."""
        return {
            "out": str(self.out),
            "target": self.target,
            "split": self.split,
            "rows": self.rows,
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
        Folder of the run folders, `NAME-SEED`, and of `ablation.csv` and `ablation.json`.
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
    for arm in arms:
        runs = []
        for seed in range(seeds):
            asked: dict[str, object] = {**options, **arm.options, "recipe": arm.recipe}
            asked |= {"data": data.path, "out": out / f"{arm.name}-{seed}", "seed": seed}
            if arm.starts_from is not None:
                asked["from_run"] = out / f"{arm.starts_from}-{seed}"
            runs.append(_finished_run(arm.model, asked, data, split, fresh, on_share))
        tables = [pd.read_csv(run.path / f"samples_{split}.csv") for run in runs]
        scores[arm.name] = _mean_over_runs(tables)
        means[arm.name] = np.array([table["ssim"].mean() for table in tables])
        rows.append(_row(arm, runs, tables, scores[arm.name], means[arm.name]))
    _compare(rows, scores, means, base)
    result = AblationResult(out, target, split, rows)
    write_whole(out / "ablation.json", json.dumps(result.as_dict(), indent=1))
    write_whole(out / "ablation.csv", _flat(rows).to_csv(index=False))
    return result


def _finished_run(
    model: str,
    options: Mapping[str, object],
    data: Dataset,
    split: str,
    fresh: bool,
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
        predictor = Predictor(run, device=config.device, precision=config.precision)
        evaluate(run, data, split, predictor=predictor)
    return run


def _is_evaluated(run: Run, data: Dataset, split: str) -> bool:
    scores, weights = run.path / f"samples_{split}.csv", run.path / "best.safetensors"
    if not scores.is_file() or scores.stat().st_mtime_ns < weights.stat().st_mtime_ns:
        return False
    last = read_scores(run.path)
    return last is not None and (last["data"], last["split"]) == (str(data.path), split)


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
        "validation_loss": float(np.mean([curve["validation_loss"].min() for curve in curves])),
        SSIM.column: float(np.mean([curve[SSIM.column].max() for curve in curves])),
    }
    row |= {measure: _measure(scores[measure].to_numpy(np.float64)) for measure in MEASURES}
    row["ssim_of_runs"] = _over_runs(means)
    row["ssim_of_runs_sd"] = float(means.std(ddof=1)) if len(means) > 1 else None
    for measure in ("nuclei", "nuclei_lost", "nuclei_invented"):
        row[measure] = float(np.mean([table[measure].sum() for table in tables]))
    return row


def _measure(values: NDArray[np.float64]) -> Measure | None:
    measured = values[np.isfinite(values)]
    if not len(measured):
        return None
    return {"mean": float(measured.mean()), "ci95": list(bootstrap_interval(measured))}


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
) -> None:
    """Add the differences in SSIM to the row that is compared with, where it is there.

    Sample by sample, each averaged over the runs; and run by run, those of equal seed.
    """
    for row in rows:
        name = str(row["name"])
        row["ssim_less_base"] = row["ssim_of_runs_less_base"] = None
        if base is not None and base in scores and name != base:
            differences = scores[name]["ssim"] - scores[base]["ssim"]
            row["ssim_less_base"] = _measure(differences.to_numpy(np.float64))
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
