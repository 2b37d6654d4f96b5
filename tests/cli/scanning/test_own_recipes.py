"""Arrays that are not the paper's, each with a recipe of its own: from the table to a network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.store.folder import ScanFolder
from plsctl.cli.app import app
from plsctl.models.runs.folder import read_run
from plsctl.process.dataset.reader import Dataset

RECIPES = {
    "illuminate_board": (
        "shipped:leds_257.csv",
        """\
name: rings
frames:
  - {pattern: brightfield}
  - {each: {na: [0.0, 0.1]}}
  - {each: {group: ring4, azimuth_deg: [0, 40]}}
  - {azimuth_deg: [90, 270], na: [0, 0.39], label: left-half}
  - {each: {na: [0.45, 0.48], azimuth_deg: [350, 10]}, variants: [low, high]}
  - {na: [0.5, 0.6], weight: 0.8, label: dark-ring}
""",
    ),
    "openuc2": (
        "shipped:leds_64.csv",
        """\
name: matrix
frames:
  - {pattern: brightfield}
  - {each: {na: [0.0, 0.12]}}
  - {each: {angle_deg: [36, 40]}, variants: [low, high]}
  - {group: row3, colour: green}
  - {leds: [LED0, LED63], label: corners}
""",
    ),
    "arduino_43_leds": (
        "shipped:leds_43.csv",
        """\
name: arms
frames:
  - {pattern: brightfield}
  - {each: {leds: [plate-1, plate-2, plate-3]}}
  - {group: arm1, na: [0, 0.4], weight: 0.5, label: half-arm}
  - {each: {angle_deg: [23, 25]}, variants: [low, high]}
""",
    ),
}
IMAGES = {"illuminate_board": 23, "openuc2": 15, "arduino_43_leds": 15}
EXPOSURES_MS = {
    "illuminate_board": {
        "brightfield": 0.038, "left-half": 0.064, "dark-ring": 0.36, "": 1.8, "low": 1.8, "high": 7,
    },
    "openuc2": {
        "brightfield": 0.137, "row3-green": 0.51, "corners": 7.2, "": 2.2, "low": 6.5, "high": 26.0
    },
}  # fmt: skip
"""By label, or by variant: measured once, as for the Arduino here."""


def plsctl(*words: object) -> dict[str, object]:
    result: Result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return found


def microscope_with(name: str, table: str, folder: Path) -> Path:
    """The simulated microscope with the LED array of a shipped configuration."""
    hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text())
    array = yaml.safe_load(load_hardware(name).file.read_text())["led_array"]
    hardware["led_array"] = array | {"port": "simled://array", "geometry": table}
    hardware["camera"]["size_px"] = [400, 300]
    hardware["turret"] = {
        "device": None, "objectives": {"20x": hardware["turret"]["objectives"]["20x"]}
    }  # fmt: skip
    hardware["options"] = {
        "smear": {"white_cells_per_mm2": 400},
        "mount": {"focus_error_um": 0.0, "tilt_um_per_mm": 0.0, "drift_um_per_min": 0.0},
    }
    path = folder / "microscope.yaml"
    path.write_text(yaml.safe_dump(hardware))
    return path


def write_exposures(known_ms: dict[str, float], labels: list[str]) -> None:
    rows = ["led,variant,exposure_ms,gain,brightness"]
    for label in labels:
        led, _, variant = label.partition(":")
        rows.append(f"{led},{variant},{known_ms.get(label, known_ms[variant])},1,1")
    Path("exposures_20x.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("name", list(RECIPES))
def test_an_array_of_ones_own_scans_a_recipe_of_its_own_and_the_data_train(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table, text = RECIPES[name]
    microscope = microscope_with(name, table, tmp_path)
    Path("own.yaml").write_text(text)
    shown = plsctl("recipes", "own.yaml", "--hardware", microscope)["recipes"][0]  # type: ignore[index]
    assert shown["images"] == IMAGES[name]
    if name in EXPOSURES_MS:
        write_exposures(EXPOSURES_MS[name], shown["labels"])
    else:
        plsctl(
            "calibrate", "exposures", "--hardware", microscope, "--recipe", "own.yaml",
            "--at", 10100, 5080, "-o", "exposures_20x.csv",
        )  # fmt: skip
    with Path("exposures_20x.csv").open() as file:
        assert len(list(csv.DictReader(file))) == IMAGES[name]
    slide = {
        "slide": "own", "hardware": "microscope.yaml", "recipe": "own.yaml",
        "region": {"x_um": [10000, 10220], "y_um": [5000, 5160]},
        "exposures": "exposures_20x.csv", "focus": {"mode": "fixed"}, "slide_return": {"fields": 2},
        "passes": {"unstained": {"objective": "20x"}, "stained": {"objective": "20x"}},
    }  # fmt: skip
    Path("slide.yaml").write_text(yaml.safe_dump(slide))
    plsctl("scan", "slide.yaml", "--pass", "unstained", "--yes")
    Path("own.yaml").unlink()
    plsctl("scan", "scans/own", "--pass", "stained", "--yes", "--force")
    reader = ScanFolder(tmp_path / "scans" / "own").open_pass("unstained")
    dark = [frame for frame in reader.attributes.frames if not frame.bright_field]
    well = reader.names[0]
    for frame in dark:  # cells scatter some light, and less than enters directly
        mean = float(reader.frame(well, reader.labels.index(frame.label)).mean())
        assert reader.attributes.black_level + 0.3 < mean < 100
    plsctl("build-dataset", "scans/own", "-o", "own.zarr", "--split", "1:1:1")
    assert Dataset.open("own.zarr").labels == tuple(shown["labels"])
    plsctl(
        "train", "fast", "--data", "own.zarr", "--out", "run", "--steps", 2, "--batch", 2,
        "--width", 4, "--device", "cpu",
    )  # fmt: skip
    assert read_run(Path("run"))[1].labels == tuple(shown["labels"])
