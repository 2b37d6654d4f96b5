"""Fields of the simulated microscope with known places, and a whole scan of two positions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.roles import Operator, Roles
from plsctl.acquire.scanning.pass_run import run_pass
from plsctl.acquire.scanning.scan import open_scan
from plsctl.acquire.store.records import PASSES
from plsctl.process.cells.field_inspector import BrightfieldInspector
from plsctl.process.cells.finder import StainedCellFinder
from plsctl.process.focus.sharpness import GradientFocusMeasure
from plsctl.process.matching.shifts import EdgeShiftFinder
from plsctl.process.matching.slide_registration import CoarseRegistrar
from plsctl.sim.backend import open_world
from plsctl.sim.smear.cells import Cell
from plsctl.sim.world.world import World

Image = NDArray[np.uint8]
CENTRE_UM = (11_000.0, 5_600.0)
RETURNED = SlideTransform(*CENTRE_UM, 24.0, -18.0, 0.1)


@dataclass(frozen=True)
class Field:
    """An image, (y, x, rgb), and the affine map from its pixels to slide micrometres."""

    image: Image
    origin_um: NDArray[np.float64]
    axes_um: NDArray[np.float64]

    def to_slide(self, x: float, y: float) -> NDArray[np.float64]:
        return np.asarray(self.origin_um + self.axes_um @ np.array([x, y]))

    def to_pixel(self, x_um: float, y_um: float) -> NDArray[np.float64]:
        offset = np.array([x_um, y_um]) - self.origin_um
        return np.asarray(np.linalg.solve(self.axes_um, offset), dtype=np.float64)


@dataclass(frozen=True)
class Fields:
    """One place unstained, stained (returned, not corrected for), and its cells at 100x."""

    unstained: Field
    stained: Field
    highres: tuple[Field, ...]
    cells: tuple[Cell, ...]
    pixel_um: float
    centre_um: tuple[float, float]
    returned: SlideTransform


def _take(world: World, exposure_ms: float) -> Field:
    world.lit = {row.led: 1.0 for row in world.geometry.within(0.4)}
    image = world.expose(exposure_ms, 1.0)
    origin = np.array(world.to_slide(0, 0))
    axes = np.stack(
        [np.array(world.to_slide(1, 0)) - origin, np.array(world.to_slide(0, 1)) - origin], axis=1
    )
    return Field(np.asarray(image, dtype=np.uint8), origin, axes)


@pytest.fixture(scope="session")
def fields() -> Fields:
    """A small sensor's view of a smear rich in white cells, truth included."""
    hardware = load_hardware("simulator_small")
    camera = hardware.camera.model_copy(update={"size_px": (640, 480)})
    world = open_world(hardware.model_copy(update={"camera": camera}))
    world.look_at(*CENTRE_UM)
    unstained = _take(world, 0.22)
    commanded, arrived = world.commanded_um, world._arrived_um
    world.stained, world.transform = True, RETURNED
    world.commanded_um, world._arrived_um = commanded, arrived
    stained = _take(world, 0.22)
    around = world.smear.cells(CENTRE_UM[0] - 90, CENTRE_UM[1] - 70, *np.add(CENTRE_UM, (90, 70)))
    cells = tuple(cell for cell in around if cell.is_white and not cell.lost)
    world.turn_to("100x")
    world.oil = True
    highres = []
    for index, cell in enumerate(cells[:5]):
        x, y = cell.position(stained=True)
        world.look_at(x + 3.0 * (-1) ** index, y - 2.0)
        highres.append(_take(world, 5.3))
    return Fields(unstained, stained, tuple(highres), cells, 0.293, CENTRE_UM, RETURNED)


SLIDE = """\
slide: tiny
patient: P01
hardware: tiny_microscope.yaml
region: {x_um: [10000, 10200], y_um: [5000, 5100], overlap: 0.05}
recipe: le8deg
exposures: exposures_20x.csv
focus: {mode: fixed}
slide_return: {fields: 2}
passes:
  unstained: {objective: 20x}
  stained: {objective: 20x}
  highres: {objective: 100x, exposures: exposures_100x.csv}
"""


def _roles(operator: Operator | None) -> Roles:
    assert operator is not None
    return Roles(
        focus=GradientFocusMeasure(),
        field=BrightfieldInspector(),
        registrar=CoarseRegistrar(),
        cells=StainedCellFinder(),
        operator=operator,
        shifts=EdgeShiftFinder(),
    )


@pytest.fixture(scope="session")
def tiny_scan(make_once: Callable[..., Path]) -> Path:
    """All three passes of two positions on a microscope with a small, square sensor."""
    return make_once("tiny_scan", _take_tiny_scan) / "scans" / "tiny"


def _take_tiny_scan(folder: Path) -> None:
    shipped = load_hardware("simulator_small").file
    for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
        shutil.copy(shipped.parent / name, folder / name)
    hardware = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    hardware["led_array"]["geometry"] = "leds_43.csv"
    hardware["camera"]["size_px"] = [440, 440]
    hardware["options"] |= {
        "smear": {"white_cells_per_mm2": 300},
        "mount": {"focus_error_um": 0.0, "tilt_um_per_mm": 0.0, "drift_um_per_min": 0.0},
    }
    (folder / "tiny_microscope.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
    assert load_hardware("tiny_microscope.yaml", folder).camera.size_px == (440, 440)
    (folder / "slide.yaml").write_text(SLIDE, encoding="utf-8")
    scan = open_scan(folder / "slide.yaml", folder / "scans")
    for name in PASSES:
        run_pass(scan, name, _roles, StopRequest(), force=True)


@pytest.fixture
def slides(tiny_scan: Path, tmp_path: Path) -> Callable[[int], list[Path]]:
    """Copies of the tiny scan as so many scans of different slides."""

    def copy(count: int) -> list[Path]:
        return [_as_slide(tiny_scan, tmp_path / f"S{number}") for number in range(1, count + 1)]

    return copy


def _as_slide(scan: Path, folder: Path) -> Path:
    shutil.copytree(scan, folder)
    for name in PASSES:
        file = folder / f"{name}.ome.zarr" / "zarr.json"
        group = json.loads(file.read_text(encoding="utf-8"))
        group["attributes"]["plsctl"]["slide"] = folder.name
        file.write_text(json.dumps(group), encoding="utf-8")
    return folder


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Reads every file of a folder, by its path in it."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
