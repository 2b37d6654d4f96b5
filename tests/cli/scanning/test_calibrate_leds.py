"""A calibration of the LEDs that cannot succeed writes nothing over, and shows why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.calibrations import made, write_calibration
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.led_directions import LedDirections
from plsctl.acquire.leds.pose import ArrayPose
from plsctl.cli.app import app


def earlier(hardware: Hardware) -> LedDirections:
    fields = made(hardware, ["20x"], "", "", with_directions=True)
    leds = [{"led": 1, "direction": [0.0, 0.0]}]
    return LedDirections.model_validate(fields | vars(ArrayPose()) | {"rms": 0.0, "leds": leds})


def test_bare_glass_leaves_the_earlier_calibration_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    document["camera"]["size_px"] = [160, 120]
    document["options"]["smear"] = {"bare_um": [[10_000, 12_000, 5_000, 6_000]]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    before = write_calibration(
        earlier(load_hardware(tmp_path / "own.yaml")), tmp_path / "own.calibration"
    )
    kept = before.read_bytes()
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
    assert before.read_bytes() == kept
