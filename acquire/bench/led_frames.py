"""One image under every LED of the array, each with the exposure it needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.bench.bright_field import BenchLight, BrightFieldBench, Seen
from plsctl.acquire.bench.standing_still import moved_px
from plsctl.acquire.capture.auto_exposure import ExposureCalibration, Light, TooLittleLight
from plsctl.acquire.errors import UserError

MOST_SHIFT_PX = 1.0
"""How far the image may have moved between the first frame and the last."""


@dataclass(frozen=True)
class LedFrames:
    """Images of one field under each LED.

    Parameters
    ----------
    images
        8 bits, linear, shape (LED, y, x, rgb), in the order of the table.
    light
        Exposure (ms) times gain of each, shape (LED,).
    black_level
        In the counts of the images.
    answers
        What camera and LED array said of themselves.
    """

    images: NDArray[np.uint8]
    light: NDArray[np.float64]
    black_level: float
    answers: tuple[str, str] = ("", "")


def take_led_frames(bench: BrightFieldBench, longest_ms: float = 500.0) -> LedFrames:
    """Take one image under every LED of the table, where the bench stands in focus.

    Raises
    ------
    UserError
        The image has moved meanwhile. `bench.seen` shows it.
    """
    microscope = bench.microscope
    calibration = ExposureCalibration(microscope, bench.stop, longest_ms)
    camera, na = microscope.hardware.camera, microscope.objective.na
    leds = microscope.geometry.leds
    images, used = [], []
    for count, led in enumerate(leds, 1):
        found = _exposure(calibration, led.led, led.name, led.is_within(na))
        images.append(bench.snap(BenchLight((led.led,), found)))
        used.append(found)
        bench.progress("looking under every LED", count, len(leds))
    first = int(np.argmin([led.na for led in leds]))
    bench.remember(Seen(f"under {leds[first].name} at the beginning", images[first]))
    again = bench.snap(BenchLight((leds[first].led,), used[first]))
    bench.remember(Seen(f"under {leds[first].name} at the end", again))
    microscope.leds_off()
    moved = moved_px(images[first], again)
    if moved > MOST_SHIFT_PX:
        how = f"by {moved:.1f} pixels" if np.isfinite(moved) else "out of sight"
        raise UserError(
            f"the slide moved while the LEDs were measured: {how} between the first image and the "
            "last.",
            hint="Clamp the slide, let stage and focus come to rest, and measure again.",
        )
    black = camera.black_level * 255 / (2**camera.bit_depth - 1)
    light = np.array([each.amount for each in used])
    return LedFrames(np.stack(images), light, black, microscope.answers)


def _exposure(calibration: ExposureCalibration, led: int, name: str, bright: bool) -> Light:
    try:
        return calibration.search([led], bright, name)
    except TooLittleLight:
        # A dead LED, or one whose light comes from elsewhere.
        return calibration.search([led], False, name)
