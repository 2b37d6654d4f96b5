"""Shells complete the values of options, at once, and only values that are accepted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import shipped_configurations
from plsctl.acquire.plans.recipes import recipe_names
from plsctl.acquire.store.records import PASSES
from plsctl.cli.app import app
from plsctl.cli.shared import completion
from plsctl.models.runs.folder import DEVICES
from plsctl.models.runs.registry import MODELS
from plsctl.process.dataset.splits import SPLITS


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("scan s.yaml --pass st", ["stained"]),
        ("train --recipe le18", ["le18deg"]),
        ("train maepf", ["maepfnet", "maepf-rpgan-sn", "maepfnet.yaml"]),
        ("devices -H simulator_", ["simulator_realtime", "simulator_small"]),
        ("led on 3 --hardware our", ["our_scope.yaml"]),
        ("calibrate exposures --hardware lab/", ["lab/scope.yml"]),
        ("segment a.png --method e", ["ek-means"]),
        ("evaluate run --split va", ["validation"]),
        ("stain run scan --engine on", ["onnxruntime"]),
        ("foc", ["focus-stack"]),
    ],
)
def test_values_are_completed(
    words: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    for name in ("our_scope.yaml", "our_notes.txt", "maepfnet.yaml", "lab/scope.yml"):
        (tmp_path / name).write_text("")
    line = f"plsctl {words}"
    environment = {
        "_PLSCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    result = CliRunner().invoke(app, [], env=environment, prog_name="plsctl")
    assert result.stdout.split() == offered


def test_what_is_offered_is_what_there_is() -> None:
    assert completion.PASSES("") == list(PASSES)
    assert sorted(completion.SPLITS("")) == sorted(SPLITS)
    assert completion.models("") == list(MODELS)
    assert set(recipe_names()) <= set(completion.recipes(""))
    assert completion.DEVICES("") == list(DEVICES)
    assert set(shipped_configurations()) <= set(completion.hardware(""))


def test_completing_loads_nothing_heavy() -> None:
    code = (
        "import sys; from plsctl.cli.shared import completion as c; "
        "c.hardware(''); c.recipes(''); c.models(''); "
        "sys.exit(bool({'numpy', 'torch', 'pandas', 'pymmcore_plus'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
