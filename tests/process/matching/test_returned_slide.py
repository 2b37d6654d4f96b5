"""A slide that comes back far off and turned is found; another one is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.slide import ReturnSettings
from plsctl.acquire.roles import Operator, Roles
from plsctl.acquire.scanning.pass_run import run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.scanning.slide_search import SlideSearch
from plsctl.acquire.store.folder import load_transform
from plsctl.cli.shared.roles import make_roles
from plsctl.process.matching.slide_registration import CoarseRegistrar
from plsctl.sim.backend import open_world

SLIDE = """\
slide: returned
hardware: tiny_microscope.yaml
region: {x_um: [10000, 10220], y_um: [5000, 5160], overlap: 0.05}
recipe: brightfield
exposures: exposures_20x.csv
focus: {mode: fixed}
slide_return: {fields: 3}
"""
CENTRE_UM = (10_110.0, 5_080.0)


def _roles(operator: Operator | None) -> Roles:
    return make_roles(operator, True)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Four small fields, unstained; after staining the slide will lie 300 um off."""
    folder = tmp_path_factory.mktemp("returned")
    shipped = load_hardware("simulator_small").file
    for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
        shutil.copy(shipped.parent / name, folder / name)
    hardware = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    hardware["led_array"]["geometry"] = "leds_43.csv"
    hardware["camera"]["size_px"] = [400, 300]
    hardware["options"]["mount"] = {
        "focus_error_um": 0.0,
        "tilt_um_per_mm": 0.0,
        "drift_um_per_min": 0.0,
        "return_centre_um": list(CENTRE_UM),
        "return_shift_um": [212.0, -212.0],
        "return_rotation_deg": 2.0,
    }
    (folder / "tiny_microscope.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
    (folder / "slide.yaml").write_text(SLIDE, encoding="utf-8")
    scan = open_scan(folder / "slide.yaml", folder / "scans")
    run_pass(scan, "unstained", _roles, StopRequest())
    return scan


def test_another_slide_is_refused(scan: Scan) -> None:
    hardware = scan.hardware
    smear = {"white_cells_per_mm2": 400, "seed": 2}
    other = open_world(
        hardware.model_copy(update={"options": {**hardware.options, "smear": smear}})
    )
    other.stained = True

    def look(x_um: float, y_um: float) -> Image:
        other.look_at(x_um, y_um)
        other.lit = {row.led: 1.0 for row in other.geometry.within(0.4)}
        return other.expose(0.22, 1.0).astype(np.uint8)

    before = scan.folder.open_pass("unstained")
    settings = ReturnSettings(fields=3, reach_um=150.0)
    search = SlideSearch(before, before.attributes, CoarseRegistrar(), settings)
    with pytest.raises(UserError, match="not found within 150 µm of where it lay"):
        search.find(look, check=lambda images: None)


def test_a_slide_300_um_off_and_turned_by_2_deg_is_found(scan: Scan) -> None:
    run_pass(scan, "stained", _roles, StopRequest())
    truth = SlideTransform(*CENTRE_UM, 212.0, -212.0, 2.0)
    found = load_transform(scan.folder)
    for place in ((10_000.0, 5_000.0), (10_220.0, 5_160.0)):
        # Staining moves cells by 0.3 um, the stage errs by as much.
        assert found.apply(*place) == pytest.approx(truth.apply(*place), abs=1.0)
    assert found.rotation_deg == pytest.approx(2.0, abs=0.2)
