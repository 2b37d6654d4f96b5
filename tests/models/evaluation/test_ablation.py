"""The same model on several recipes: one row each, resumed without repeating what is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import plsctl.models.evaluation.ablation as ablation
from plsctl.acquire.errors import UserError
from plsctl.cli.app import app
from plsctl.models.evaluation.ablation import ablate
from plsctl.models.evaluation.evaluate import evaluate
from plsctl.models.evaluation.paper_tables import (
    TABLES,
    Arm,
    chosen_recipes,
    held_recipes,
    paper_table,
    recipe_arms,
)
from plsctl.models.networks.sizes import network_parameters
from plsctl.models.runs.run import Run
from plsctl.process.dataset.reader import Dataset

OPTIONS: dict[str, Any] = {
    "blocks": 1, "width": 4, "batch": 8, "learning_rate": 5e-3, "epochs": 2, "device": "cpu",
    "precision": "float32",
}  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_a_row_a_recipe_and_nothing_is_done_twice(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset.open(dataset)
    assert held_recipes(data) == ["le8deg", "brightfield"]
    out = tmp_path / "ablation"

    def again(**changes: Any) -> ablation.AblationResult:
        arms = recipe_arms(["le8deg", "brightfield"], "maenet")
        return ablate(data, out, arms, seeds=2, options=OPTIONS | changes)

    result = again()
    more, base = result.rows
    assert (more["recipe"], more["images"], base["images"], base["runs"]) == ("le8deg", 4, 1, 2)
    assert base["ssim_less_base"] is None
    # The blobs' colours are told by the oblique images only.
    difference: Any = more["ssim_less_base"]
    more_ssim: Any = more["ssim"]
    base_ssim: Any = base["ssim"]
    assert difference["mean"] == pytest.approx(more_ssim["mean"] - base_ssim["mean"])
    assert difference["ci95"][0] <= difference["mean"] <= difference["ci95"][1]
    runs = [pd.read_csv(out / f"le8deg-{seed}" / "samples_test.csv")["ssim"] for seed in (0, 1)]
    assert more_ssim["mean"] == pytest.approx(np.mean(runs))
    assert more["ssim_of_runs_sd"] == pytest.approx(np.std([r.mean() for r in runs], ddof=1))
    # Student's quantile of one degree of freedom is 12.706: two runs say little of a third.
    over_runs: Any = more["ssim_of_runs"]
    half = 12.706 * abs(runs[0].mean() - runs[1].mean()) / 2
    assert over_runs["ci95"] == pytest.approx(
        [np.mean(runs) - half, np.mean(runs) + half], rel=1e-3
    )
    apart: Any = more["ssim_of_runs_less_base"]
    assert apart["mean"] == pytest.approx(difference["mean"])
    assert base["ssim_of_runs_less_base"] is None
    table = pd.read_csv(out / "ablation.csv")
    assert list(table["name"]) == ["le8deg", "brightfield", "mean_target", "unstained"]
    assert "ssim_low" in table and (out / "models_test.png").stat().st_size > 1000
    assert [row["name"] for row in result.baselines] == ["mean_target", "unstained"]
    assert {"perceptual_loss", "fourier_loss", "ms_per_sample", "kappa"} <= more.keys()
    assert json.loads((out / "ablation.json").read_text())["rows"] == result.rows

    (out / "brightfield-1" / "samples_test.csv").unlink()
    evaluated: list[str] = []

    def counted(run: Run, *arguments: Any, **options: Any) -> Any:
        evaluated.append(run.path.name)
        return evaluate(run, *arguments, **options)

    def but_for_time(rows: list[Any]) -> list[Any]:
        return [{name: row[name] for name in row if name != "ms_per_sample"} for row in rows]

    monkeypatch.setattr(ablation, "evaluate", counted)
    assert but_for_time(again().rows) == but_for_time(result.rows)
    assert evaluated == ["brightfield-1"]
    # Somebody has evaluated a run on other data: that is no row of this table.
    other = shutil.copytree(dataset, tmp_path / "other.zarr")
    evaluate(Run.open(out / "le8deg-0"), Dataset.open(other))
    assert but_for_time(again().rows) == but_for_time(result.rows)
    assert evaluated == ["brightfield-1"]
    with pytest.raises(UserError, match="was begun with width = 4, now it is 6"):
        again(width=6)


def test_recipes_that_the_data_set_lacks_are_named(dataset: Path) -> None:
    data = Dataset.open(dataset)
    assert chosen_recipes(data, "brightfield, le8deg") == ["brightfield", "le8deg"]
    with pytest.raises(UserError, match="lacks 10 of the 14 images of recipe le18deg"):
        chosen_recipes(data, "le18deg")
    with pytest.raises(UserError, match="le19deg"):
        chosen_recipes(data, "le19deg")


@pytest.mark.usefixtures("undrawn")
def test_the_command(dataset: Path, tmp_path: Path) -> None:
    arguments = [
        "ablate", str(dataset), "-o", str(tmp_path / "out"), "--recipes", "brightfield",
        "--model", "fast", "--width", "4", "--epochs", "1", "--device", "cpu", "--json",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["target"] == "20x" and len(printed["rows"]) == 1
    assert {"ssim", "mae", "nucleus_dice", "validation_loss"} <= printed["rows"][0].keys()
    assert "brightfield" in result.stderr


@pytest.mark.usefixtures("undrawn")
def test_rows_of_the_thesis_are_trained_as_it_says(dataset: Path, tmp_path: Path) -> None:
    # Numbers of parameters as the thesis prints them (tables 4.5 and A.1).
    shallow = next(arm for arm in TABLES["A.1"].arms if arm.model == "maepfnet")
    assert network_parameters("rrdb", 3 * 44, 4, 32, None) == 6_515_463
    assert shallow.recipe == "full-nohe"
    for name, table in TABLES.items():
        seen: set[str] = set()
        for arm in table.arms:
            assert arm.starts_from is None or arm.starts_from in seen, name
            seen.add(arm.name)
        assert table.base in seen
    with pytest.raises(UserError, match=r"4\.1"):
        paper_table("4.11")

    data = Dataset.open(dataset)
    whole = Arm("whole", "maenet", "brightfield")
    half = Arm("half", "maenet", "brightfield", {"train_share": 0.5}, starts_from="whole")
    result = ablate(data, tmp_path, [whole, half], base="whole", options=OPTIONS)
    first, second = (Run.open(tmp_path / name) for name in ("whole-0", "half-0"))
    assert second.metadata.samples["train"] == round(first.metadata.samples["train"] / 2)
    assert second.metadata.start is not None and first.metadata.start is None
    assert result.rows[1]["ssim_less_base"] is not None
