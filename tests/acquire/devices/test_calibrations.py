"""Calibrations beside a hardware file: used by scans, kept by them, refused by other hardware."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.devices.calibration_kinds import LedLight, ObjectiveOffsets, PixelSize
from plsctl.acquire.devices.calibrations import (
    age,
    calibrated,
    calibration_folder,
    foreign,
    has_folder,
    made,
    read_calibrations,
    write_calibration,
)
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.writer import PassWriter

SLIDE = """\
slide: measured
hardware: scope.yaml
region: {x_um: [10000, 10400], y_um: [5000, 5400]}
recipe: brightfield
exposures: exposures_20x.csv
"""


def describe(folder: Path, **changes: Any) -> Hardware:
    """A copy of the simulator's file, with sections changed."""
    shipped = load_hardware("simulator_small").file
    for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
        shutil.copy(shipped.parent / name, folder / name)
    content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section] |= values
    (folder / "scope.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / "slide.yaml").write_text(SLIDE, encoding="utf-8")
    return load_hardware(folder / "scope.yaml")


def pixel_size(hardware: Hardware, camera: str = "", **values: Any) -> PixelSize:
    content: dict[str, Any] = {
        "pixel_um": 0.3,
        "pixel_um_error": 0.0001,
        "rotation_deg": 3.0,
        "rotation_deg_error": 0.01,
        "mirrored": True,
        "backlash_um": [1.0, 12.0],
        "residual_um": 0.1,
        "images": 29,
    }
    return PixelSize.model_validate(made(hardware, ["20x"], camera, None) | content | values)


def offsets(hardware: Hardware, **values: Any) -> ObjectiveOffsets:
    content: dict[str, Any] = {
        "reference": "20x",
        "offset_um": [20.0, -10.0, 15.0],
        "offset_um_error": [0.1, 0.1],
        "scale": 5.0,
        "scale_error": 0.001,
        "rotation_deg": 0.5,
        "rotation_deg_error": 0.01,
        "fields": 9,
    }
    fields = made(hardware, ["20x", "100x"], "", None)
    return ObjectiveOffsets.model_validate(fields | content | values)


def test_what_was_measured_stands_in_place_of_the_file(tmp_path: Path) -> None:
    described = describe(tmp_path)
    folder = calibration_folder(described)
    for each in (offsets(described), pixel_size(described)):
        write_calibration(each, folder)
    found = calibrated(described, read_calibrations(described))
    assert [each.kind for each in found.calibrations] == ["pixel-size", "objectives"]
    assert found.pixel_um("20x") == 0.3
    assert found.pixel_um("100x") == pytest.approx(0.06)
    assert found.orientation("100x") == CameraOrientation(3.5, True)
    high = found.objective("100x")
    assert (high.offset_x_um, high.offset_y_um, high.offset_z_um) == (20.0, -10.0, 15.0)
    assert found.stage.backlash_um == 24.0
    assert found.described == described


def test_a_calibration_of_other_hardware_is_refused_in_one_sentence(tmp_path: Path) -> None:
    before = describe(tmp_path)
    write_calibration(pixel_size(before, "Basler 17"), calibration_folder(before))
    binned = describe(tmp_path, camera={"binning": 2, "size_px": [400, 300]})
    with pytest.raises(UserError, match=r"camera.binning was 1 and is now 2") as raised:
        calibrated(binned, read_calibrations(binned))
    assert "pixel-size_20x.yaml" in str(raised.value)
    same = describe(tmp_path)
    calibration = pixel_size(same, "Basler 17")
    assert foreign(calibration, same, camera="Basler 17") is None
    problem = foreign(calibration, same, camera="Basler 18")
    assert problem is not None and "was Basler 17 and is now Basler 18" in problem.message


def test_what_needs_the_led_array_is_refused_with_another(tmp_path: Path) -> None:
    described = describe(tmp_path)
    fields = made(described, ["20x"], "", "board A, 43 LEDs")
    light = LedLight.model_validate(fields | {"lights": {}, "sines": {}})
    assert foreign(light, described, array="board A, 43 LEDs") is None
    problem = foreign(light, described, array="board B, 43 LEDs")
    assert problem is not None and problem.field == "led_array.answers"
    other = describe(tmp_path, led_array={"geometry": "shipped:leds_64.csv"})
    assert foreign(light, other) is not None
    assert foreign(pixel_size(described), other) is None


def test_another_camera_is_seen_when_devices_open(tmp_path: Path) -> None:
    described = describe(tmp_path)
    used = calibrated(described, [pixel_size(described, "plsctl SimulatedCamera SIM-0")])
    with pytest.raises(UserError, match=r"SIM-0 and is now .*SIM-1"):
        open_microscope(used)


def test_a_file_of_the_package_has_no_calibrations() -> None:
    assert not has_folder(load_hardware("simulator_small"))


def test_a_begun_scan_keeps_its_calibrations_and_takes_new_ones_for_new_objectives(
    tmp_path: Path,
) -> None:
    described = describe(tmp_path)
    folder = calibration_folder(described)
    write_calibration(pixel_size(described), folder)

    def opened() -> Scan:
        return open_scan(tmp_path / "slide.yaml", tmp_path / "scans")

    scan = opened()
    scan.prepare_folder()
    plan = scan.planner.plan("unstained")
    attributes = scan.planner.attributes(plan)
    assert (attributes.pixel_um, attributes.camera_rotation_deg) == (0.3, 3.0)
    assert attributes.camera_mirrored
    PassWriter(scan.folder.pass_path("unstained"), attributes)
    write_calibration(pixel_size(described, pixel_um=0.31), folder)
    write_calibration(offsets(described), folder)
    again = opened()
    assert again.hardware.pixel_um("20x") == 0.3
    assert again.hardware.objective("100x").offset_x_um == 20.0
    again.prepare_folder()
    shutil.rmtree(folder)
    resumed = open_scan(scan.folder.path)
    assert resumed.hardware.pixel_um("100x") == pytest.approx(0.06)


def test_age_is_told_in_words() -> None:
    calibration = pixel_size(load_hardware("simulator_small"))
    for passed, words in (
        (timedelta(minutes=5), "measured within the hour"),
        (timedelta(hours=5), "measured 5 hours ago"),
        (timedelta(days=3), "measured 3 days ago"),
    ):
        assert age(calibration, calibration.measured + passed) == words
    assert calibration.measured <= datetime.now(UTC)
