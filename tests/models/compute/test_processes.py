"""Several processes: their curve is that of one process with the same batch."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plsctl.acquire.errors import UserError
from plsctl.models.compute.processes import ALONE, Processes
from plsctl.models.runs.config import TrainingConfig, config_from_options
from plsctl.models.staining.train import train
from plsctl.models.training.epoch_log import EpochLog


def _config(data: Path, out: Path, **changes: Any) -> TrainingConfig:
    options: dict[str, Any] = {
        "data": data, "out": out, "blocks": 1, "growth": 4, "width": 6, "batch": 7,
        "learning_rate": 5e-4, "epochs": 3, "device": "cpu", "precision": "float32", "average": 0.9,
        "memory_format": "channels_last",
    }  # fmt: skip
    return config_from_options("maepfnet", options | changes)


def _curve(run: Path) -> list[dict[str, float]]:
    with (run / "curve.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_two_processes_draw_the_curve_of_one_and_a_stopped_run_goes_on(
    dataset: Path, tmp_path: Path
) -> None:
    train(_config(dataset, tmp_path / "one"))
    # Two epochs by two processes; batches of 7 are shared 4 to 3, and 6 remain at the end. The
    # third epoch by one process: what continues a run does not depend on their number.
    shared = _config(dataset, tmp_path / "two", epochs=2)
    found = _torchrun(shared, tmp_path / "two.yaml", 2)
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("Next: plsctl evaluate") == 1  # one of them speaks
    assert len(_curve(tmp_path / "two")) == 2
    train(_config(dataset, tmp_path / "two"))
    for one, two in zip(_curve(tmp_path / "one"), _curve(tmp_path / "two"), strict=True):
        for name in one.keys() - {"seconds"}:
            assert two[name] == pytest.approx(one[name], rel=2e-4), name


def _torchrun(config: TrainingConfig, file: Path, count: int) -> subprocess.CompletedProcess[str]:
    file.write_text(config.to_yaml(file.parent))
    plsctl = Path(sys.executable).with_name("plsctl")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count),
        "--standalone", "--no-python", str(plsctl), "train", str(file),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True)


def test_what_one_process_cannot_begin_is_said_once(dataset: Path, tmp_path: Path) -> None:
    found = _torchrun(_config(dataset, tmp_path / "run", target="100x"), tmp_path / "c.yaml", 3)
    assert found.returncode != 0 and not (tmp_path / "run").exists()
    assert found.stderr.count("has no target 100x") == 1 and "is a bug" not in found.stderr


@pytest.mark.parametrize("size", [1, 2, 7])
def test_shares_cover_a_batch_and_weighted_means_are_its_mean(size: int) -> None:
    batch = np.arange(10, 10 + size)
    all_of_them = [Processes(rank, 3) for rank in range(3)]
    shares = [process.share(batch) for process in all_of_them]
    assert min(len(share) for share in shares) == max(1, size // 3)
    assert set(np.concatenate(shares)) == set(batch)
    means = [p.weight(batch) * s.mean() for p, s in zip(all_of_them, shares, strict=True)]
    assert np.mean(means) == pytest.approx(batch.mean())


def test_losses_are_averaged_over_samples_and_nan_names_its_step() -> None:
    failures: list[int] = []

    def diverged(loss: float, step: int) -> UserError:
        failures.append(step)
        return UserError(f"{loss}")

    log = EpochLog(ALONE, diverged)
    log.add(1, {"loss": torch.tensor(1.0), "mae": torch.tensor(0.5)}, 6, 1.0)
    log.add(2, {"loss": torch.tensor(4.0), "mae": torch.tensor(2.0)}, 2, 1.0)
    assert log.means() == {"loss": pytest.approx(1.75), "mae": pytest.approx(0.875)}
    log.add(3, {"loss": torch.tensor(torch.nan), "mae": torch.tensor(2.0)}, 2, 1.0)
    with pytest.raises(UserError):
        log.means()
    assert failures == [3]
