"""The search for focus at one position: in one shot, or by a sweep where that tells nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from plsctl.acquire.capture.auto_exposure import ExposureCalibration
from plsctl.acquire.devices.heights import depth_of_field_um
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.focus.moving_sweep import (
    LEAST_SAMPLES,
    Sample,
    look_while_moving,
    moving_sweep,
)
from plsctl.acquire.focus.one_shot import OneShot
from plsctl.acquire.focus.sweep import find_focus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.slide import FocusSettings
from plsctl.acquire.roles import FocusMeasure, ParallaxFinder
from plsctl.acquire.store.images import develop_mosaic

NEAR_UM = 8.0
"""Half range of a search where focus is known to be near."""

CLOSE = 1.5
"""Half range, in depths of field, of the second look at a focus that was found from far away: what
the LEDs' directions are off by counts in proportion to the distance."""

FINE = 2 / 3
"""Heights of a sweep lie no farther apart than this share of the depth of field, in the end."""

FoundBy = Literal["one-shot", "sweep"]


@dataclass(frozen=True)
class FocusLight:
    """The light under which focus is sought: LEDs and how long they shine."""

    leds: tuple[int, ...]
    exposure_ms: float
    gain: float
    brightness: float = 1.0


class FocusSearch:
    """Finds the height of focus at the present place.

    From two images (`OneShot`), or, where these tell nothing or are not wanted, by a sweep: under a
    dry objective by the LEDs just outside its aperture (`LedGeometry.outside_ring`).

    Parameters
    ----------
    parallax
        Compares the two images; None: there are only sweeps.
    """

    def __init__(
        self,
        microscope: Microscope,
        measure: FocusMeasure,
        settings: FocusSettings,
        stop: StopRequest,
        parallax: ParallaxFinder | None = None,
    ) -> None:
        self._microscope = microscope
        self._measure = measure
        self._settings = settings
        self._stop = stop
        wanted = settings.method == "one-shot" and parallax is not None
        self._one_shot = OneShot(microscope, parallax, stop) if wanted and parallax else None
        self._looks_on_its_way = microscope.can_look_on_its_way
        self.light: FocusLight | None = None
        """That of the sweeps, once there was one."""

    @property
    def pair_light(self) -> dict[int, tuple[float, float]]:
        """Exposure, ms, and gain of the LEDs of the two images, where these have been taken."""
        return {} if self._one_shot is None else self._one_shot.light

    def measure_light(self) -> FocusLight:
        """Find the exposure for the focus light here; it is kept for all sweeps that follow."""
        geometry, na = self._microscope.geometry, self._microscope.objective.na
        ring = geometry.outside_ring(na)
        inside = not ring
        if inside:
            # All light enters an immersion lens; cells absorb it, and are sharpest in focus when
            # it comes from the rim of what bright field uses.
            hardware = self._microscope.hardware
            ring = geometry.inside_ring(hardware.objective(hardware.low_power).na)
        leds = tuple(led.led for led in ring)
        calibration = ExposureCalibration(self._microscope, self._stop)
        brightness = self._microscope.hardware.led_array.brightest(len(leds))
        found = calibration.search(leds, inside, "the LEDs for focus", brightness)
        self.light = FocusLight(leds, found.exposure_ms, found.gain, brightness)
        return self.light

    def find(self, centre_um: float, half_range_um: float) -> tuple[float, FoundBy]:
        """The height of focus near `centre_um`, and how it was found.

        Raises
        ------
        NoFocus
            There is no focus in the range or near it.
        """
        z_um = self.in_one_shot(centre_um, half_range_um)
        if z_um is not None:
            return z_um, "one-shot"
        return self.sweep(centre_um, half_range_um), "sweep"

    def in_one_shot(self, centre_um: float, half_range_um: float) -> float | None:
        """The height of focus from two images, or from two pairs; None where they do not tell."""
        if self._one_shot is None:
            return None
        close_um = CLOSE * depth_of_field_um(self._microscope.objective)
        z_um = self._one_shot.height(centre_um, half_range_um)
        if z_um is None or half_range_um <= max(NEAR_UM, close_um) >= abs(z_um - centre_um):
            return z_um
        return self._one_shot.height(z_um, close_um)

    def sweep(self, centre_um: float, half_range_um: float) -> float:
        """The height of focus near `centre_um` by a sweep (errors as for `find`)."""
        microscope = self._microscope
        microscope.move_z(centre_um)
        light = self.light or self.measure_light()
        microscope.light(light.leds, light.brightness)
        step_um = self._settings.step_um
        found_um = self._one_sweep(centre_um, half_range_um, step_um)
        fine_um = FINE * depth_of_field_um(microscope.objective)
        if step_um > fine_um:
            found_um = self._one_sweep(found_um, step_um, fine_um)
        microscope.leds_off()
        return found_um

    def _one_sweep(self, centre_um: float, half_range_um: float, step_um: float) -> float:
        """Images while z moves, or, where the drive does not allow it, at one height each."""
        limits_um = self._microscope.z_limits_um
        if self._looks_on_its_way:
            look = partial(self._look_while_moving, step_um)
            # On a shorter move too few images would be taken, however well the drive tells.
            enough_um = max(half_range_um, LEAST_SAMPLES / 2 * step_um)
            found_um = moving_sweep(look, centre_um, enough_um, limits_um)
            if found_um is not None:
                return found_um
            self._looks_on_its_way = False
        return find_focus(self._sharpness, centre_um, half_range_um, step_um, limits_um)[0]

    def _look_while_moving(self, step_um: float, low_um: float, high_um: float) -> list[Sample]:
        light = self.light or self.measure_light()

        def expose() -> None:
            self._stop.check()
            self._microscope.camera.expose(light.exposure_ms, light.gain)

        return look_while_moving(
            self._microscope, expose, self._image_sharpness, low_um, high_um, step_um
        )

    def _sharpness(self, z_um: float) -> float:
        self._stop.check()
        self._microscope.move_z(z_um)
        light = self.light or self.measure_light()
        self._microscope.camera.expose(light.exposure_ms, light.gain)
        return self._image_sharpness()

    def _image_sharpness(self) -> float:
        """That of the image exposed last."""
        image = self._microscope.camera.read()
        camera = self._microscope.hardware.camera
        return self._measure.sharpness(develop_mosaic(image, camera.bayer, 2**camera.bit_depth - 1))
