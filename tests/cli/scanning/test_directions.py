"""What another array makes of a recipe's directions is told before a scan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from plsctl.cli.app import app

RECIPE = """\
name: spots
frames:
  - {pattern: brightfield}
  - {na_points: [[0.0, 0.15], [0.9, 0.0]], na_reach: 0.03, label: two}
"""

LOST = "two: 1 of 2 directions have no LED near enough"


def test_recipes_and_scan_say_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spots.yaml").write_text(RECIPE)
    words = ["recipes", "spots.yaml", "--hardware", "simulator_small"]
    told = CliRunner().invoke(app, [*words, "--json"])
    found = json.loads(told.stdout.splitlines()[-1])["recipes"][0]
    assert found["frames"][1]["names"] == ["plate-1"]
    (lost,) = found["directions"]
    assert (lost["label"], lost["directions"], lost["missing"]) == ("two", 2, [[0.9, 0.0]])
    assert 0 < lost["mean_shift_na"] == lost["largest_shift_na"] < 0.03
    assert LOST in CliRunner().invoke(app, words).output
    Path("exposures.csv").write_text(
        "led,variant,exposure_ms,gain,brightness\nbrightfield,,0.2,1,1\ntwo,,2,1,1\n"
    )
    slide = {
        "slide": "own", "hardware": "simulator_small", "recipe": "spots.yaml",
        "region": {"x_um": [10000, 10300], "y_um": [5000, 5200]}, "exposures": "exposures.csv",
        "passes": {"unstained": {"objective": "20x"}},
    }  # fmt: skip
    Path("slide.yaml").write_text(yaml.safe_dump(slide))
    dry = CliRunner().invoke(app, ["scan", "slide.yaml", "--pass", "unstained", "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert LOST in dry.output
