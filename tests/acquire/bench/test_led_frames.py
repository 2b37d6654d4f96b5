"""Images under every LED: each exposed as it needs, refused where they cannot tell anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from plsctl.acquire.bench.led_frames import UnusableField, check_field, take_led_frames
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.interrupt import StopRequest


def hardware(folder: Path, **options: Any) -> Hardware:
    document = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    document["camera"]["size_px"] = [160, 120]
    document["options"] |= options
    (folder / "own.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return load_hardware("own.yaml", folder)


def test_every_led_is_exposed_well_and_a_dead_one_stays_dark(tmp_path: Path) -> None:
    described = hardware(tmp_path, led_array={"light": [[4, 0.0], [30, 0.0]]})
    with open_microscope(described) as microscope:
        microscope.move_xy(11_000, 5_600)
        microscope.move_z(5006)
        frames = take_led_frames(microscope, StopRequest())
    brightest = np.percentile(frames.images, 99.5, axis=(1, 2, 3))
    assert set(np.flatnonzero(brightest < 20)) == {4, 30}
    lit = np.setdiff1d(np.arange(43), [4, 30])
    assert (brightest[lit] > 80).all()
    assert (frames.images[lit] == 255).mean() < 0.02
    assert frames.light[42] > 10 * frames.light[37] > 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"smear": {"bare_um": [[10_000, 12_000, 5_000, 6_000]]}}, "bare glass"),
        ({"led_array": {"light": [[led, 0.0] for led in range(43)]}}, "dark"),
    ],
)
def test_a_field_that_tells_nothing_is_refused_with_its_image(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    with open_microscope(hardware(tmp_path, **options)) as microscope:
        microscope.move_xy(11_000, 5_600)
        microscope.move_z(5006)
        with pytest.raises(UnusableField, match=reason) as caught:
            check_field(microscope, StopRequest())
    assert caught.value.exit_code == 2
    assert caught.value.images[0][1].shape == (120, 160, 3)
