"""Two objectives of the simulated microscope compared, against its hidden truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.bench import objectives as measuring
from plsctl.acquire.devices.calibrations import calibrated, read_calibrations
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.cli.app import app


def test_offsets_scale_and_rotation_are_measured_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MOST_ACROSS", 3)
    content = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    content["camera"] |= {"size_px": [560, 420], "mirrored": True}
    content["led_array"]["geometry"] = "shipped:leds_43.csv"
    content["options"]["smear"] = {"seed": 2}
    content["options"]["objectives"]["100x"] = {
        "scale": 1.02, "rotation_deg": 2.0, "offset_x_um": 7.0, "offset_y_um": -9.0,
        "offset_z_um": 6.0,
    }  # fmt: skip
    path = tmp_path / "scope.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ["calibrate", "objectives", "--json", "--hardware", str(path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    # A field of 100x shows a few cells on so small a sensor.
    assert found["scale"] == pytest.approx(5.1, rel=3e-3)
    assert found["rotation_deg"] == pytest.approx(2.0, abs=0.3)
    assert found["offset_um"] == pytest.approx([25.0, -20.0, 18.0], abs=1.2)
    described = load_hardware(path)
    used = calibrated(described, read_calibrations(described))
    assert used.pixel_um("100x") == pytest.approx(0.293 / 5.1, rel=3e-3)
    assert used.objective("100x").offset_x_um == pytest.approx(25.0, abs=0.5)
    assert "mosaic" in Path(found["page"]).read_text(encoding="utf-8")
