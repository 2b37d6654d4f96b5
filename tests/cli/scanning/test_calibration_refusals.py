"""A calibration that cannot succeed writes nothing over, and shows why.

The whole table, every kind under every condition: benchmarks/acquire/calibration_refusals.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.calibration_kinds import LedLight
from plsctl.acquire.devices.calibrations import calibration_folder, made, write_calibration
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.led_directions import LedDirections
from plsctl.acquire.leds.pose import ArrayPose
from plsctl.cli.app import app

BARE = {"smear": {"bare_um": [[0, 75000, 0, 25000]]}}


def earlier(hardware: Hardware, kind: str) -> LedDirections | LedLight:
    """A calibration of before, of the array that the table describes."""
    fields = made(hardware, ["20x"], "", "plsctl-sim, 43 LEDs", kind == "leds")
    if kind == "exposures":
        return LedLight.model_validate(fields | {"lights": {}, "sines": {}})
    leds = {"leds": [{"led": 1, "direction": [0.0, 0.0]}]}
    return LedDirections.model_validate(fields | vars(ArrayPose()) | {"rms": 0.0} | leds)


@pytest.mark.parametrize(
    ("kind", "options", "code", "reason"),
    [
        ("leds", BARE, 2, "bare glass"),
        ("leds", {"objectives": {"20x": {"scale": 1.5}}}, 2, "an objective of 30"),
        ("exposures", BARE, 2, "bare glass"),
        ("exposures", {"sensor": {"electrons_per_ms": 0.01}}, 3, "too little light"),
        ("exposures", {"mount": {"focus_error_um": 900}}, 2, "no focus"),
        ("exposures", {"led_array": {"table": "shipped:leds_257.csv"}}, 2, "another array"),
    ],
)
def test_a_calibration_that_cannot_succeed_leaves_all_as_it_was_and_a_page(
    tmp_path: Path, kind: str, options: dict[str, Any], code: int, reason: str
) -> None:
    document = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    document["camera"]["size_px"] = [200, 150]
    document["led_array"]["geometry"] = "shipped:leds_43.csv"
    document["options"] |= options
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    hardware = load_hardware(path)
    before = write_calibration(earlier(hardware, kind), calibration_folder(hardware))
    table = tmp_path / "table.csv"
    table.write_text("as it was", encoding="utf-8")
    kept = before.read_bytes()
    words = ["calibrate", kind, "--hardware", str(path), "--yes", "--json"]
    if kind == "exposures":
        words += ["-o", str(table), "--overwrite", "--recipe", "le18deg"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code
    error = json.loads(result.stdout)["error"]
    assert reason in error["message"]
    page = before.with_name(f"{kind}_20x.failed.html")
    assert str(page) in error["hint"]
    shown = page.read_text(encoding="utf-8")
    assert reason in shown and "<img" in shown
    assert before.read_bytes() == kept
    assert table.read_text(encoding="utf-8") == "as it was"
