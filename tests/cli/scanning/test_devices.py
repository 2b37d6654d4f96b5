"""What `plsctl devices` says where Micro-Manager's adapters are missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from plsctl.acquire.devices.hardware import load_hardware


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Micro-Manager may be installed")
def test_without_adapters_the_simulator_says_nothing_and_a_camera_what_to_install(
    tmp_path: Path,
) -> None:
    """As on a computer where only plsctl is installed."""
    (tmp_path / "mm_test_adapters.py").write_text("raise ImportError('not installed')")
    (tmp_path / "x.cfg").write_text(
        "".join(
            f"Device,{label},{adapter},{device}\n"
            for label, adapter, device in (
                ("Camera", "SomeCamera", "Camera"),
                ("XYStage", "DemoCamera", "DXYStage"),
                ("ZStage", "DemoCamera", "DStage"),
            )
        )
    )
    shipped = load_hardware("arduino_43_leds").file.read_text(encoding="utf-8")
    described = shipped.replace("our_microscope.cfg", "x.cfg")
    described = described.replace("geometry: leds_43.csv", "geometry: shipped:leds_43.csv")
    (tmp_path / "scope.yaml").write_text(described, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    environment.pop("MICROMANAGER_PATH", None)

    def devices(hardware: str) -> subprocess.CompletedProcess[str]:
        code = "from plsctl.cli.app import main; main()"
        words = [sys.executable, "-c", code, "devices", "--hardware", hardware, "--json"]
        return subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip

    simulator = devices("simulator_small")
    assert simulator.returncode == 0
    assert "Micro-Manager" not in simulator.stderr
    answers = json.loads(devices("scope.yaml").stdout)["parts"]
    remedy = next(answer["remedy"] for answer in answers if answer["part"] == "core")
    assert re.search(r"device interface \d+; found: .*`mmcore install`", remedy)
