"""Scores are kept for each split and data set, and what is said of them is true of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plsctl.models.evaluation.evaluate import evaluate
from plsctl.models.evaluation.scores import read_scores, seen_text
from plsctl.models.report.scores import run_verdict, score_sections
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import assign_splits

pytestmark = pytest.mark.usefixtures("undrawn")


def _train(data: Path, out: Path, **changes: Any) -> Any:
    options = {
        "data": data, "out": out, "blocks": 1, "growth": 2, "width": 4, "batch": 24, "epochs": 2,
        "device": "cpu", "precision": "float32", "memory_format": "contiguous",
    }  # fmt: skip
    return train(config_from_options("maepnet", options | changes))


def test_scores_of_other_cells_do_not_take_the_place_of_the_test_split(
    dataset: Path, make_dataset: Any, tmp_path: Path
) -> None:
    _train(dataset, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    before: Any = evaluate(run, split="validation")
    assert read_scores(run.path) == before
    tested: Any = evaluate(run, split="test")
    trained: Any = evaluate(run, split="train")
    other = make_dataset(tmp_path / "lab2.zarr", 40, seed=2, slide="S2")
    foreign: Any = evaluate(run, Dataset.open(other), "test")
    assert read_scores(run.path) == tested  # by which the run is judged
    found = {path.name: json.loads(path.read_text()) for path in run.path.glob("metrics_*.json")}
    assert {name: (scores["split"], scores["own_data"]) for name, scores in found.items()} == {
        "metrics_test.json": ("test", True),
        "metrics_train.json": ("train", True),
        "metrics_validation.json": ("validation", True),
        foreign["files"]["metrics"]: ("test", False),
    }
    assert len(pd.read_csv(run.path / foreign["files"]["samples"])) == 4
    said = [seen_text(r["split"], r["samples"], r["seen"]) for r in (tested, before, trained)]
    assert said[0] == "which the network never saw"
    assert "best epoch was chosen" in said[1] and "has learned from" in said[2]
    (run.path / "metrics.json").write_text(json.dumps(trained))
    assert "which the network has learned from" in score_sections(run.path)[0].note
    assert "Not judged" in run_verdict(trained)
    # Of new weights the scores of before are none.
    _train(dataset, tmp_path / "run", epochs=3)
    again: Any = evaluate(Run.open(run.path), split="validation")
    if again["weights_sha256"] != tested["weights_sha256"]:
        assert read_scores(run.path) == again


def test_losses_are_those_of_the_training(dataset: Path, tmp_path: Path) -> None:
    result = _train(dataset, tmp_path / "run")
    found: Any = evaluate(Run.open(tmp_path / "run"), split="validation")
    loss = found["losses"]["prediction"]
    wanted = {name.removeprefix("validation_"): value for name, value in result.metrics.items()}
    # Colours in 8 bits end at white; the weights of the terms are those of table 3.2.
    assert loss["loss"]["mean"] == pytest.approx(wanted["loss"], rel=0.1)
    assert 0.0125 * loss["perceptual"]["mean"] == pytest.approx(wanted["perceptual"], rel=0.1)
    samples = pd.read_csv(tmp_path / "run" / "samples_validation.csv")
    worst = pd.read_csv(tmp_path / "run" / "worst_validation.csv")
    order = samples.sort_values("loss", ascending=False)["sample"]
    assert list(worst["sample"]) == list(order)


@pytest.mark.parametrize(("ratios", "splits"), [((9, 1), "test"), ((9, 1, 0), "validation")])
def test_two_splits_are_enough(
    dataset: Path, tmp_path: Path, ratios: tuple[int, ...], splits: str
) -> None:
    data = Path(shutil.copytree(dataset, tmp_path / "blobs.zarr"))
    table = pd.read_csv(data / "samples.csv")
    table["position"] = [f"A/{number}" for number in range(len(table))]
    table["split"] = assign_splits(table, ratios)
    assert table["split"].value_counts().to_dict() == {"train": 54, splits: 6}
    table.to_csv(data / "samples.csv", index=False)
    result = _train(data, tmp_path / "run")
    judged = "validation" if splits == "validation" else "train"
    curve = pd.read_csv(tmp_path / "run" / "curve.csv")
    assert result.best_epoch == int(curve[f"{judged}_loss"].idxmin()) + 1
    assert set(result.metrics) >= {f"{judged}_loss"}
    assert evaluate(Run.open(tmp_path / "run"), split=splits)["samples"] == 6
