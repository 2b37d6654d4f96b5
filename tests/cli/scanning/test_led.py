"""`plsctl led` drives the array of a hardware file and leaves its light on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plsctl.acquire.clock import WallClock
from plsctl.acquire.leds.geometry import standard_array
from plsctl.cli.app import app
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.ports import serve_tcp


@pytest.fixture
def board() -> IlluminateFirmware:
    places = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
    return IlluminateFirmware(places, WallClock(), round_trip_s=0, resets_on_open=False)


@pytest.fixture
def hardware(board: IlluminateFirmware, tmp_path: Path) -> Iterator[Path]:
    shipped = (files("plsctl.hardware_configs") / "micromanager_demo.yaml").read_text("utf-8")
    with serve_tcp(board) as server:
        path = tmp_path / "scope.yaml"
        path.write_text(shipped.replace("socket://127.0.0.1:5333", server.url), "utf-8")
        yield path


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["led", *arguments])


def test_lights_stay_lit_until_they_are_switched_off(
    board: IlluminateFirmware, hardware: Path
) -> None:
    result = _run("on", "0", "arm1-24", "--brightness", "1", "-H", str(hardware), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["lit"] == [0, 5]
    assert sorted(board.lit) == [0, 5]
    assert _run("pattern", "plate", "-H", str(hardware)).exit_code == 0
    assert sorted(board.lit) == [0, 1, 2]
    assert _run("off", "-H", str(hardware)).exit_code == 0
    assert board.lit == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["on", "43"], "no LED number 43"),
        (["on", "arm1-25"], "no LED 'arm1-25'. Did you mean 'arm1-"),
        (["pattern", "brightfeld"], "Did you mean 'brightfield'?"),
        (["on", "1", "--brightness", "2"], "brightness 2.0 is not between 0 and 1"),
    ],
)
def test_mistakes_are_told_and_light_nothing(
    board: IlluminateFirmware, hardware: Path, arguments: list[str], told: str
) -> None:
    result = _run(*arguments, "-H", str(hardware))
    assert result.exit_code == 2
    assert told in result.stderr
    assert board.lit == {}


def test_a_port_that_is_not_there_exits_2_and_a_silent_array_3(
    board: IlluminateFirmware, hardware: Path
) -> None:
    board.faults.lost_commands = 1000
    quick = "led_array:\n  timeout_s: 0.02\n  boot_timeout_s: 0.02"
    hardware.write_text(hardware.read_text("utf-8").replace("led_array:", quick), "utf-8")
    result = _run("off", "-H", str(hardware))
    assert result.exit_code == 3
    assert "nothing came back" in result.stderr
    port = hardware.read_text("utf-8").split("port: ")[1].split()[0]
    hardware.write_text(hardware.read_text("utf-8").replace(port, "/dev/no-such-tty"), "utf-8")
    result = _run("off", "-H", str(hardware))
    assert result.exit_code == 2
    assert "/dev/no-such-tty" in result.stderr
