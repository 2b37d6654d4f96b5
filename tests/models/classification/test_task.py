"""The training loop carries another task: a classifier of cells as a run of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import load_settings
from plsctl.models.classification.labelled_cells import labelled_cells, learnable_types
from plsctl.models.classification.task import (
    CellTypeRun,
    CellTypeSettings,
    CellTypeTask,
    train_cell_types,
)
from plsctl.models.compute.placement import Compute
from plsctl.models.data.batches import to_colour
from plsctl.models.networks.classifier import CellTypeNet
from plsctl.models.runs.tensors import read_tensors
from plsctl.models.training.trainer import Trainer
from plsctl.process.dataset.reader import Dataset


@pytest.fixture(scope="module")
def cells(make_dataset: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs that the table calls one type where they are red, another where blue."""
    path = make_dataset(tmp_path_factory.mktemp("data") / "cells.zarr", count=160)
    data = Dataset.open(path)
    targets = data.read_target("20x", np.arange(160))
    inside = targets[:, :, 9:15, 9:15].mean(axis=(2, 3))
    names = np.where(inside[:, 0] < inside[:, 2], "one", "other")
    (path / "samples.csv").write_text(data.table.assign(type=names).to_csv(index=False))
    return path


def _config(data: Path, out: Path, **changes: Any) -> CellTypeRun:
    options: dict[str, Any] = {
        "data": data, "out": out, "batch": 16, "epochs": 5, "average": 0.9, "device": "cpu",
        "precision": "float32",
    }  # fmt: skip
    return CellTypeRun(**options | changes)


def _curve(run: Path) -> list[dict[str, float]]:
    with (run / "curve.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_it_learns_and_a_killed_run_continues_the_same_curve(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train_cell_types(_config(cells, tmp_path / "whole"))
    whole = _curve(tmp_path / "whole")
    assert result.stopped == "epochs" and result.epochs == len(whole) == 5
    assert result.metrics["validation_accuracy"] >= 0.9
    assert result.metrics["validation_accuracy"] == max(row["validation_accuracy"] for row in whole)
    assert whole[-1]["train_loss"] < 0.7 * whole[0]["train_loss"]
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 1000
    # The weights that are kept are those of the best epoch.
    data = Dataset.open(cells)
    numbers = data.split("validation")
    types = json.loads((tmp_path / "whole" / "task.json").read_text())["types"]
    network = CellTypeNet(len(types)).eval()
    network.load_state_dict(read_tensors(tmp_path / "whole" / "best.safetensors")[0])
    images = torch.from_numpy(data.read_target("20x", numbers).astype(np.uint8))
    read = [types[place] for place in network(to_colour(images)).argmax(dim=1)]
    named = data.table.set_index("sample").loc[numbers, "type"]
    assert np.mean(read == named) == pytest.approx(result.metrics["validation_accuracy"])

    step, calls = Trainer._step, []

    def killed(trainer: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 20:  # 8 steps an epoch: in the middle of the third
            raise KeyboardInterrupt
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_cell_types(_config(cells, tmp_path / "pieces"))
    monkeypatch.undo()
    assert len(_curve(tmp_path / "pieces")) == 2
    train_cell_types(_config(cells, tmp_path / "pieces"))
    for one, other in zip(whole, _curve(tmp_path / "pieces"), strict=True):
        for name in one.keys() - {"seconds"}:
            assert other[name] == pytest.approx(one[name], rel=1e-4), name


def test_what_does_not_fit_is_refused(
    cells: Path, make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="2 types of cells"):
        train_cell_types(_config(make_dataset(tmp_path / "bare.zarr", count=20), out))
    assert not out.exists()
    train_cell_types(_config(cells, out, epochs=1))
    again = load_settings(out / "config.yaml", CellTypeRun)
    assert again == _config(cells, out, epochs=1)
    with pytest.raises(UserError, match="was begun with batch = 16, now it is 8"):
        train_cell_types(_config(cells, out, batch=8))
    last = (out / "last.safetensors").read_bytes()
    (out / "task.json").write_text("{}")
    with pytest.raises(UserError, match="begun on other data"):
        train_cell_types(_config(cells, out, epochs=2))
    assert (out / "last.safetensors").read_bytes() == last
    assert train_cell_types(_config(cells, out, epochs=2), fresh=True).epochs == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a run folder"):
        train_cell_types(_config(cells, tmp_path / "other"))


def test_a_loss_that_is_no_number_ends_it_with_a_folder_and_without(
    cells: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"became nan in epoch 1, step 2\."):
        train_cell_types(_config(cells, tmp_path / "nan", learning_rate=1e30))
    assert not (tmp_path / "nan" / "best.safetensors").exists()
    data = Dataset.open(cells)
    types = learnable_types(data, data.split("train"))
    settings, compute = CellTypeSettings(learning_rate=1e30), Compute(torch.device("cpu"))
    held = labelled_cells(data, "20x", data.split("train"), types)
    trainer = Trainer(settings, CellTypeTask(settings, compute, types, held), compute)
    with pytest.raises(UserError, match=r"the loss became nan in step 2\."):
        trainer.train()
