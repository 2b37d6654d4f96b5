"""The flat field of the simulated sensor: vignette, dust and dead pixels against its truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.bench import flat_field as measuring
from plsctl.acquire.devices.calibration_kinds import FlatField, FlatSurface
from plsctl.acquire.devices.calibrations import read_calibrations
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.cli.app import app
from plsctl.process.quality.glass import FieldGlass
from plsctl.sim.backend import open_world


def test_vignette_dust_and_dead_pixels_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "ACROSS", 3)
    content = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    content["camera"]["size_px"] = [320, 240]
    content["led_array"]["geometry"] = "shipped:leds_43.csv"
    content["options"] |= {
        "smear": {"bare_um": [[0, 75000, 0, 25000]]},
        "sensor": {"vignette": 0.15, "dust_specks": 3, "dust_shade": 0.12, "dead_pixels": 4},
    }
    path = tmp_path / "scope.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ["calibrate", "flatfield", "--json", "--hardware", str(path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    sensor = open_world(load_hardware(path)).sensor
    assert sorted(map(tuple, found["dead"])) == sorted(
        (int(x), int(y)) for y, x in zip(*sensor._dead, strict=True)
    )
    assert found["hot"] == []
    truth = measuring._grid(np.repeat(sensor.flat[..., None], 3, axis=2))
    (calibration,) = read_calibrations(load_hardware(path))
    assert isinstance(calibration, FlatField)
    assert len(calibration.surfaces) == 14
    for text in calibration.surfaces.values():
        assert FlatSurface.unpack(text) == pytest.approx(truth, abs=0.01)
    assert found["dust"]
    smooth = 1 - 0.15 * _radius_2(sensor.flat.shape)
    shade = 1 - sensor.flat / smooth
    for speck in found["dust"]:
        assert shade[round(speck["y"]), round(speck["x"])] > 0.01


def _radius_2(shape: tuple[int, ...]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    reach = (shape[0] ** 2 + shape[1] ** 2) / 4
    return ((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / reach


def test_a_crowded_field_has_the_glass_of_the_calibrated_surface() -> None:
    y, x = np.mgrid[-1:1:240j, -1:1:320j]
    light = 200 * (1 - 0.2 * (x**2 + y**2))
    image = np.repeat(light[..., None], 3, axis=2)
    image[:, 160:] *= 0.5  # cells all over one half
    flat = FlatSurface.pack(measuring._grid(np.repeat(light[..., None], 3, axis=2).astype("f4")))
    glass = FieldGlass(image.astype(np.uint8), flat)
    left, right = glass.at(np.array([(40.0, 120.0), (280.0, 120.0)]))
    assert left == pytest.approx(right, rel=0.02)
