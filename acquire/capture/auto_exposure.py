"""Measured exposures: each LED's image uses the sensor's range, as its histogram shows.

papers/002 section 3.1.1: the image with the most detail and the least saturation, and for dark
field a second, higher exposure that brings out the inside of cells while bright edges burn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.leds.array import Colour
from plsctl.acquire.plans.exposures import Exposure, ExposureTable
from plsctl.acquire.plans.recipe_frames import Frame, LitFrame

BRIGHT_TARGET = 0.75
"""Bright field: the background's level, as a share of full scale, ..."""

HALO_TARGET = 0.95
"""... unless the brightest 1 % (halos around cells under a single LED) would reach beyond this."""

LOW_TARGET = 0.9
"""Dark field, low: the level of all but the brightest 0.1 % of values."""

HIGH_FACTOR = 4.0
"""Dark field, high: this much more light than the low exposure."""

TRIALS = 12

SATURATED = 100.0


class TooLittleLight(HardwareError):
    """LEDs whose light enters the objective give less than can be used."""


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
    """Finds the exposure of every frame of a recipe at the present place and focus.

    Parameters
    ----------
    stop
        Asked before every image whether to break off.
    longest_ms
        Exposures are not made longer than this; beyond it gain is raised.
    """

    def __init__(
        self, microscope: Microscope, stop: StopRequest, longest_ms: float = 500.0
    ) -> None:
        self._microscope = microscope
        self._stop = stop
        camera = microscope.hardware.camera
        self._shortest_ms = camera.exposure_range_ms[0]
        self._longest_ms = min(longest_ms, camera.exposure_range_ms[1])
        self._highest_gain = camera.gain_range[1]
        self._full_scale = 2**camera.bit_depth - 1
        self._black = camera.black_level

    def measure(
        self, frames: Sequence[LitFrame], bright_field_na: float, progress: Callable[[str], None]
    ) -> ExposureTable:
        """Exposures of the frames, in their order.

        `bright_field_na` is the aperture that divides the LEDs into bright and dark field.

        Raises
        ------
        TooLittleLight
            A bright-field LED gives no light.
        """
        rows: dict[Frame, Exposure] = {}
        for lit in frames:
            frame = lit.frame
            low = rows.get(Frame(frame.led, "low")) if frame.variant == "high" else None
            if low is not None:
                light = self._split(low.exposure_ms * low.gain * HIGH_FACTOR)
            else:
                light = self._search(lit, bright_field_na)
                if frame.variant == "high":
                    light = self._split(light.amount * HIGH_FACTOR)
            rows[frame] = Exposure(round_to(light.exposure_ms, 3), round_to(light.gain, 3))
            progress(frame.label)
        self._microscope.leds_off()
        return ExposureTable(rows)

    def _search(self, lit: LitFrame, bright_field_na: float) -> Light:
        leds = [led.led for led in lit.leds]
        bright = lit.is_bright_field(bright_field_na)
        return self.search(leds, bright, lit.frame.led, lit.weight, lit.colour)

    def search(
        self,
        leds: Sequence[int],
        bright: bool,
        name: str,
        brightness: float = 1.0,
        colour: Colour = "white",
    ) -> Light:
        """Exposure and gain that use the sensor's range under some LEDs, which stay lit.

        `bright` says whether their light enters the objective; `name` is for the error.
        """
        # A controller that has restarted meanwhile has another level.
        self._microscope.leds.forget_state()
        self._microscope.light(leds, brightness, colour)
        light = self._split(5.0 if bright else 50.0)
        for _ in range(TRIALS):
            reached = self._reached(light, bright)
            if reached >= SATURATED:
                light = self._split(light.amount / 4)
                continue
            if abs(reached - 1) < 0.03:
                break
            # The sensor is linear; below a few counts the estimate is noise, so go in steps.
            following = self._split(light.amount * min(1 / max(reached, 0.02), 8.0))
            if following == light:
                break
            light = following
        else:
            reached = self._reached(light, bright)
        if bright and reached < 0.25:
            raise TooLittleLight(
                f"'{name}' gives too little light: {100 * reached:.0f} % of what is wanted after "
                f"{light.exposure_ms:.0f} ms at gain {light.gain:g}.",
                hint="Check that LED and its cable, and that nothing blocks the light.",
            )
        return light

    def _reached(self, light: Light, bright: bool) -> float:
        """An image's level as a share of the wanted one; `SATURATED` if it cannot be measured."""
        self._stop.check()
        image = self._microscope.snap(light.exposure_ms, light.gain)
        targets = {50.0: BRIGHT_TARGET, 99.0: HALO_TARGET} if bright else {99.9: LOW_TARGET}
        # The brightest colour decides, so that none is lost.
        values = image.reshape(-1, image.shape[2] if image.ndim == 3 else 1)
        shares: list[float] = []
        for percentile, target in targets.items():
            level = float(np.percentile(values, percentile, axis=0).max())
            if level >= self._full_scale:
                return SATURATED
            shares.append((level - self._black) / (target * self._full_scale - self._black))
        return max(shares)

    def _split(self, amount: float) -> Light:
        """Time first, then gain, within what the camera offers."""
        exposure = min(max(amount, self._shortest_ms), self._longest_ms)
        gain = min(max(amount / exposure, 1.0), self._highest_gain)
        return Light(exposure, gain)


def round_to(value: float, digits: int) -> float:
    """A value with so many significant digits."""
    return float(f"{value:.{digits}g}")
