"""A learned pattern that is exported and scanned shows what the single LEDs predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.leds.geometry import LedGeometry, standard_array
from plsctl.acquire.plans.exposures import Exposure, ExposureTable, load_exposures, save_exposures
from plsctl.acquire.plans.recipe_frames import Frame
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.reader import PassReader
from plsctl.cli.app import app
from plsctl.models.learned_optics.shown_patterns import ArrayLimits, pattern_recipe, quantise

SHIPPED = Path(__file__).parents[3] / "hardware_configs"
EXPOSURE_MS = (0.8, 0.5)

ELECTRONS, READ_NOISE = 32_500, 7.0
"""Full well and read noise of the simulated camera (docs/simulator.md)."""


def scanned(folder: Path, recipe: dict[str, object]) -> PassReader:
    hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text())
    hardware["camera"]["size_px"] = [400, 300]
    (folder / "microscope.yaml").write_text(yaml.safe_dump(hardware))
    (folder / "own.yaml").write_text(yaml.safe_dump(recipe))
    shipped = load_exposures(SHIPPED / "exposures_20x.csv").rows
    known = {frame: Exposure(0.6 * each.exposure_ms) for frame, each in shipped.items()}
    learned = {Frame(f"learned-{n}"): Exposure(ms) for n, ms in enumerate(EXPOSURE_MS, start=1)}
    save_exposures(ExposureTable(known | learned), folder / "exposures.csv")
    slide = {
        "slide": "own", "hardware": "microscope.yaml", "recipe": "own.yaml",
        "region": {"x_um": [10000, 10118], "y_um": [5000, 5089]},
        "exposures": "exposures.csv", "focus": {"mode": "fixed"},
        "passes": {"unstained": {"objective": "20x"}},
    }  # fmt: skip
    (folder / "slide.yaml").write_text(yaml.safe_dump(slide))
    result = CliRunner().invoke(app, ["scan", "slide.yaml", "--pass", "unstained", "--yes"])
    assert result.exit_code == 0, result.output
    return ScanFolder(folder / "scans" / "own").open_pass("unstained")


def variance(counts: np.ndarray, black: float) -> np.ndarray:
    """Of one pixel, in squared counts: shot noise, read noise, rounding."""
    electrons = ELECTRONS / (255 - black)
    return np.maximum(counts, 0) / electrons + (READ_NOISE / electrons) ** 2 + 1 / 12


def test_scanned_patterns_agree_with_the_predicted_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    array = standard_array()
    inside = LedGeometry(tuple(led for led in array.leds if led.angle_deg < 19))
    wanted = np.zeros((2, len(inside.leds)))
    wanted[0, [0, 4, 9]], wanted[1, [1, 2, 5, 6, 11]] = 0.8, 0.71
    patterns = [quantise(row, ArrayLimits()) for row in wanted]
    learned = yaml.safe_load(pattern_recipe("own", patterns, inside.directions).to_yaml())
    learned["frames"].insert(1, {"each": {"angle_deg": [0, 19]}})
    reader = scanned(tmp_path, learned)
    (name, *_), black = reader.names, reader.attributes.black_level
    records = {frame.label: frame for frame in reader.attributes.frames}
    singles = {led.name: reader.frame(name, reader.labels.index(led.name)) for led in inside.leds}
    for number, pattern in enumerate(patterns, start=1):
        image = records[f"learned-{number}"]
        assert image.brightness == pytest.approx(pattern.brightness, abs=1e-6)
        predicted, spread, clear = np.zeros(()), np.zeros(()), np.ones((), bool)
        for led in np.array(inside.leds)[pattern.lit]:
            counts = singles[led.name].astype(float)
            share = image.light / records[led.name].light
            predicted = predicted + share * (counts - black)
            spread = spread + share**2 * variance(counts - black, black)
            clear = clear & (counts < 245)
        shown = reader.frame(name, reader.labels.index(image.label)).astype(float)
        clear = clear & (predicted < 235)
        difference = (shown - black - predicted)[clear]
        error = difference / np.sqrt(spread + variance(predicted, black))[clear]
        assert clear.mean() > 0.9 and 40 < predicted.mean() < 220
        assert abs(difference.mean()) < 0.02
        assert error.std() == pytest.approx(1, abs=0.02)
