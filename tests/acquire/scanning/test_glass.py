"""Bare glass beside the smear is no reason to call a field blurred, or a slide unstained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from plsctl.acquire.capture.content import cell_tiles, shows_cells
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.journal import read_journal
from plsctl.cli.shared.roles import make_roles
from plsctl.process.cells.field_inspector import BrightfieldInspector
from plsctl.sim.backend import open_world

REGION = {"x_um": [10000, 10240], "y_um": [5000, 5040], "overlap": 0.1}
EMPTY = [9900.0, 10500.0, 4000.0, 6000.0]


def scan_beside(folder: Path, bare_um: list[float], **slide: Any) -> Scan:
    """Five fields in a row; those within the rectangle show glass."""
    hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text("utf-8"))
    hardware["camera"]["size_px"] = [200, 150]
    hardware["options"] |= {
        "smear": {"bare_um": [bare_um], "white_cells_per_mm2": 200, "dust_per_mm2": 0},
        "mount": {"drift_um_per_min": 0.0, "return_shift_um": [12.0, -9.0]},
    }
    (folder / "microscope.yaml").write_text(yaml.safe_dump(hardware), "utf-8")
    content = {
        "slide": "glass",
        "hardware": "microscope.yaml",
        "region": REGION,
        "recipe": "le36deg-nohe",
        "exposures": "shipped:exposures_20x.csv",
        "focus": {"mode": "surface", "points": 2, "range_um": 16, "refresh_positions": 2},
    } | slide  # fmt: skip
    (folder / "slide.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return open_scan(folder / "slide.yaml", folder)


def take(scan: Scan, name: Any = "unstained") -> PassResult:
    return run_pass(scan, name, lambda who: make_roles(who, True), StopRequest())


@pytest.mark.parametrize(("bare_to_um", "stains"), [(10090.0, True), (10160.0, False)])
def test_a_slide_with_fields_of_glass_is_safe_and_found_again_stained(
    tmp_path: Path, bare_to_um: float, stains: bool
) -> None:
    """Fields partly and wholly empty: one or two, or most of them."""
    scan = scan_beside(tmp_path, [9900.0, bare_to_um, 4000.0, 6000.0])
    verdict = take(scan).verdict
    assert verdict is not None
    assert not [problem for problem in verdict.problems if "focus" in problem]
    assert verdict.safe
    assert verdict.unchecked == ()
    if stains:
        take(scan, "stained")


def test_where_there_is_only_glass_it_is_said_that_nothing_can_be_judged(tmp_path: Path) -> None:
    scan = scan_beside(tmp_path, EMPTY)
    with pytest.raises(HardwareError, match="all places looked at show bare glass"):
        take(scan)
    scan = scan_beside(tmp_path, EMPTY, focus={"mode": "fixed"}, recipe="le8deg")
    verdict = take(scan).verdict
    assert verdict is not None
    assert any("focus (0 of 5 fields show cells" in text for text in verdict.unchecked)
    assert "focus (0 of 5" in verdict.in_words
    events = [event["event"] for event in read_journal(scan.folder.journal)]
    assert "stain_not_judged" in events


def test_a_stained_pass_over_glass_alone_is_not_judged(tmp_path: Path) -> None:
    scan = scan_beside(
        tmp_path, EMPTY, focus={"mode": "fixed"}, recipe="le8deg", slide_return={"search": "none"}
    )
    take(scan)
    with pytest.raises(UserError, match="not safe to stain"):
        take(scan, "stained")
    # Forced past the verdict, and unforced from there, nothing is said of the stain.
    scan.safe_to_stain = lambda: True  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"cannot be judged whether the slide is stained: all \d"):
        take(scan, "stained")


@pytest.mark.parametrize("stained", [False, True])
@pytest.mark.parametrize("defocus_um", [0.0, 12.0])
def test_cells_are_told_from_glass_in_and_out_of_focus(stained: bool, defocus_um: float) -> None:
    described = load_hardware("simulator_small")
    camera = described.camera.model_copy(update={"size_px": (320, 240)})
    options = described.options | {"smear": {"bare_um": [[10000, 10500, 0, 20000]]}}
    world = open_world(described.model_copy(update={"camera": camera, "options": options}))
    if stained:
        world.stain()
    world.lit = {led.led: 1.0 for led in world.geometry.within(0.4)}
    seen = {}
    for x_um in (9900.0, 10000.0, 10300.0):
        world.look_at(x_um, 5000.0)
        world.move_z(world.z_um + defocus_um)
        seen[x_um] = np.asarray(world.image(0.236, 1.0), dtype=np.uint8)
    assert [shows_cells(image) for image in seen.values()] == [True, True, False]
    left = [box[2] for box in cell_tiles(seen[10000.0])]
    assert max(left) <= 256
    looks = [BrightfieldInspector().looks_stained(image) for image in seen.values()]
    assert looks[2] is None
    if defocus_um == 0:
        assert looks[:2] == [stained, stained]
