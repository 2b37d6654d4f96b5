"""A position where focus is not found: left out and taken later, or kept and said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.focus.search import FocusSearch
from plsctl.acquire.focus.sweep import NoFocus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.cli.shared.roles import make_roles

LOST_UM = 10_080.0
"""Beyond this place (x) no focus is found while the search is broken."""


def _scan(folder: Path, on_failure: str) -> Scan:
    """Three fields in a row."""
    hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text("utf-8"))
    hardware["camera"]["size_px"] = [200, 150]
    (folder / "microscope.yaml").write_text(yaml.safe_dump(hardware), "utf-8")
    content = {
        "slide": "lost",
        "hardware": "microscope.yaml",
        "region": {"x_um": [10000, 10150], "y_um": [5000, 5040], "overlap": 0.1},
        "recipe": "le8deg",
        "exposures": "shipped:exposures_20x.csv",
        "focus": {"mode": "every", "on_failure": on_failure, "range_um": 16},
    }
    (folder / "slide.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return open_scan(folder / "slide.yaml", folder)


def _take(scan: Scan) -> PassResult:
    return run_pass(scan, "unstained", lambda who: make_roles(who, True), StopRequest())


def _break(patch: pytest.MonkeyPatch) -> None:
    find = FocusSearch.in_one_shot

    def in_one_shot(self: FocusSearch, centre_um: float, half_range_um: float) -> float | None:
        x, _, _ = self._microscope.position_um
        return None if x > LOST_UM else find(self, centre_um, half_range_um)

    def sweep(self: FocusSearch, centre_um: float, half_range_um: float) -> float:
        raise NoFocus("no focus was found.")

    patch.setattr(FocusSearch, "in_one_shot", in_one_shot)
    patch.setattr(FocusSearch, "sweep", sweep)


def test_a_position_without_focus_is_left_out_and_taken_by_the_next_run(tmp_path: Path) -> None:
    scan = _scan(tmp_path, "skip")
    with pytest.MonkeyPatch.context() as patch:
        _break(patch)
        result = _take(scan)
    assert (result.totals.positions, result.totals.skipped) == (2, 1)
    assert result.verdict is not None
    assert "1 of 3 positions are missing." in result.verdict.problems
    assert not scan.is_finished("unstained")
    again = _take(scan)
    assert (again.totals.positions, again.totals.skipped) == (1, 0)
    assert again.verdict is not None
    assert again.verdict.safe


def test_a_height_that_is_its_neighbours_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = _scan(tmp_path, "neighbours")
    _break(monkeypatch)
    result = _take(scan)
    assert result.totals.positions == 3
    reader = scan.folder.open_pass("unstained")
    by = [reader.position_metadata(name)["focus"] for name in reader.names]
    assert by == ["measured", "measured", "neighbours"]
    assert result.verdict is not None
    assert "A/3 (not found there, taken from elsewhere)" in result.verdict.in_words
