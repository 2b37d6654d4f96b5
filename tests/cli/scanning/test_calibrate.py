"""`plsctl calibrate all`: the order of its steps, and what it leaves as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.calibration_kinds import LedLight, PixelSize
from plsctl.acquire.devices.calibrations import calibration_folder, made, write_calibration
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.led_directions import LedDirections
from plsctl.acquire.errors import HardwareError
from plsctl.cli.app import app

STEPS = "plsctl.cli.scanning.calibration_steps"
PIXELS: dict[str, Any] = {
    "pixel_um": 0.3, "pixel_um_error": 0.0001, "rotation_deg": 3.0, "rotation_deg_error": 0.01,
    "mirrored": False, "backlash_um": [1.0, 1.0], "residual_um": 0.1, "images": 29,
}  # fmt: skip


@pytest.fixture
def scope(tmp_path: Path) -> Path:
    content = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    content["led_array"]["geometry"] = "shipped:leds_43.csv"
    path = tmp_path / "scope.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def calibrate(*words: object) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["calibrate", *map(str, words), "--json"])
    return result.exit_code, json.loads(result.stdout)


def keep_array(hardware: Hardware) -> dict[str, Any]:
    pose = ("x_mm", "y_mm", "height_mm", "rotation_deg", "tilt_x_deg", "tilt_y_deg", "rms")
    fields = made(hardware, ["20x"], "", "array", with_directions=True)
    leds = {"leds": [{"led": 1, "direction": [0.0, 0.0]}]}
    found = LedDirections.model_validate(fields | dict.fromkeys(pose, 0.0) | leds)
    write_calibration(found, calibration_folder(hardware))
    return {}


def test_steps_are_done_in_order_and_what_is_recent_is_kept(
    scope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware, done = load_hardware(scope), []
    lens_is_out = True

    def exposures(_: str, objective: str, *rest: object) -> dict[str, Any]:
        done.append(f"exposures {objective}")
        (scope.parent / f"exposures_{objective}.csv").write_text("led\n", encoding="utf-8")
        fields = made(hardware, [objective], "", "array")
        light = LedLight.model_validate(fields | {"lights": {}, "sines": {}})
        write_calibration(light, calibration_folder(hardware))
        return {"table": "x"}

    def pixels(*_: object) -> dict[str, Any]:
        done.append("pixel-size")
        found = PixelSize.model_validate(made(hardware, ["20x"], "", None) | PIXELS)
        write_calibration(found, calibration_folder(hardware))
        return {}

    def fails(what: str) -> Callable[..., dict[str, Any]]:
        def step(*_: object) -> dict[str, Any]:
            done.append(what)
            if lens_is_out:
                raise HardwareError("the lens is out.")
            return {}

        return step

    monkeypatch.setattr(f"{STEPS}.exposures_step", exposures)
    monkeypatch.setattr(f"{STEPS}.pixel_size_step", pixels)
    monkeypatch.setattr(
        f"{STEPS}.leds_step", lambda *_: done.append("leds") or keep_array(hardware)
    )
    monkeypatch.setattr(f"{STEPS}.flat_field_step", fails("flatfield"))
    monkeypatch.setattr(f"{STEPS}.objectives_step", fails("objectives"))
    assert calibrate("all", "--hardware", scope)[0] == 3
    assert done == ["exposures 20x", "pixel-size", "leds", "flatfield"]
    lens_is_out = False
    done.clear()
    code, found = calibrate("all", "--hardware", scope)
    assert code == 0
    assert done == ["flatfield", "objectives", "exposures 100x"]
    assert [step["kept"] for step in found["steps"]] == [True, True, True, False, False, False]
    done.clear()
    calibrate("all", "--hardware", scope, "--fresh")
    assert len(done) == 6
    assert (scope.parent / "exposures_20x.csv.before").is_file()


def test_nothing_is_kept_beside_a_file_of_the_package() -> None:
    code, found = calibrate("all", "--hardware", "simulator_small")
    assert code == 2
    assert "plsctl init DIR --hardware simulator_small" in found["error"]["hint"]
