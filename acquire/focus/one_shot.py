"""The height of focus from two images, under the two LEDs that lie farthest apart.

Out of focus by u, the image under an LED lies tan(angle) u off, away from where it lies in focus:
under two LEDs the shift between the images is u (tan a1 - tan a2), as vectors. Near focus the
images of a thin phase object differ by more than a shift: what is bright in one is dark in the
other. So both are taken from farther away, where cells act as lenses and look alike under all
LEDs; away from the slide, so that the lens never comes nearer to it than focus lies.
"""

from __future__ import annotations

import itertools
import math

from plsctl.acquire.arrays import Image
from plsctl.acquire.capture.auto_exposure import ExposureCalibration, TooLittleLight
from plsctl.acquire.devices.heights import Heights, depth_of_field_um
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.leds.geometry import Led
from plsctl.acquire.roles import ParallaxFinder
from plsctl.acquire.store.images import develop_mosaic

STAND_OFF = 3.0
"""Images are taken so many depths of field from focus, at least. Nearer, the measured height is off
by 0.7 micrometres and, at last, by three (20x, NA 0.4)."""

RIM = 0.95
"""LEDs within this share of the aperture: one at its very rim may in truth lie outside."""

FARTHEST_SHARE = 0.45
"""Images are not shifted by more than this share of their shorter side: they must share enough."""

Tilt = tuple[float, float]
"""Tangent of the angle of the light in the sample, as a vector (x, y)."""


def led_direction(microscope: Microscope, led: Led) -> tuple[float, float]:
    """Direction cosines towards an LED, measured or of its table, in the axes of that."""
    return microscope.hardware.measured_directions.get(led.led, led.direction)


def led_tilt(microscope: Microscope, led: Led) -> Tilt:
    """How far, and which way, an image under an LED moves for each micrometre out of focus.

    In the axes of the image, micrometres in the sample, for a sample too near to the lens.
    """
    direction = led_direction(microscope, led)
    x, y = microscope.hardware.camera.orientation.to_image(*direction)
    index = microscope.objective.refractive_index
    scale = 1 / math.sqrt(index**2 - math.hypot(*direction) ** 2)
    return x * scale, y * scale


class OneShot:
    """Finds the height of focus at the present place from two images.

    Parameters
    ----------
    finder
        Compares the images.
    """

    def __init__(self, microscope: Microscope, finder: ParallaxFinder, stop: StopRequest) -> None:
        self._microscope = microscope
        self._finder = finder
        self._stop = stop
        self._dark: set[int] = set()
        self._away = Heights(microscope.hardware).away
        self.light: dict[int, tuple[float, float]] = {}
        """Exposure, ms, and gain by LED: measured when an LED is first used, then kept."""

    def farthest_pair(self) -> tuple[Led, Led] | None:
        """The two bright-field LEDs under which images move apart most; None without two."""
        microscope = self._microscope
        inside = [
            led
            for led in microscope.geometry.leds
            if led.led not in self._dark
            and math.hypot(*led_direction(microscope, led)) < RIM * microscope.objective.na
        ]
        tilts = {led: led_tilt(microscope, led) for led in inside}
        pairs = itertools.combinations(inside, 2)
        return max(pairs, key=lambda two: math.dist(*(tilts[led] for led in two)), default=None)

    @property
    def longest_reach_um(self) -> float:
        """How far from focus the search may start, for images that still share enough."""
        pair = self.farthest_pair()
        if pair is None:
            return 0.0
        apart = math.dist(*(led_tilt(self._microscope, led) for led in pair))
        side_um = min(self._microscope.hardware.camera.size_px) * self._microscope.pixel_um
        least_um = STAND_OFF * depth_of_field_um(self._microscope.objective)
        return max(0.0, (FARTHEST_SHARE * side_um / apart - least_um) / 2)

    def height(self, expected_um: float, reach_um: float) -> float | None:
        """The height of focus, which lies within `reach_um` of `expected_um`, from two images.

        None where it cannot be told: the images do not fit each other at one height, the lens may
        not go where they are to be taken, or an LED gives no light (the next time it is done
        without that one). The LEDs are dark afterwards.
        """
        microscope = self._microscope
        pair = self.farthest_pair()
        if pair is None:
            return None
        depth_um = depth_of_field_um(microscope.objective)
        away = self._away
        off_um = min(reach_um, self.longest_reach_um) + STAND_OFF * depth_um
        stand_um = expected_um + away * off_um
        try:
            microscope.check_limits(z_um=stand_um)
        except UserError:
            return None
        microscope.move_z(stand_um)
        images = [self._image(led) for led in pair]
        microscope.leds_off()
        first, second = images
        if first is None or second is None:
            return None
        tilts = [led_tilt(microscope, led) for led in pair]
        per_um = [(one - other) / microscope.pixel_um for one, other in zip(*tilts, strict=True)]
        # Up is towards the lens: the sample lies too far from it by `off_um`, more or less.
        nearest_um = (STAND_OFF - 1) * depth_um
        found = self._finder.height(
            first,
            second,
            (0.0, 0.0),
            (per_um[0], per_um[1]),
            (nearest_um - 2 * off_um, -nearest_um),
        )
        return None if found is None else stand_um + away * found

    def _image(self, led: Led) -> Image | None:
        """One image under an LED; None where it gives too little light."""
        self._stop.check()
        microscope = self._microscope
        if led.led not in self.light:
            calibration = ExposureCalibration(microscope, self._stop)
            try:
                light = calibration.search([led.led], True, led.name)
            except TooLittleLight:
                self._dark.add(led.led)
                return None
            self.light[led.led] = (light.exposure_ms, light.gain)
        microscope.light([led.led])
        image = microscope.snap(*self.light[led.led])
        camera = microscope.hardware.camera
        return develop_mosaic(image, camera.bayer, 2**camera.bit_depth - 1)
