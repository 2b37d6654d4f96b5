"""A camera that stands otherwise than its file says is named before a slide is stained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.scanning.overlaps import compare_overlaps, is_confirmed
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.folder import load_transform
from plsctl.cli.shared.roles import make_roles
from plsctl.process.matching.shifts import EdgeShiftFinder

SLIDE = """\
slide: turned
hardware: microscope.yaml
region: {x_um: [10000, 10160], y_um: [5000, 5110], overlap: 0.1}
recipe: brightfield
exposures: exposures_20x.csv
focus: {mode: fixed}
slide_return: {fields: 3}
"""
RETURNED = SlideTransform(10_080.0, 5_055.0, 40.0, -31.0, 0.4)


class Bench:
    """A small simulated microscope; what its file says of the camera, and what is true."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shipped = load_hardware("simulator_small").file
        for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
            shutil.copy(self.shipped.parent / name, folder / name)
        (folder / "slide.yaml").write_text(SLIDE)

    def describe(self, said: dict[str, Any], truth: dict[str, Any], **options: Any) -> Scan:
        hardware = yaml.safe_load(self.shipped.read_text(encoding="utf-8"))
        hardware["camera"] |= {"size_px": [320, 240]} | said
        hardware["options"] |= {
            "camera": truth,
            "mount": {
                "focus_error_um": 0.0,
                "tilt_um_per_mm": 0.0,
                "drift_um_per_min": 0.0,
                "return_centre_um": [RETURNED.centre_x_um, RETURNED.centre_y_um],
                "return_shift_um": [RETURNED.shift_x_um, RETURNED.shift_y_um],
                "return_rotation_deg": RETURNED.rotation_deg,
            },
        } | options  # fmt: skip
        (self.folder / "microscope.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
        return open_scan(self.folder / "slide.yaml", self.folder / "scans")


def take(scan: Scan, name: Any, force: bool = False) -> PassResult:
    return run_pass(scan, name, lambda who: make_roles(who, True), StopRequest(), force=force)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("truth", "field", "told"),
    [
        ({"mirrored": True}, "camera.mirrored", "under a camera that is mirrored"),
        ({"rotation_deg": 20.7}, "camera.rotation_deg", "not mirrored, turned by (19|20|21)"),
        ({"pixel_scale": 1.1}, "camera.pixel_pitch_um", "pixels of 0.3[12]"),
    ],
)
def test_a_camera_unlike_its_file_ends_the_pass_before_anything_is_taken(
    bench: Bench, truth: dict[str, Any], field: str, told: str
) -> None:
    scan = bench.describe({}, truth)
    with pytest.raises(UserError, match=told) as caught:
        take(scan, "unstained", force=True)
    assert caught.value.field == field
    assert not scan.is_begun("unstained")


def test_with_the_values_of_the_remedy_the_returned_slide_is_found(bench: Bench) -> None:
    truth = {"mirrored": True, "rotation_deg": 90.0}
    with pytest.raises(UserError, match="mirrored") as caught:
        take(bench.describe({}, truth), "unstained")
    remedy = yaml.safe_load(str(caught.value.hint).removeprefix("Write ").split("}")[0] + "}")
    assert remedy["camera"]["mirrored"] is True
    assert remedy["camera"]["rotation_deg"] == pytest.approx(90.0, abs=2.0)
    # The same folder takes the corrected file: nothing of the scan has been begun.
    scan = bench.describe(truth, {})
    verdict = take(scan, "unstained").verdict
    assert verdict is not None
    assert verdict.safe
    reader = scan.folder.open_pass("unstained")
    assert is_confirmed(compare_overlaps(reader, reader.names, EdgeShiftFinder()))
    take(scan, "stained")
    found = load_transform(scan.folder)
    for place in ((10_000.0, 5_000.0), (10_160.0, 5_110.0)):
        assert found.apply(*place) == pytest.approx(RETURNED.apply(*place), abs=3.0)


def test_a_camera_that_was_turned_between_the_passes_ends_the_stained_one(bench: Bench) -> None:
    take(bench.describe({}, {}), "unstained")
    # The simulator's options belong to the settings of a scan: only the world is exchanged.
    scan = bench.describe({}, {})
    scan.hardware.options["camera"] = {"rotation_deg": 180.0}
    with pytest.raises(UserError, match="turned by 1") as caught:
        take(scan, "stained")
    assert "Put the camera back" in str(caught.value.hint)
    assert not scan.is_begun("stained")


def test_a_slide_that_shows_nothing_is_not_safe_to_stain(bench: Bench) -> None:
    # The sharpness of an empty field is its noise; only the reason that counts here is looked at.
    nothing = ("white_cells", "red_cells", "dust", "water", "precipitate")
    empty = {f"{kind}_per_mm2": 0.0 for kind in nothing}
    scan = bench.describe({}, {"mirrored": True}, smear=empty)
    verdict = take(scan, "unstained").verdict
    assert verdict is not None
    assert not verdict.safe
    assert any("orientation not checked: no field shows enough" in p for p in verdict.problems)
    with pytest.raises(UserError, match="not safe to stain"):
        take(scan, "stained")
