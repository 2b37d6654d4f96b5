"""The search for focus at one position: under which light, and from which height."""

from __future__ import annotations

from dataclasses import dataclass

from plsctl.acquire.capture.auto_exposure import ExposureCalibration
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.focus.sweep import find_focus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.slide import FocusSettings
from plsctl.acquire.roles import FocusMeasure
from plsctl.acquire.store.images import develop_mosaic

NEAR_UM = 8.0
"""Half range of a sweep where focus is known to be near."""


@dataclass(frozen=True)
class FocusLight:
    """The light under which focus is sought: LEDs and how long they shine."""

    leds: tuple[int, ...]
    exposure_ms: float
    gain: float
    brightness: float = 1.0


class FocusSearch:
    """Finds the height of focus at the present place.

    Under a dry objective by the LEDs just outside its aperture (`LedGeometry.outside_ring`).
    """

    def __init__(
        self,
        microscope: Microscope,
        measure: FocusMeasure,
        settings: FocusSettings,
        stop: StopRequest,
    ) -> None:
        self._microscope = microscope
        self._measure = measure
        self._settings = settings
        self._stop = stop
        self.light: FocusLight | None = None

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

    def find(self, centre_um: float, half_range_um: float) -> tuple[float, float]:
        """The height of focus near `centre_um` and the sharpness there.

        Raises
        ------
        HardwareError
            There is no focus in the range or near it.
        """
        self._microscope.move_z(centre_um)
        light = self.light or self.measure_light()
        self._microscope.light(light.leds, light.brightness)
        found = find_focus(
            self._sharpness,
            centre_um,
            half_range_um,
            self._settings.step_um,
            self._microscope.z_limits_um,
        )
        self._microscope.leds_off()
        return found

    def _sharpness(self, z_um: float) -> float:
        self._stop.check()
        self._microscope.move_z(z_um)
        light = self.light or self.measure_light()
        image = self._microscope.snap(light.exposure_ms, light.gain)
        camera = self._microscope.hardware.camera
        return self._measure.sharpness(develop_mosaic(image, camera.bayer, 2**camera.bit_depth - 1))
