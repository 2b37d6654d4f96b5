"""Measured exposures: each LED's image uses the sensor's range, as its histogram shows.

papers/002 section 3.1.1: the image with the most detail and the least saturation, and for dark
field a second, higher exposure that brings out the inside of cells while bright edges burn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.leds.array import Colour
from plsctl.acquire.plans.exposures import Exposure, ExposureTable
from plsctl.acquire.plans.recipe_frames import Frame, LitFrame

TARGET, PERCENTILE = 0.9, 99.5
"""The level of all but the brightest half percent of values, as a share of full scale: above black
and in the brightest colour, so that none is lost."""

HIGH_FACTOR = 4.0
"""Dark field, high: this much more light than the low exposure."""

TRIALS = 6
"""Most images that are taken of one frame."""

NEAR = 0.03
"""A level that departs from its target by no more is not measured again."""

LEAST_LEVEL = 0.02
"""A level below this share of its target is noise: the next image gets `STEP` times the light."""

STEP = 10.0


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
        self._found: dict[tuple[Colour, float], float] = {}
        self._level = 1.0
        self._even: float | None = None
        self.lights: dict[str, float] = {}
        """Light of each measured frame: level over target, for a millisecond at gain 1."""
        self.evenness: dict[str, float] = {}
        """Median of each frame's last image over the level of its target: high in bright field,
        where most of an image is glass; not for frames that stayed dark or saturated."""

    def measure(
        self, frames: Sequence[LitFrame], bright_field_na: float, progress: Callable[[str], None]
    ) -> ExposureTable:
        """Exposures of the frames, in their order.

        `bright_field_na` is the aperture that divides the LEDs into bright and dark field. What
        light each frame has is kept in `lights`.

        Raises
        ------
        TooLittleLight
            A bright-field LED gives no light.
        """
        rows: dict[Frame, Exposure] = {}
        self.lights, self.evenness = {}, {}
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
        start = self._likely(lit)
        light = self.search(leds, bright, lit.frame.led, lit.weight, lit.colour, start)
        if len(lit.leds) == 1:
            sine = math.hypot(*lit.leds[0].direction)
            self._found[lit.colour, sine] = light.amount
        self.lights[lit.frame.label] = self._level / light.amount
        if self._even is not None:
            self.evenness[lit.frame.label] = self._even
        return light

    def _likely(self, lit: LitFrame) -> float | None:
        """The light that the LED nearest in angle has needed: others of its ring need about it."""
        if len(lit.leds) != 1:
            return None
        sine = math.hypot(*lit.leds[0].direction)
        known = [angle for colour, angle in self._found if colour == lit.colour]
        nearest = min(known, key=lambda angle: abs(angle - sine), default=None)
        return None if nearest is None else self._found[lit.colour, nearest]

    def search(
        self,
        leds: Sequence[int],
        bright: bool,
        name: str,
        brightness: float = 1.0,
        colour: Colour = "white",
        start: float | None = None,
    ) -> Light:
        """Exposure and gain that use the sensor's range under some LEDs, which stay lit.

        `bright` says whether their light enters the objective; `name` is for the error; `start` is
        the light (exposure time x gain) to begin with, where it is known.
        """
        # A controller that has restarted meanwhile has another level.
        self._microscope.leds.forget_state()
        self._microscope.light(leds, brightness, colour)
        light = self._split(start or (5.0 if bright else 50.0))
        reached: float | None = None
        for _ in range(TRIALS):
            reached = self._reached(light)
            if reached is None:  # saturated
                following = self._split(light.amount / 4)
            elif reached < LEAST_LEVEL:
                following = self._split(light.amount * STEP)
            elif abs(reached - 1) <= NEAR:
                break
            else:  # the sensor is linear
                following = self._split(light.amount / reached)
            if following == light:
                break
            if reached is not None:
                reached *= following.amount / light.amount
            light = following
        if bright and reached is not None and reached < 0.25:
            raise TooLittleLight(
                f"'{name}' gives too little light: {100 * reached:.0f} % of what is wanted after "
                f"{light.exposure_ms:.0f} ms at gain {light.gain:g}.",
                hint="Check that LED and its cable, and that nothing blocks the light.",
            )
        self._level = 1.0 if reached is None else reached
        return light

    def _reached(self, light: Light) -> float | None:
        """An image's level as a share of the wanted one; None where that is saturated."""
        self._stop.check()
        image = self._microscope.snap(light.exposure_ms, light.gain)
        values = image.reshape(-1, image.shape[2] if image.ndim == 3 else 1)
        level = float(np.percentile(values, PERCENTILE, axis=0).max())
        self._even = None
        if level >= self._full_scale:
            return None
        reached = float((level - self._black) / (TARGET * self._full_scale - self._black))
        if reached >= LEAST_LEVEL:
            middle = float(np.median(values, axis=0).max())
            self._even = (middle - self._black) / (level - self._black)
        return reached

    def _split(self, amount: float) -> Light:
        """Time first, then gain, within what the camera offers."""
        exposure = min(max(amount, self._shortest_ms), self._longest_ms)
        gain = min(max(amount / exposure, 1.0), self._highest_gain)
        return Light(exposure, gain)


def round_to(value: float, digits: int) -> float:
    """A value with so many significant digits."""
    return float(f"{value:.{digits}g}")
