"""A run folder that an earlier version wrote is continued, evaluated and used.

`run_of_before` holds a data set, a run after its first epoch, and what the version that wrote them
went on to (`after.json`). That version did not record how it computed.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plsctl.models.evaluation.evaluate import evaluate
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.config import config_from_file
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train
from plsctl.process.dataset.reader import Dataset

KEPT = Path(__file__).parent / "run_of_before"


def test_a_run_of_an_earlier_version_goes_on_as_it_would_have_there(tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT, tmp_path / "kept")
    after: Any = json.loads((folder / "after.json").read_text())
    options = {"data": folder / "data.zarr", "out": folder / "run", "epochs": 2}
    assert Run.open(folder / "run").metadata.compute is None
    result = train(config_from_file(folder / "run" / "config.yaml", options))
    assert (result.epochs, result.stopped) == (2, "epochs")
    with (folder / "run" / "curve.csv").open() as file:
        row = {name: float(value) for name, value in list(csv.DictReader(file))[1].items()}
    assert list(row) == [*after["epoch_2"], "seconds"]
    assert {name: row[name] for name in after["epoch_2"]} == pytest.approx(
        after["epoch_2"], rel=1e-4
    )
    run = Run.open(folder / "run")
    found: Any = evaluate(run, split="test")
    for name, value in after["metrics"].items():
        assert found["metrics"][name]["mean"] == pytest.approx(value, abs=2e-3)
    data = Dataset.open(folder / "data.zarr")
    predictor = Predictor(run, device="cpu", precision="float32")
    colours = predictor.predict_samples(data, data.split("test"))[0]
    means = np.array(after["predicted_means"])
    np.testing.assert_allclose(colours.mean(axis=(2, 3)), means, atol=0.5)
