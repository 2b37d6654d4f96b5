"""A calibration of the LEDs that cannot succeed writes nothing over, and shows why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.cli.app import app


def test_bare_glass_leaves_the_earlier_calibration_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    document["camera"]["size_px"] = [160, 120]
    document["options"]["smear"] = {"bare_um": [[10_000, 12_000, 5_000, 6_000]]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "own.calibration").mkdir()
    before = tmp_path / "own.calibration" / "leds_20x.yaml"
    before.write_text("as it was", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        app, ["calibrate", "leds", "--hardware", "own.yaml", "--yes", "--json"]
    )
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert "bare glass" in error["message"]
    assert "leds_20x.failed.html" in error["hint"]
    page = tmp_path / "own.calibration" / "leds_20x.failed.html"
    assert "bare glass" in page.read_text(encoding="utf-8")
    assert before.read_text(encoding="utf-8") == "as it was"
