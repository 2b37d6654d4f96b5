"""`plsctl scan` as a user runs it, on the simulated microscope with a very small sensor.

Where processes are signalled or killed they are real ones; elsewhere the command runs in this one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.store.folder import ScanFolder
from plsctl.cli.app import app

PLSCTL = [sys.executable, "-c", "from plsctl.cli.app import main; main()"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills processes as POSIX does")


ONE_PASS = {"unstained": {"objective": "20x"}}


def write_slide(folder: Path, **changes: object) -> Path:
    """A slide of 3 x 2 tiny fields, four images each, without drift."""
    hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text())
    hardware["camera"]["size_px"] = [256, 192]
    hardware["options"]["mount"] = {"drift_um_per_min": 0.0}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(hardware))
    slide: dict[str, object] = {
        "slide": "T1",
        "hardware": "tiny.yaml",
        "region": {"x_um": [10000, 10200], "y_um": [5000, 5100]},
        "recipe": "le8deg",
        "exposures": "shipped:exposures_20x.csv",
        "focus": {"points": 1, "range_um": 12, "step_um": 3, "refresh_positions": 2},
        "slide_return": {"fields": 3},
    }
    path = folder / "slide.yaml"
    path.write_text(yaml.safe_dump(slide | changes, sort_keys=False))
    return path


def plsctl(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


def error_of(result: Result) -> dict[str, object]:
    found: dict[str, object] = json.loads(result.stdout)["error"]
    assert "Traceback" not in result.stderr
    return found


def images(folder: Path, name: str) -> dict[str, np.ndarray]:
    reader = ScanFolder(folder).open_pass(name)
    return {
        well: np.stack([reader.raw_frame(well, i) for i in range(len(reader.labels))])
        for well in sorted(reader.names)
    }


def kill_when(folder: Path, command: Sequence[str], finished: int, frames: float) -> None:
    """Run a scan and kill it, without warning, some frames into a position."""
    journal = folder / "scan.jsonl"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            text = journal.read_text() if journal.exists() else ""
            if text.count('"position_finished"') >= finished:
                break
            time.sleep(0.002)
        time.sleep(0.03 * frames)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_killed_anywhere_a_scan_goes_on_to_the_same_images(tmp_path: Path) -> None:
    slide = write_slide(tmp_path)
    command = [*PLSCTL, "scan", str(slide), "--pass", "unstained", "--out"]
    for finished, frames in ((1, 1), (4, 3)):
        kill_when(
            tmp_path / "killed" / "T1", [*command, str(tmp_path / "killed")], finished, frames
        )
    before = ScanFolder(tmp_path / "killed" / "T1").open_pass("unstained")
    assert not before.attributes.finished
    assert 4 <= len(before.names) < 6
    resumed = plsctl("scan", slide, "--out", tmp_path / "killed", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["positions"] == 6 - len(before.names)
    whole = plsctl("scan", slide, "--pass", "unstained", "--out", tmp_path / "whole", "--json")
    assert json.loads(whole.stdout)["safe_to_stain"] is True
    expected = images(tmp_path / "whole" / "T1", "unstained")
    found = images(tmp_path / "killed" / "T1", "unstained")
    assert list(found) == list(expected)
    for well, stack in expected.items():
        assert np.array_equal(found[well], stack), well
    verified = plsctl("scan", slide, "--verify", "--out", tmp_path / "killed", "--json")
    assert verified.exit_code == 0, verified.stderr


def test_an_interrupted_scan_says_how_to_go_on(tmp_path: Path) -> None:
    slide = write_slide(tmp_path)
    command = [*PLSCTL, "scan", str(slide), "--pass", "unstained", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        journal = tmp_path / "T1" / "scan.jsonl"
        while not (journal.exists() and "position_finished" in journal.read_text()):
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Run the same command again" in text


def test_a_calibration_that_is_killed_leaves_nothing_lit(tmp_path: Path) -> None:
    write_slide(tmp_path)
    log = tmp_path / "led.log"
    hardware = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    hardware["options"]["led_log"] = str(log)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(hardware))
    table = tmp_path / "table.csv"
    command = [*PLSCTL, "calibrate", "exposures", "--hardware", str(tmp_path / "tiny.yaml")]
    with subprocess.Popen([*command, "-o", str(table)], stderr=subprocess.PIPE) as process:
        while not (log.exists() and log.read_text().endswith('"lit": [0]}\n')):
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert b"nothing was written" in text and not table.exists()
    assert json.loads(log.read_text().splitlines()[-1])["lit"] == []


def test_a_file_in_the_place_of_the_scan_is_told(tmp_path: Path) -> None:
    (tmp_path / "T1").touch()
    result = plsctl("scan", write_slide(tmp_path), "--out", tmp_path, "--json")
    assert result.exit_code == 2
    assert "a scan is a folder" in str(error_of(result)["message"])


def test_a_forecast_touches_nothing(tmp_path: Path) -> None:
    slide = write_slide(tmp_path)
    result = plsctl("scan", slide, "--dry-run", "--out", tmp_path / "scans", "--json")
    forecast = json.loads(result.stdout)
    assert (forecast["pass"], forecast["positions"], forecast["frames"]) == ("unstained", 6, 24)
    assert not (tmp_path / "scans").exists()


@pytest.mark.parametrize(
    ("changes", "words", "code", "field"),
    [
        ({"recipie": "full"}, "Did you mean 'recipe'", 2, "recipie"),
        ({"recipe": "fulll"}, "Did you mean 'full'", 2, "recipe"),
        ({"region": {"x_um": [74000, 76000], "y_um": [0, 500]}}, "limits", 2, "region.x_um"),
        ({"exposures": "nowhere.csv"}, "no such exposure table", 2, None),
        ({"hardware": "simulater"}, "Did you mean 'simulator'", 2, "hardware"),
    ],
)
def test_bad_settings_are_one_sentence(
    tmp_path: Path, changes: dict[str, object], words: str, code: int, field: str | None
) -> None:
    slide = write_slide(tmp_path, **changes)
    result = plsctl("scan", slide, "--pass", "unstained", "--out", tmp_path / "scans", "--json")
    error = error_of(result)
    assert result.exit_code == code
    assert words in str(error["message"])
    assert error["field"] == field
    assert not (tmp_path / "scans").exists()


def test_an_exposure_table_without_an_led_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "short.csv").write_text(
        "led,variant,exposure_ms,gain,brightness\nbrightfield,,0.2,1,1\nplate-1,,2,1,1\n"
    )
    slide = write_slide(tmp_path, exposures="short.csv", passes=ONE_PASS)
    result = plsctl("scan", slide, "--pass", "unstained", "--out", tmp_path / "scans", "--json")
    assert result.exit_code == 2
    assert "no row for the LED 'plate-2'" in str(error_of(result)["message"])
    assert not (tmp_path / "scans").exists()


def test_an_exposure_the_camera_cannot_take_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "long.csv").write_text(
        "led,variant,exposure_ms,gain,brightness\nbrightfield,,0.2,1,1\n"
        "plate-1,,2,1,1\nplate-2,,9000,1,1\nplate-3,,2,1,1\n"
    )
    slide = write_slide(tmp_path, exposures="long.csv", passes=ONE_PASS)
    result = plsctl("scan", slide, "--pass", "unstained", "--out", tmp_path / "scans", "--json")
    error = error_of(result)
    assert (result.exit_code, error["field"]) == (2, "exposure_ms")
    assert "'plate-2' has exposure_ms = 9000" in str(error["message"])
    assert not (tmp_path / "scans").exists()


@pytest.mark.parametrize(
    ("port", "words", "code"),
    [
        ("/dev/nowhere", "/dev/nowhere", 2),
        ("socket://127.0.0.1:9", "127.0.0.1:9", 2),
    ],
)
def test_a_port_that_cannot_be_opened_is_named(
    tmp_path: Path, port: str, words: str, code: int
) -> None:
    slide = write_slide(tmp_path)
    text = (tmp_path / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(text.replace("simled://array", port))
    result = plsctl("scan", slide, "--pass", "unstained", "--out", tmp_path / "scans", "--json")
    assert result.exit_code == code
    error = error_of(result)
    assert words in str(error["message"])
    assert str(error["file"]).endswith("tiny.yaml")


def test_a_slide_that_was_not_stained_is_refused(tmp_path: Path) -> None:
    two_fields = {"x_um": [10000, 10140], "y_um": [5000, 5050], "overlap": 0.0}
    slide = write_slide(tmp_path, region=two_fields, slide_return={"fields": 2})
    hardware = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    hardware["options"]["operator"] = "forgets to stain"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(hardware))
    first = plsctl("scan", slide, "--pass", "unstained", "--out", tmp_path)
    assert first.exit_code == 0, first.stderr
    assert "Safe to stain: yes" in first.stderr
    second = plsctl("scan", slide, "--pass", "stained", "--out", tmp_path, "--json")
    assert second.exit_code == 2
    assert "does not look stained" in str(error_of(second)["message"])
    assert not ScanFolder(tmp_path / "T1").pass_path("stained").exists()
    following = plsctl("scan", slide, "--out", tmp_path, "--json")
    assert json.loads(following.stdout) == {"pass": None, "next": "stained", "safe_to_stain": True}


def wait_for(journal: Path, event: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not (journal.exists() and f'"event": "{event}"' in journal.read_text()):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, f"no {event}"
        time.sleep(0.01)


def test_a_scan_pauses_and_stops_from_the_keyboard_and_by_signals(tmp_path: Path) -> None:
    import pty

    slide = write_slide(tmp_path)
    command = [*PLSCTL, "scan", str(slide), "--pass", "unstained", "--out", str(tmp_path)]
    journal = tmp_path / "T1" / "scan.jsonl"
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(journal, "frame", process)
        process.send_signal(signal.SIGTSTP)
        wait_for(journal, "paused", process)
        try:
            paused = journal.read_text().count('"event": "frame"')
            time.sleep(0.5)
            # Nothing is taken meanwhile; what was taken may still be on its way to the disk.
            assert journal.read_text().count('"event": "frame"') == paused
            os.write(keyboard, b"p")
            wait_for(journal, "went_on", process)
            os.write(keyboard, b"q")
            _, text = process.communicate(timeout=60)
        finally:
            process.kill()
    os.close(keyboard)
    os.close(terminal)
    assert process.returncode == 130
    assert b"LEDs dark" in text and b"the key q" in text
    resumed = plsctl("scan", slide, "--out", tmp_path, "--json")
    assert resumed.exit_code == 0, resumed.stderr
    verified = plsctl("scan", slide, "--verify", "--out", tmp_path, "--json")
    assert verified.exit_code == 0, verified.stderr
