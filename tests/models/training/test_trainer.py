"""The training loop by itself: the documented example, and the schedule of rates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from plsctl.models.runs.tensors import read_tensors
from plsctl.models.runs.training_settings import TrainingSettings
from plsctl.models.training.schedule import group_settings

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
DOCS = ROOT / "docs" / "models.md"


def test_the_example_of_a_task_fits_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DOCS.read_text(encoding="utf-8").split("## A task of your own")[1]
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    assert "train_loss" in capsys.readouterr().out
    weights, state = read_tensors(tmp_path / "runs" / "line" / "best.safetensors")
    assert float(weights["weight"]) == pytest.approx(2, abs=0.05)
    assert float(weights["bias"]) == pytest.approx(1, abs=0.05)
    assert len((tmp_path / "runs" / "line" / "curve.csv").read_text().splitlines()) == 31
    assert isinstance(state["epoch"], int)


@pytest.mark.parametrize("steps", [2, 7, 60, 400])
def test_one_cycle_is_that_of_torch(steps: int) -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    config = TrainingSettings(schedule="one_cycle", learning_rate=2e-3, betas=(0.9, 0.999))
    for step in range(steps):
        (group,) = optimiser.param_groups
        found = group_settings(config, step / steps, step, steps)
        assert found == {"lr": group["lr"], "betas": group["betas"]}
        optimiser.step()
        reference.step()
