"""A simulated array that departs from its table, seen at one place of a smear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.leds.pose import table_places
from plsctl.process.calibration.views import ArrayOptics, LedViews
from plsctl.sim.backend import open_world

TRUTH: dict[str, Any] = {
    "moved_mm": [1.6, -1.2],
    "raised_mm": 3.0,
    "rotation_deg": 3.0,
    "swapped": [[14, 23]],
    "light": [[30, 0.0]],
}


def take(folder: Path) -> None:
    """Images of all LEDs, each with an exposure of its own, and the true directions."""
    hardware = load_hardware("simulator_small")
    options = hardware.options | {"led_array": TRUTH}
    camera = hardware.camera.model_copy(update={"size_px": (480, 400)})
    world = open_world(hardware.model_copy(update={"options": options, "camera": camera}))
    world.move_z(5000.0)
    world.look_at(11_000, 5_600)
    images, light = [], []
    for led in world.geometry.leds:
        world.lit = {led.led: 1.0}
        exposure_ms = 3.0
        for _ in range(4):
            level = float(np.percentile(world.image(exposure_ms, 1.0), 99.5)) - 4
            exposure_ms = min(exposure_ms * (0.25 if level > 245 else 226 / max(level, 7)), 1000.0)
        images.append(world.image(exposure_ms, 1.0))
        light.append(exposure_ms)
    directions = [led.direction for led in world.geometry.leds]
    np.savez(
        folder / "views.npz", images=np.stack(images), light=np.array(light), directions=directions
    )


@pytest.fixture(scope="session")
def moved_array(make_once: Callable[..., Path]) -> tuple[LedViews, np.ndarray]:
    """What the camera sees, and the true direction cosines (LED, 2)."""
    held = np.load(make_once("moved-array", take) / "views.npz")
    return LedViews(held["images"], held["light"], 4.0, 255.0), held["directions"]


@pytest.fixture(scope="session")
def optics() -> ArrayOptics:
    """Microscope and array as they are described."""
    table = standard_array()
    return ArrayOptics(
        table_places(table), 0.293, 0.4, orientation=CameraOrientation(0.7), names=table.names
    )
