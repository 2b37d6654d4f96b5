"""Fields of the simulated microscope with known places, for tests of matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.acquire.hardware import load_hardware
from plsctl.acquire.protocols import SlideTransform
from plsctl.sim.backend import open_world
from plsctl.sim.cells import Cell
from plsctl.sim.world import World

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
