"""The commands that train, evaluate and stain: what other programs rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

from plsctl.cli.app import app


def _json(*arguments: object, exit_code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(part) for part in (*arguments, "--json")])
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_dry_run_needs_no_data_and_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['plsctl', 'train', 'maepnet', '--recipe', 'le36deg-nohe', "
        "'--dry-run', '--json']\n"
        "import atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from plsctl.cli.app import main; main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {
        "model": "maepnet", "recipe": "le36deg-nohe", "images": 29, "channels": 87,
        "parameters": 4_027_728,
    }  # fmt: skip
    assert run.stderr.strip().endswith("False")


def test_train_evaluate_and_stain_by_command(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = _json(
        "train", "maenet", "--data", dataset, "--out", run, "--blocks", 1, "--width", 6,
        "--epochs", 2, "--recipe", "le8deg", "--device", "cpu",
    )  # fmt: skip
    assert trained["run"] == str(run) and trained["epochs"] == 2
    assert {"best_epoch", "metrics", "seconds", "stopped"} <= trained.keys()
    again = _json("train", "maenet", "--from", run, "--dry-run")
    assert (again["images"], again["recipe"]) == (4, "le8deg")
    refused = _json("evaluate", run, "--device", "gpu", exit_code=2)["error"]
    assert refused["field"] == "device" and "auto, cpu or cuda" in refused["message"]
    scores = _json("evaluate", run, "--split", "validation")
    assert scores["split"] == "validation" and scores["samples"] == 6
    assert set(scores["metrics"]) == {"ssim", "ssim_grey", "ssim_shifted", "mae"}
    assert set(scores["paired"]["unstained"]) == set(scores["metrics"])
    counts = {"true", "lost", "invented"}
    assert set(scores["nuclei"]) == {"prediction", *scores["baselines"], *counts}
    assert set(scores["metrics"]["ssim"]) == {"mean", "ci95"}
    np.save(tmp_path / "stack.npy", np.zeros((4, 40, 40, 3), np.uint8))
    stained = _json("stain", run, tmp_path / "stack.npy", "-o", tmp_path / "out.ome.zarr")
    (tmp_path / "empty.npy").write_bytes(b"")
    damaged = _json("stain", run, tmp_path / "empty.npy", "-o", tmp_path / "no", exit_code=2)
    assert "cannot be read" in damaged["error"]["message"]
    assert stained["positions"] == 1 and stained["halo_px"] <= stained["exact_halo_px"] == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "maepfnt", "--data", "a", "--out", "b"), "Did you mean 'maepfnet'"),
        (("train", "maenet", "--data", "a", "--out", "b", "--recipe", "le19deg"), "le18deg"),
        (("train", "maenet", "--data", "none.zarr", "--out", "b"), "no data set at none.zarr"),
        (("train", "maenet", "--out", "b"), "--data is missing"),
        (("train", "missing.yaml"), "no such file"),
        (("evaluate", "nowhere"), "not a run folder"),
        (("stain", "nowhere", "scan", "-o", "out"), "not a run folder"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_2(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = _json(*arguments, exit_code=2)["error"]
    assert error["kind"] == "user" and message in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_every_command_of_models_is_registered() -> None:
    commands = typer.main.get_command(app).list_commands(None)  # type: ignore[attr-defined]
    assert {"train", "evaluate", "stain"} <= set(commands)


def test_a_run_keeps_the_recipe_of_a_file(dataset: Path, tmp_path: Path) -> None:
    own, run = tmp_path / "own.yaml", tmp_path / "run"
    own.write_text(
        "name: two\nframes:\n  - {pattern: brightfield}\n  - {each: {leds: [plate-2]}}\n"
    )
    asked = (
        "train", "maenet", "--data", dataset, "--out", run, "--blocks", 1, "--width", 6,
        "--device", "cpu", "--recipe",
    )  # fmt: skip
    said = _json("train", "maenet", "--recipe", own, "--dry-run")
    assert (said["images"], said["recipe"], said["channels"]) == (2, "two", 6)
    _json(*asked, own, "--epochs", 1)
    (tmp_path / "elsewhere").mkdir()
    moved = own.rename(tmp_path / "elsewhere" / "own.yaml")
    assert _json(*asked, moved, "--epochs", 2)["epochs"] == 2
    moved.write_text(moved.read_text().replace("plate-2", "plate-3"))
    refused = _json(*asked, moved, "--epochs", 3, exit_code=2)["error"]
    assert refused["field"] == "recipe"
    moved.unlink()
    scores = _json("evaluate", run, "--split", "validation")
    assert scores["samples"] == 6
    again = _json("train", "maenet", "--from", run, "--dry-run")
    assert (again["images"], again["recipe"]) == (2, "two")
    np.save(tmp_path / "stack.npy", np.zeros((2, 40, 40, 3), np.uint8))
    assert _json("stain", run, tmp_path / "stack.npy", "-o", tmp_path / "out")["positions"] == 1
