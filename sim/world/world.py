"""The shared world: one smear on one stage, under one objective and one LED array.

Camera, stages, turret and LED firmware each hold the same world, so moving the stage or lighting
an LED changes what the camera sees, as at a real microscope.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import CameraOrientation, ImageAxes, SlideTransform
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.devices.hardware_parts import Objective
from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, ObjectGrid, object_grid
from plsctl.sim.faults import FaultCounter
from plsctl.sim.firmware.board import Lit, Tint
from plsctl.sim.smear.smear import Smear
from plsctl.sim.smear.view import View
from plsctl.sim.world.changes import Changes
from plsctl.sim.world.clock import RealClock, SimulatedClock, WorldClock
from plsctl.sim.world.focus_drive import FocusDrive
from plsctl.sim.world.prepared_images import open_prepared
from plsctl.sim.world.rendered_field import (
    RateImage,
    RenderedField,
    fast_forward_fft,
    fast_inverse_fft,
)
from plsctl.sim.world.sensor import Sensor
from plsctl.sim.world.settings import ObjectiveTruth, SimulatorSettings
from plsctl.sim.world.true_array import led_brightness, true_geometry

TURRET_S = 1.0
"""Time the turret takes to turn."""

OVERSHOOT_UM = 20.0
"""How far a stage that overshoots goes too far, on both axes."""

REFERENCE_MAGNIFICATION = 20.0
"""The sensor's light level is defined at this magnification; a higher one spreads the light."""


NO_CHANGE: Tint = (1.0, 1.0, 1.0)

LAMP = 2**31 - 1
"""Stands for all LEDs, in what tells one image from another."""


