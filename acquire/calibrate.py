"""Measured exposures: each LED's image uses the sensor's range, judged by its histogram.

papers/002 section 3.1.1: the image with the most detail and the least saturation, and for dark
field a second, higher exposure that brings out the inside of cells while bright edges burn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import HardwareError
from plsctl.acquire.exposures import Exposure, ExposureTable
from plsctl.acquire.focus import find_focus
from plsctl.acquire.microscope import Microscope
from plsctl.acquire.protocols import FocusJudge
from plsctl.acquire.recipes import BRIGHTFIELD, RECIPES, Frame
from plsctl.acquire.store import develop_mosaic

BRIGHT_TARGET = 0.75
"""Bright field: the background's level, as a share of full scale."""

LOW_TARGET = 0.9
"""Dark field, low: the level of all but the brightest 0.1 % of values."""

HIGH_FACTOR = 4.0
"""Dark field, high: this much more light than the low exposure."""

TRIALS = 12

FOCUS_RANGE_UM = 40.0
FOCUS_STEP_UM = 2.0


@dataclass(frozen=True)
class Light:
    """Exposure time times gain: what decides an image's level."""

    exposure_ms: float
    gain: float

    @property
    def amount(self) -> float:
        """The product of both."""
        return self.exposure_ms * self.gain


class ExposureCalibration:
    """Finds the exposure of every frame of the full recipe at the present place and focus.

    Parameters
    ----------
    longest_ms
        Exposures are not made longer than this; beyond it gain is raised.
    """

    def __init__(self, microscope: Microscope, longest_ms: float = 500.0) -> None:
        self._microscope = microscope
        camera = microscope.hardware.camera
        self._shortest_ms = camera.exposure_range_ms[0]
        self._longest_ms = min(longest_ms, camera.exposure_range_ms[1])
        self._highest_gain = camera.gain_range[1]
        self._full_scale = 2**camera.bit_depth - 1
        self._black = camera.black_level

    def measure(
        self, frames: Sequence[Frame], progress: Callable[[str], None]
    ) -> ExposureTable:
        """Exposures of the frames, in their order.

        Raises
        ------
        HardwareError
            A bright-field LED gives no light.
        """
        rows: dict[Frame, Exposure] = {}
        for frame in frames:
            if frame.variant == "high":
                low = rows[Frame(frame.led, "low")]
                light = self._split(low.exposure_ms * low.gain * HIGH_FACTOR)
            else:
                light = self._search(frame)
            rows[frame] = Exposure(round_to(light.exposure_ms, 3), round_to(light.gain, 3))
            progress(frame.label)
        self._microscope.leds_off()
        return ExposureTable(rows)

    def _search(self, frame: Frame) -> Light:
        leds = self._microscope.pattern(frame.led)
        self._microscope.light(leds)
        bright = frame.variant == ""
        wanted = (BRIGHT_TARGET if bright else LOW_TARGET) * self._full_scale - self._black
        light = self._split(5.0 if bright else 50.0)
        for _ in range(TRIALS):
            image = self._microscope.snap(light.exposure_ms, light.gain)
            level = self._level(image, bright)
            if level >= self._full_scale - self._black - 1:
                light = self._split(light.amount / 4)
                continue
            if abs(level / wanted - 1) < 0.03:
                break
            # The sensor is linear; below a few counts the estimate is noise, so go in steps.
            factor = wanted / level if level > 4 else 8.0
            following = self._split(light.amount * min(factor, 8.0))
            if following == light:
                break
            light = following
        else:
            level = self._level(self._microscope.snap(light.exposure_ms, light.gain), bright)
        if bright and level < wanted / 4:
            raise HardwareError(
                f"'{frame.led}' gives too little light: {level:.0f} of {self._full_scale} after "
                f"{light.exposure_ms:.0f} ms at gain {light.gain:g}.",
                hint="Check that LED and its cable, and that nothing blocks the light.",
            )
        return light

    def _level(self, image: NDArray[np.uint8 | np.uint16], bright: bool) -> float:
        # The brightest colour decides, so that none is lost.
        if image.ndim == 3:
            values = image.reshape(-1, image.shape[2])
            levels = np.median(values, axis=0) if bright else np.percentile(values, 99.9, axis=0)
            level = float(np.max(levels))
        else:
            level = float(np.median(image) if bright else np.percentile(image, 99.9))
        return level - self._black

    def _split(self, amount: float) -> Light:
        """Time first, then gain, within what the camera offers."""
        exposure = min(max(amount, self._shortest_ms), self._longest_ms)
        gain = min(max(amount / exposure, 1.0), self._highest_gain)
        return Light(exposure, gain)


def round_to(value: float, digits: int) -> float:
    """A value with so many significant digits."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value


def all_frames() -> tuple[Frame, ...]:
    """Every frame any named recipe takes, bright field first."""
    return RECIPES["full"]


def focus_here(
    microscope: Microscope, calibration: ExposureCalibration, judge: FocusJudge
) -> float:
    """Find focus at the present place under bright field and stay there; the height."""
    hardware = microscope.hardware
    start_um = hardware.focus_z_um + microscope.objective.offset_z_um
    microscope.move_z(start_um)
    light = calibration.measure([Frame(BRIGHTFIELD)], lambda _: None).rows[Frame(BRIGHTFIELD)]
    microscope.light(microscope.pattern(BRIGHTFIELD))

    def sharpness(z_um: float) -> float:
        microscope.move_z(z_um)
        image = microscope.snap(light.exposure_ms, light.gain)
        return judge.sharpness(develop_mosaic(image, hardware.camera.bayer))

    z_um, _ = find_focus(sharpness, start_um, FOCUS_RANGE_UM, FOCUS_STEP_UM)
    microscope.move_z(z_um)
    microscope.leds_off()
    return z_um
