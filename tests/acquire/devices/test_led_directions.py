"""Measured directions of LEDs: a calibration that scans use and keep, of one LED table alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from plsctl.acquire.devices.calibrations import (
    calibrated,
    calibration_folder,
    in_use,
    made,
    read_calibrations,
    write_calibration,
)
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.led_directions import LedDirections, MeasuredLed
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import (
    LedGeometry,
    load_geometry,
    save_geometry,
    standard_array,
)
from plsctl.acquire.leds.pose import ArrayPose
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.writer import PassWriter

SLIDE = """\
slide: measured
hardware: own.yaml
region: {x_um: [10000, 10400], y_um: [5000, 5400]}
exposures: shipped:exposures_20x.csv
"""
POSE = ArrayPose(1.6, -1.2, 3.0, 3.0)


def own_hardware(folder: Path) -> Hardware:
    shipped = load_hardware("simulator_small").file
    text = shipped.read_text(encoding="utf-8").replace("shipped:leds_43.csv", "leds.csv")
    (folder / "own.yaml").write_text(text, encoding="utf-8")
    (folder / "slide.yaml").write_text(SLIDE, encoding="utf-8")
    shutil.copy(shipped.with_name("leds_43.csv"), folder / "leds.csv")
    return load_hardware("own.yaml", folder)


def directions(hardware: Hardware, pose: ArrayPose = POSE) -> LedDirections:
    leds = [
        MeasuredLed(led=led.led, direction=led.direction)
        for led in pose.move(hardware.geometry()).leds
    ]
    fields = made(hardware, ["20x"], "", "board A", with_directions=True)
    return LedDirections.model_validate(fields | vars(pose) | {"rms": 0.001, "leds": leds})


def test_scans_store_measured_directions_and_light_what_the_table_says(tmp_path: Path) -> None:
    hardware = own_hardware(tmp_path)
    folder = calibration_folder(hardware)

    def opened() -> Scan:
        return open_scan(tmp_path / "slide.yaml", tmp_path / "scans")

    plain = opened().planner.frames("unstained")
    assert write_calibration(directions(hardware), folder) == folder / "leds_20x.yaml"
    scan = opened()
    measured = scan.planner.frames("unstained")
    assert in_use(scan.hardware) == ("leds of 20x (measured within the hour)",)
    assert [f.bright_field for f in measured] == [f.bright_field for f in plain]
    assert [f.direction for f in measured] == [f.direction for f in plain]
    truth = {led.name: led.direction for led in POSE.move(hardware.geometry()).leds}
    (frame,) = (f for f in measured if f.label == "arm1-18")
    assert frame.lit_from == pytest.approx(truth["arm1-18"])
    assert np.hypot(*frame.lit_from) != pytest.approx(
        np.hypot(*frame.direction or (0, 0)), abs=1e-3
    )
    # What was written before there were measurements does not differ.
    assert "measured_direction" not in plain[1].model_dump()

    # What is measured between two passes does not part them.
    scan.prepare_folder()
    attributes = scan.planner.attributes(scan.planner.plan("unstained"))
    PassWriter(scan.folder.pass_path("unstained"), attributes)
    write_calibration(directions(hardware, ArrayPose(0.5)), folder)
    assert opened().planner.frames("unstained") == measured


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (ArrayPose(rotation_deg=36).move(standard_array()), "other places of LEDs"),
        (load_geometry(load_hardware("simulator").resolve("shipped:leds_64.csv")), "other LEDs"),
    ],
)
def test_the_calibration_of_another_led_table_is_refused(
    tmp_path: Path, table: LedGeometry, told: str
) -> None:
    hardware = own_hardware(tmp_path)
    write_calibration(directions(hardware), calibration_folder(hardware))
    save_geometry(table, tmp_path / "leds.csv")
    with pytest.raises(UserError, match=f"{told} than the table that was measured") as raised:
        calibrated(hardware, read_calibrations(hardware))
    assert "plsctl calibrate leds --hardware own.yaml" in (raised.value.hint or "")


def test_a_file_that_does_not_name_its_hardware_is_refused_with_its_remedy(tmp_path: Path) -> None:
    hardware = own_hardware(tmp_path)
    path = write_calibration(directions(hardware), calibration_folder(hardware))
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["array"] = content.pop("hardware")["array"]["leds"]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_calibrations(hardware)
    assert str(raised.value) == (
        f"{path}: this calibration was measured by an earlier plsctl and does not say with which "
        "camera and LED array. Delete the file and measure anew: plsctl calibrate leds."
    )
