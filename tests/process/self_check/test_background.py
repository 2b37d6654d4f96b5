"""The process beside a scan: what becomes of it, and what is said when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from plsctl.process.self_check import background
from plsctl.process.self_check.background import BackgroundMonitor


def test_a_check_that_cannot_be_made_is_said_and_not_taken_for_sound(tmp_path: Path) -> None:
    monitor = BackgroundMonitor()
    monitor.begin(tmp_path, "unstained")
    process = monitor._process
    monitor.taken("A/1")
    report = monitor.finish(30.0)
    assert report.drifts == () and report.checked == ()
    assert report.unchecked[0].startswith("the instrument against its calibrations (")
    assert process is not None and process.poll() is not None


def test_the_process_ends_when_nobody_speaks_to_it_any_more() -> None:
    command = [sys.executable, "-P", "-m", "plsctl.process.self_check.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        # A killed scan closes its end of the line.
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_scan_goes_on_where_no_process_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = BackgroundMonitor()

    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monitor.begin(tmp_path, "unstained")
    monitor.taken("A/1")
    assert monitor.news() == []
    assert monitor.finish(1.0).unchecked == (
        f"{background.WHAT} (no process could be started: Cannot allocate memory)",
    )