class World:
    """Everything the simulated devices have in common."""

    def __init__(self, hardware: Hardware, settings: SimulatorSettings) -> None:
        self.hardware = hardware
        self.settings = settings
        self.clock: WorldClock = RealClock() if settings.clock == "real" else SimulatedClock()
        self.faults = FaultCounter(settings.faults)
        self.smear = Smear(settings.smear)
        self.sensor = Sensor(
            settings.sensor,
            hardware.camera.size_px,
            bit_depth=hardware.camera.bit_depth,
            bayer=hardware.camera.bayer,
            black_level=hardware.camera.black_level,
        )
        self.geometry = true_geometry(hardware, settings)
        self.on_trigger: Callable[[float], None] = lambda time_s: None
        """Told when a pulse reaches the camera's trigger input."""
        self.lit: Lit = {}
        self.changes = Changes()
        """What has become of the instrument since it was described."""
        self.tints: dict[int, Tint] = {}
        """Shares of red, green and blue, of LEDs that do not shine white."""
        self.read_light: Callable[[], tuple[Lit, dict[int, Tint]]] | None = None
        """Asks an array in another process what it shines."""
        self.stained = False
        self.oil = False
        self.transform = SlideTransform(0.0, 0.0, 0.0, 0.0, 0.0)
        self.objective_name = hardware.low_power
        self.commanded_um = (0.0, 0.0)
        is_down = hardware.turret.retract_direction == "down"
        self.drive = FocusDrive(self.clock, hardware.stage.z_um[0 if is_down else 1])
        self._arrived_um = (0.0, 0.0)
        self._repeats: Counter[tuple[object, ...]] = Counter()
        self._brightness = led_brightness(self.geometry, settings)
        self.rendered = RenderedField(settings.image_cache_mb)
        self._prepared = open_prepared(hardware, settings)

    # The bench -------------------------------------------------------------------------------

    def stain(self) -> None:
        """Take the slide out, stain it and put it back: it comes to lie a little differently."""
        mount = self.settings.mount
        self.stained = True
        self.transform = SlideTransform(
            *mount.return_centre_um, *mount.return_shift_um, mount.return_rotation_deg
        )

    def happen(self) -> None:
        """An exposure begins: what has changed from it on."""
        self.changes = Changes.now(self.faults)

    def add_oil(self) -> None:
        """Put a drop of immersion oil on the slide."""
        self.oil = True

    # Stage and turret ------------------------------------------------------------------------

    def move_xy(self, x_um: float, y_um: float) -> None:
        """Travel; where the stage really comes to stand depends on target and direction alone."""
        stage = self.hardware.stage
        before = self.commanded_um
        distance = math.dist(before, (x_um, y_um))
        self.clock.sleep(distance / stage.speed_um_per_s + stage.settle_ms / 1000)
        truth = self.settings.stage
        key = (self.settings.seed, 0x57A6E, round(x_um * 100) % 2**32, round(y_um * 100) % 2**32)
        error = np.random.default_rng(key).normal(0.0, truth.repeatability_um / 2, 2)
        slack = [
            truth.backlash_um if start > end else 0.0
            for start, end in zip(before, (x_um, y_um), strict=True)
        ]
        if self.faults.now("stage_stalls"):
            x_um, y_um = (before[0] + x_um) / 2, (before[1] + y_um) / 2
        if self.faults.now("stage_overshoots"):
            x_um, y_um = x_um + OVERSHOOT_UM, y_um + OVERSHOOT_UM
        self.commanded_um = (x_um, y_um)
        self._arrived_um = (x_um + float(error[0]) + slack[0], y_um + float(error[1]) + slack[1])
        self._repeats.clear()

    def look_at(self, x_um: float, y_um: float) -> None:
        """Put a point of the slide into the middle of the image, exactly and in focus."""
        x, y = self.transform.apply(x_um, y_um)
        truth, objective = self.objective_truth, self.objective
        self.commanded_um = (x, y)
        self._arrived_um = (
            x + objective.offset_x_um + truth.offset_x_um,
            y + objective.offset_y_um + truth.offset_y_um,
        )
        self.z_um -= self.defocus_um()
        self._repeats.clear()

    @property
    def z_um(self) -> float:
        """Where the focus drive is now."""
        return self.drive.z_um()

    @z_um.setter
    def z_um(self, value: float) -> None:
        self.drive.put(value)

    def start_z(self, z_um: float) -> None:
        """Send the focus drive to a height; it is on its way when this returns."""
        self.drive.start((self.z_um + z_um) / 2 if self.faults.now("z_stalls") else z_um)

    def move_z(self, z_um: float) -> None:
        """Move the focus drive and wait until it has arrived."""
        self.start_z(z_um)
        self.drive.wait()

    def turn_to(self, label: str) -> None:
        """Bring the objective of that label into the light path."""
        names = {str(o.label): name for name, o in self.hardware.turret.objectives.items()}
        self.clock.sleep(TURRET_S)
        if not self.faults.now("turret_sticks"):
            self.objective_name = names[label]
        self._repeats.clear()

    # What the camera sees --------------------------------------------------------------------

    @property
    def objective(self) -> Objective:
        """The objective in the light path."""
        return self.hardware.objective(self.objective_name)

    @property
    def objective_truth(self) -> ObjectiveTruth:
        """How it departs from its description."""
        return self.settings.objectives.get(self.objective_name, ObjectiveTruth())

    @property
    def pixel_um(self) -> float:
        """True size of a camera pixel in the sample."""
        nominal_um = self.hardware.pixel_um(self.objective_name)
        return nominal_um * self.settings.camera.pixel_scale / self.objective_truth.scale

    def to_slide(self, x_px: float, y_px: float) -> tuple[float, float]:
        """The slide position (micrometres) that a pixel of the camera sees now."""
        mirrored = self.camera_orientation.mirrored
        width, _ = self.hardware.camera.size_px
        return self._unmirrored_to_slide(width - 1 - x_px if mirrored else x_px, y_px)

    def _unmirrored_to_slide(self, x_px: float, y_px: float) -> tuple[float, float]:
        axes = ImageAxes(
            self._centre_um(), self.hardware.camera.size_px, self.pixel_um, self._orientation
        )
        return self.transform.invert(*axes.to_um(x_px, y_px))

    def _stands_um(self) -> tuple[float, float]:
        """Where the stage stands for the slide: one that is not held lags behind."""
        x, y = self.settings.mount.creep_um_per_min
        minutes = self.clock.now() / 60
        return self._arrived_um[0] - x * minutes, self._arrived_um[1] - y * minutes

    def _centre_um(self) -> tuple[float, float]:
        truth, objective = self.objective_truth, self.objective
        x, y = self._stands_um()
        return (
            x - objective.offset_x_um - truth.offset_x_um,
            y - objective.offset_y_um - truth.offset_y_um,
        )

    @property
    def camera_orientation(self) -> CameraOrientation:
        """How the camera truly stands against the stage, whatever the hardware file says."""
        said, truth = self.hardware.camera, self.settings.camera
        return CameraOrientation(
            (said.rotation_deg if truth.rotation_deg is None else truth.rotation_deg)
            + self.changes.turned_deg,
            said.mirrored if truth.mirrored is None else truth.mirrored,
        )

    @property
    def _orientation(self) -> CameraOrientation:
        """Of the image before it is mirrored, under the present objective."""
        turned = self.camera_orientation.rotation_deg + self.objective_truth.rotation_deg
        return CameraOrientation(turned)

    def defocus_um(self, after_s: float = 0.0) -> float:
        """How far the stage is from focus at the middle of the field, so many seconds from now."""
        mount = self.settings.mount
        x, y = self._centre_um()
        dx, dy = x - mount.reference_um[0], y - mount.reference_um[1]
        azimuth = math.radians(mount.tilt_azimuth_deg)
        along = dx * math.cos(azimuth) + dy * math.sin(azimuth)
        focus = (
            self.hardware.focus_z_um
            + mount.focus_error_um
            + mount.tilt_um_per_mm * along / 1000
            + mount.bow_um * (dx**2 + dy**2) / mount.bow_length_um**2
            + mount.drift_um_per_min * self.clock.now() / 60
            + (mount.return_z_um if self.stained else 0.0)
            + self.objective.offset_z_um
            + self.objective_truth.offset_z_um
            + self.changes.jumped_um
        )
        return self.drive.z_um(after_s) - focus

    def expose(self, exposure_ms: float, gain: float) -> NDArray[np.uint8 | np.uint16]:
        """The sensor's image of the present light; lets the exposure's time pass."""
        image = self.image(exposure_ms, gain)
        self.clock.sleep((exposure_ms + self.hardware.camera.readout_ms) / 1000)
        return image

    def image(self, exposure_ms: float, gain: float) -> NDArray[np.uint8 | np.uint16]:
        """The same without the time: the clock stands still while the image is made.

        While the focus drive moves, the image shows the height of the middle of the exposure.
        """
        if self.read_light is not None:
            lit_there, self.tints = self.read_light()
            self.lit = {led: level for led, level in lit_there.items() if led in self._brightness}
        x, y = self.commanded_um
        state = 2 * self.stained + self.oil
        # The array may change while the image is made; what counts is what shone at its beginning.
        shining = self._shining()
        lit: tuple[tuple[int, ...], ...] = tuple(
            sorted((led, round(level * 1000)) for led, level in shining.items())
        )
        lit += tuple(
            (led, *(round(1000 * share) for share in tint))
            for led, tint in sorted(self.tints.items())
            if led in shining
        )
        if self._lamp_colours() != NO_CHANGE:
            lit += ((LAMP, *(round(1000 * share) for share in self._lamp_colours())),)
        after_s = exposure_ms / 2000 if self.drive.moves else 0.0
        z_um = self.drive.z_um(after_s)
        settings = (round(z_um * 1000), round(exposure_ms * 1000), round(gain * 1000))
        what = (lit, settings)
        repeat = self._repeats[what]
        self._repeats[what] += 1
        scene = (self._field_key(), self.commanded_um, self.oil, lit, settings[1:], repeat)
        # A slide that has jumped looks as it did at another height.
        above_um = z_um - self.changes.jumped_um
        if self._prepared is not None:
            made = self._prepared.find(scene, above_um)
            if made is not None:
                return made
        key = (
            self.settings.seed,
            state,
            round(x * 100) % 2**32,
            round(y * 100) % 2**32,
            *(value % 2**32 for value in settings),
            *(value for pair in lit for value in pair),
            repeat,
        )
        with self.clock.stopped():
            image = self.sensor.expose(self._rates(shining, after_s), exposure_ms, gain, key)
            if self._prepared is not None:
                self._prepared.keep(scene, above_um, image)
        return image

    def _rates(self, shining: dict[int, float], after_s: float) -> RateImage:
        """Light on every pixel, shape (y, x, rgb), relative to one full LED on an empty slide."""
        width, height = self.hardware.camera.size_px
        # Colour planes one after the other, as the optics model makes them: adding is quick.
        total = np.zeros((3, height, width), dtype=np.float32)
        part = np.empty_like(total)
        share = (REFERENCE_MAGNIFICATION / self.objective.magnification) ** 2
        leds = list(shining)
        spectrum = self.rendered.spectrum(self._field_key(), self._spectrum)
        defocus_um = self.defocus_um(after_s)
        images = self.rendered.led_images(spectrum, leds, self.direction, defocus_um)
        for led, image in zip(leds, images, strict=True):
            light = np.float32(shining[led] * self._brightness[led] * share)
            planes = np.moveaxis(image, -1, 0)
            if led in self.tints:
                # LEDs of one colour reach the camera's channel of that colour alone.
                tint = np.array(self.tints[led], dtype=np.float32)[:, None, None]
                total += np.multiply(planes, light * tint, out=part)
            else:
                total += np.multiply(planes, light, out=part)
        if self._lamp_colours() != NO_CHANGE:
            total *= np.array(self._lamp_colours(), dtype=np.float32)[:, None, None]
        image = np.moveaxis(total, 0, -1)
        return image[:, ::-1] if self.camera_orientation.mirrored else image

    def _lamp_colours(self) -> Tint:
        """What the lamp gives in red, green and blue over what it gave before staining."""
        return self.settings.lamp.when_stained if self.stained else NO_CHANGE

    def _shining(self) -> dict[int, float]:
        """The lit LEDs that do give light, with their brightness, in order of their numbers."""
        dark, lit = self.faults.dark_leds, self.lit
        lamp = self.settings.lamp
        minutes = max(0.0, self.clock.now() - lamp.drifts_from_s) / 60
        drift = math.exp(lamp.drift_percent_per_min / 100 * minutes)
        light = self.changes.light_factor * drift
        return {
            led: light * lit[led] * self.changes.dimmed.get(led, 1.0)
            for led in sorted(lit)
            if lit[led] > 0 and led not in dark
        }

    def direction(self, led: int) -> tuple[float, float]:
        """Direction cosines of an LED in the axes of the image before it is mirrored."""
        return self._orientation.to_image(*self.geometry.numbered(led).direction)

    def _field_key(self) -> tuple[object, ...]:
        turned = (self.changes.turned_deg,) if self.changes.turned_deg else ()
        return (self._stands_um(), self.objective_name, self.stained, self.transform, *turned)

    def imaging(self) -> Imaging:
        """The present objective and camera, as the optics model wants them."""
        width, height = self.hardware.camera.size_px
        return Imaging(
            na=self.objective.na,
            refractive_index=self.objective.refractive_index,
            pixel_um=self.pixel_um,
            shape=(height, width),
            wavelengths_um=self.settings.wavelengths_um,
        )

    def view(self, grid: ObjectGrid) -> View:
        """Where on the slide the points of an object grid lie."""
        column, row = grid.corner_px
        x, y = self._unmirrored_to_slide(column, row)
        rotation = self._orientation.on_slide(self.transform.rotation_deg).rotation_deg
        return View(x, y, grid.grid_um, rotation, grid.shape)

    def _spectrum(self) -> FieldSpectrum:
        imaging = self.imaging()
        highest_na = float(np.max(np.linalg.norm(self.geometry.directions, axis=1)))
        grid = object_grid(imaging, highest_na)
        layers = self.smear.layers(self.view(grid), self.stained)
        return FieldSpectrum.from_layers(
            layers, grid, imaging, inverse_fft=fast_inverse_fft, forward_fft=fast_forward_fft
        )
