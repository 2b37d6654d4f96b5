"""Pixel size, rotation, mirror and backlash against the simulator's hidden truth."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.bench import pixel_size as measuring
from plsctl.acquire.bench.pixel_size import fit_row
from plsctl.acquire.coordinates import CameraOrientation, ImageAxes
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.cli.app import app


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "STEPS", 4)
    monkeypatch.setattr(measuring, "RETURNS", 2)


def describe(folder: Path, **options: Any) -> Path:
    content = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    content["camera"]["size_px"] = [360, 270]
    content["led_array"]["geometry"] = "shipped:leds_43.csv"
    content["options"] |= options
    path = folder / "scope.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def calibrate(path: Path) -> tuple[int, dict[str, Any]]:
    words = ["calibrate", "pixel-size", "--json", "--hardware", str(path)]
    result = CliRunner().invoke(app, words)
    return result.exit_code, json.loads(result.stdout)


def test_a_row_of_images_tells_the_slope_in_spite_of_a_stage_that_scatters() -> None:
    truth = CameraOrientation(12.0, True)
    rng = np.random.default_rng(3)
    places = [(40.0 * n, 0.0) for n in range(9)]
    errors = rng.normal(0, 0.1, (9, 2))
    stood = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(places, errors, strict=True)]
    seen = [ImageAxes(place, (480, 360), 0.31, truth).to_px(900.0, 50.0) for place in stood]
    shifts = [tuple(np.subtract(b, a)) for a, b in pairwise(seen)]
    row = fit_row(places, shifts)
    assert row.slope == pytest.approx(np.array(truth.to_image(-1 / 0.31, 0.0)), abs=4e-3)
    assert 2e-4 < row.slope_error < 2e-3


def test_the_simulators_truth_is_measured(tmp_path: Path) -> None:
    truth = {"rotation_deg": -91.3, "mirrored": True, "pixel_scale": 1.03}
    stage = {"repeatability_um": 0.04, "backlash_um": 3.0}
    path = describe(tmp_path, camera=truth, stage=stage)
    code, found = calibrate(path)
    assert code == 0
    assert found["pixel_um"] == pytest.approx(0.293 * 1.03, rel=1e-3)
    assert found["rotation_deg"] == pytest.approx(-91.3, abs=0.05)
    assert found["mirrored"] is True
    assert found["backlash_um"] == pytest.approx([3.0, 3.0], abs=0.1)
    assert Path(found["file"]).is_file()
    assert "pixel size" in Path(found["page"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smear": {"bare_um": [[0, 75000, 0, 25000]]}}, "bare glass"),
        ({"camera": {"pixel_scale": 0.5}}, "an objective of (39|40|41)"),
        ({"mount": {"creep_um_per_min": [0, 200]}}, "the slide moves"),
        ({"sensor": {"electrons_per_ms": 8e6}}, "saturated"),
        ({"sensor": {"electrons_per_ms": 0.01}}, "too little light"),
    ],
)
def test_a_calibration_that_fails_says_why_and_writes_nothing_over(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    path = describe(tmp_path, **options)
    before = tmp_path / "scope.calibration" / "pixel-size_20x.yaml"
    before.parent.mkdir()
    before.write_text(GOOD, encoding="utf-8")
    code, found = calibrate(path)
    assert code in (2, 3)
    message = found["error"]["message"]
    assert re.search(said, message)
    assert before.read_text(encoding="utf-8") == GOOD
    picture = before.with_name("pixel-size_20x.failed.html")
    assert str(picture) in message
    assert "<img" in picture.read_text(encoding="utf-8")


GOOD = """\
objective: 20x
measured: '2026-11-01T10:00:00Z'
plsctl: 0.1.0
hardware:
  camera: {device: Camera, pixel_pitch_um: 5.86, binning: 1, size_px: [360, 270], bayer: null}
  objectives:
    20x: {label: 20x, magnification: 20.0, na: 0.4, immersion: air}
pixel_um: 0.293
pixel_um_error: 0.0001
rotation_deg: 0.7
rotation_deg_error: 0.01
mirrored: false
backlash_um: [2, 2]
residual_um: 0.2
images: 29
"""
