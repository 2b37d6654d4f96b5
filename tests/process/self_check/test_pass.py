"""A pass tells what has drifted: the simulated instrument changes after its calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.roles import Drift, DriftReport
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import open_scan
from plsctl.acquire.scanning.verdict import judge_pass
from plsctl.acquire.store.folder import ScanFolder
from plsctl.cli.scanning.calibration_steps import exposures_step
from plsctl.cli.shared.roles import make_roles
from plsctl.process.focus.sharpness import GradientFocusMeasure
from plsctl.process.matching.shifts import EdgeShiftFinder
from plsctl.process.self_check.checker import PassChecker
from plsctl.process.self_check.page import write_page

SIZE_PX, STEP_UM = (640, 480), (172.0, 129.0)


def test_whatever_has_changed_since_calibration_is_said(tmp_path: Path) -> None:
    changed = {
        "led_array": {"moved_mm": [0.8, -0.6], "swapped": [[13, 29]], "light": [[12, 0.8]]},
        "camera": {"rotation_deg": 1.3},
    }
    _scan(tmp_path, changed, columns=2, recipe="le36deg-nohe")
    checker = PassChecker(tmp_path / "scans" / "checked", "unstained")
    for name in list(checker.reader.names):
        checker.add(name)
    due = checker.array.due()
    assert due == "A/1"
    # A second position would confirm it; where there is none, it is told all the same.
    assert [drift.kind for drift in checker.look(due)] == ["dim"]
    checker.conclude()
    report = checker.report()
    said = {f"{drift.kind} {drift.led}".strip(): drift for drift in report.drifts}
    assert set(said) == {"array", "swapped arm2-24, arm4-24", "dim arm2-18", "camera rotation"}
    assert report.values["array_x_mm"] == pytest.approx(0.8, abs=0.3)
    assert report.values["array_y_mm"] == pytest.approx(-0.6, abs=0.3)
    assert report.values["camera_turn_deg"] == pytest.approx(0.6, abs=0.2)
    assert report.values["least_light"] == pytest.approx(0.8, abs=0.03)
    # What is stored under a wrong name spoils the slide, an array that was never calibrated not.
    assert [drift.kind for drift in report.drifts if drift.spoils] == ["swapped"]
    page = write_page(checker).read_text("utf-8")
    assert all(drift.text[5:] in page for drift in said.values())


def test_nothing_is_said_of_a_sound_instrument(tmp_path: Path, monitored: None) -> None:
    result = _scan(tmp_path, {}, columns=2, recipe="le18deg")
    assert result.drift.drifts == () and abs(result.drift.values["array_x_mm"]) < 0.3
    assert any("LED array against its table" in text for text in result.drift.checked)
    # Without the light of before nobody can say that no LED has dimmed.
    assert any("LEDs dimmed since calibration" in text for text in result.drift.unchecked)
    assert result.verdict is not None and result.verdict.safe
    reader = ScanFolder(tmp_path / "scans" / "checked").open_pass("unstained")
    for spoils in (False, True):
        drift = Drift("swapped", "A/2", "LEDs a and b are swapped.", "Put them right.", spoils)
        verdict = judge_pass(
            reader, GradientFocusMeasure(), EdgeShiftFinder(), drift=DriftReport((drift,))
        )
        assert verdict.safe is not spoils and verdict.drift.drifts == (drift,)


def _scan(folder: Path, changed: dict[str, Any], columns: int, recipe: str) -> PassResult:
    """Two rows of fields; the light of LEDs is kept before the instrument changes, if it does."""
    hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text("utf-8"))
    hardware["camera"]["size_px"] = list(SIZE_PX)
    hardware["options"]["mount"] = {"focus_error_um": 0.0, "tilt_um_per_mm": 0.0}
    file = folder / "microscope.yaml"
    file.write_text(yaml.safe_dump(hardware), "utf-8")
    if changed:
        place = (11000.0, 5600.0)
        exposures_step(str(file), None, place, True, folder / "table.csv", recipe, 500.0)
    hardware["options"] |= changed
    file.write_text(yaml.safe_dump(hardware), "utf-8")
    low, sides = (10000.0, 5000.0), (STEP_UM[0] * (columns - 0.1), STEP_UM[1] * 1.9)
    slide = {
        "slide": "checked",
        "hardware": "microscope.yaml",
        "region": {
            "x_um": [low[0], low[0] + sides[0]],
            "y_um": [low[1], low[1] + sides[1]],
            "overlap": 0.08,
        },
        "recipe": recipe,
        "exposures": "table.csv" if changed else "shipped:exposures_20x.csv",
        "focus": {"mode": "fixed"},
        "passes": {"unstained": {"objective": "20x"}},
    }
    (folder / "slide.yaml").write_text(yaml.safe_dump(slide), "utf-8")
    scan = open_scan(folder / "slide.yaml", folder / "scans")
    return run_pass(scan, "unstained", lambda who: make_roles(who, True), StopRequest())
