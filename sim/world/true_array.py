"""The LED array as it truly is: where its LEDs stand, and how bright each of them is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.leds.geometry import LedGeometry, load_geometry
from plsctl.acquire.leds.pose import ArrayPose
from plsctl.sim.world.settings import SimulatorSettings


def true_geometry(hardware: Hardware, settings: SimulatorSettings) -> LedGeometry:
    """The LEDs where they really are, under the numbers that light them."""
    truth = settings.led_array
    table = (
        hardware.geometry() if truth.table is None else load_geometry(hardware.resolve(truth.table))
    )
    pose = ArrayPose(*truth.moved_mm, truth.raised_mm, truth.rotation_deg, *truth.tilt_deg)
    leds = list(pose.move(table).leds)
    errors = np.random.default_rng((settings.seed, 0x91ACE)).normal(0, 1, (len(leds), 3))
    for number, (led, error) in enumerate(zip(leds, errors * truth.scatter_mm, strict=True)):
        x, y, z = (float(value) for value in error)
        leds[number] = replace(led, x_mm=led.x_mm + x, y_mm=led.y_mm + y, z_mm=led.z_mm + z)
    order = {led.led: index for index, led in enumerate(leds)}
    for one, other in truth.swapped:
        a, b = leds[order[one]], leds[order[other]]
        leds[order[one]] = replace(b, led=a.led, name=a.name)
        leds[order[other]] = replace(a, led=b.led, name=b.name)
    return LedGeometry(tuple(leds))


def led_brightness(geometry: LedGeometry, settings: SimulatorSettings) -> dict[int, float]:
    """Light of each LED at full drive, by its number, 1 for a usual one."""
    rng = np.random.default_rng((settings.seed, 0x1ED))
    spread = rng.uniform(-1, 1, len(geometry.leds)) * settings.led_spread
    lights = {led.led: 1 + float(s) for led, s in zip(geometry.leds, spread, strict=True)}
    left = dict(settings.led_array.light)
    return {led: light * left.get(led, 1.0) for led, light in lights.items()}
