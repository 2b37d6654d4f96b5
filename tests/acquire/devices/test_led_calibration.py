"""A measured array is kept beside the hardware file, and belongs to its LED table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.led_calibration import (
    LedCalibration,
    MeasuredLed,
    measured_now,
    read_led_calibration,
    write_measured,
)
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import save_geometry, standard_array
from plsctl.acquire.leds.pose import ArrayPose
from plsctl.acquire.plans.exposures import Exposure, ExposureTable
from plsctl.acquire.plans.plan import frame_records
from plsctl.acquire.plans.recipe_frames import Frame
from plsctl.acquire.plans.recipes import load_recipe


def own_hardware(folder: Path) -> Hardware:
    shipped = load_hardware("simulator_small").file
    text = shipped.read_text(encoding="utf-8").replace("shipped:leds_43.csv", "leds.csv")
    (folder / "own.yaml").write_text(text, encoding="utf-8")
    shutil.copy(shipped.with_name("leds_43.csv"), folder / "leds.csv")
    return load_hardware("own.yaml", folder)


def calibration(hardware: Hardware) -> LedCalibration:
    geometry = hardware.geometry()
    moved = ArrayPose(1.6, -1.2, 3.0, 3.0).move(geometry)
    return LedCalibration(
        **measured_now(hardware, "20x"),
        x_mm=1.6,
        y_mm=-1.2,
        height_mm=3.0,
        rotation_deg=3.0,
        tilt_x_deg=0.0,
        tilt_y_deg=0.0,
        rms=0.001,
        leds=tuple(MeasuredLed(led=led.led, direction=led.direction) for led in moved.leds),
    )


def test_scans_store_measured_directions_and_light_what_the_table_says(tmp_path: Path) -> None:
    hardware = own_hardware(tmp_path)
    assert read_led_calibration(hardware, "20x") is None
    path = write_measured(calibration(hardware), hardware)
    assert path == tmp_path / "own.calibration" / "leds_20x.yaml"
    found = read_led_calibration(hardware, "20x")
    assert found is not None
    recipe = load_recipe("full")
    lit = recipe.light(hardware.geometry(), 0.4)
    table = ExposureTable({frame.frame: Exposure(1.0, 1.0) for frame in lit})
    plain = frame_records(recipe, table, hardware.geometry(), 0.4)
    measured = frame_records(recipe, table, hardware.geometry(), 0.4, found.directions)
    assert [f.bright_field for f in measured] == [f.bright_field for f in plain]
    assert [f.direction for f in measured] == [f.direction for f in plain]
    (frame,) = (f for f in measured if f.label == Frame("arm1-18").label)
    assert frame.lit_from == pytest.approx(found.directions[4])
    assert np.hypot(*frame.lit_from) != pytest.approx(
        np.hypot(*frame.direction or (0, 0)), abs=1e-3
    )
    # What was written before there were measurements does not differ.
    assert "measured_direction" not in plain[1].model_dump()


def test_the_calibration_of_another_led_table_is_refused_and_packages_keep_none(
    tmp_path: Path,
) -> None:
    hardware = own_hardware(tmp_path)
    write_measured(calibration(hardware), hardware)
    save_geometry(ArrayPose(rotation_deg=36).move(standard_array()), tmp_path / "leds.csv")
    with pytest.raises(UserError, match="another LED table"):
        read_led_calibration(hardware, "20x")
    shipped = load_hardware("simulator_small")
    assert write_measured(calibration(shipped), shipped) is None
