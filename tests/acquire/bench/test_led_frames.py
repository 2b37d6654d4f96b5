"""Images under every LED: each exposed as it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from plsctl.acquire.bench.bright_field import BrightFieldBench
from plsctl.acquire.bench.led_frames import take_led_frames
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.interrupt import StopRequest
from plsctl.process.focus.sharpness import GradientFocusMeasure


def test_every_led_is_exposed_well_and_a_dead_one_stays_dark(tmp_path: Path) -> None:
    document = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    document["camera"]["size_px"] = [160, 120]
    document["options"] |= {"led_array": {"light": [[4, 0.0], [30, 0.0]]}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with open_microscope(load_hardware("own.yaml", tmp_path)) as microscope:
        microscope.move_xy(11_000, 5_600)
        microscope.move_z(5006)
        bench = BrightFieldBench(
            microscope, GradientFocusMeasure(), StopRequest(), lambda what, done, count: None
        )
        frames = take_led_frames(bench)
    brightest = np.percentile(frames.images, 99.5, axis=(1, 2, 3))
    assert set(np.flatnonzero(brightest < 20)) == {4, 30}
    lit = np.setdiff1d(np.arange(43), [4, 30])
    assert (brightest[lit] > 80).all()
    assert (frames.images[lit] == 255).mean() < 0.02
    assert frames.light[42] > 10 * frames.light[37] > 0
