"""The files to begin with are whole: what is left to do is what their comments say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import load_hardware, shipped_configurations
from plsctl.acquire.plans.slide import load_slide
from plsctl.cli.app import app


@pytest.mark.parametrize("hardware", shipped_configurations())
def test_the_files_of_a_new_slide_fit_together(hardware: str, tmp_path: Path) -> None:
    folder = tmp_path / "my lab"
    result = CliRunner().invoke(app, ["init", str(folder), "--hardware", hardware, "--json"])
    assert result.exit_code == 0
    assert {Path(file).name for file in json.loads(result.stdout)["files"]} == {
        path.name for path in folder.iterdir()
    }
    described = load_slide(folder / "slide.yaml").load_hardware()
    assert described.led_array == load_hardware(described.file).led_array
    assert described.geometry().leds
    if hardware.startswith("simulator"):
        result = CliRunner().invoke(app, ["scan", str(folder / "slide.yaml"), "--dry-run"])
        assert result.exit_code == 0


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "slide.yaml").write_text("mine")
    result = CliRunner().invoke(app, ["init", str(tmp_path), "-H", "openuc2"])
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["slide.yaml"]
    assert (tmp_path / "slide.yaml").read_text() == "mine"
