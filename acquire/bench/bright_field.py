"""Bright field at the bench: an exposure, focus, and images that show enough to measure with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plsctl.acquire.arrays import Image, RawImage
from plsctl.acquire.bench.standing_still import moved_px
from plsctl.acquire.capture.auto_exposure import ExposureCalibration, Light
from plsctl.acquire.capture.content import shows_cells
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.focus.search import FocusSearch
from plsctl.acquire.focus.sweep import NoFocus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.slide import FocusSettings
from plsctl.acquire.roles import FocusMeasure
from plsctl.acquire.store.images import develop_mosaic

MOST_SATURATED = 0.02
"""Largest share of values at full scale in an image that is measured."""

MOST_CREEP = 2.0
"""The slide may seem to have moved by so many times the tolerance to which the stage arrives."""

KEPT = 12
"""So many images are remembered, to show why a calibration failed."""

STEP_UM = FocusSettings().step_um

Progress = Callable[[str, int, int], None]
"""What is done, how many of it are done, and how many there are (0: not counted)."""


@dataclass(frozen=True)
class Seen:
    """An image, (y, x, rgb), and what it is."""

    caption: str
    image: Image


@dataclass(frozen=True)
class BenchLight:
    """LEDs, and how long they are exposed."""

    leds: tuple[int, ...]
    light: Light


class BrightFieldBench:
    """A microscope with bright field on, at a place of a slide, for calibrations.

    Parameters
    ----------
    stop
        Asked before every image whether to break off.
    """

    def __init__(
        self, microscope: Microscope, focus: FocusMeasure, stop: StopRequest, progress: Progress
    ) -> None:
        self.microscope = microscope
        self.progress = progress
        self.seen: list[Seen] = []
        """The images taken last: they tell why a calibration failed."""
        self.stop = stop
        self._focus = focus
        self._leds = microscope.pattern("brightfield")
        self._brightness = microscope.hardware.led_array.brightest(len(self._leds))
        self._light: Light | None = None
        self._marked: Image | None = None
        self._marked_um = (0.0, 0.0)

    def settle(self, x_um: float, y_um: float, glass_will_do: bool = False) -> None:
        """Go to a place of the slide, find exposure and focus there.

        `x_um, y_um` is the stage position that centres it under the low-power objective. Bright
        field is on afterwards. Where `glass_will_do`, a place of bare glass is not focused on.

        Raises
        ------
        UserError
            The place lies outside the limits, shows bare glass, or has no focus.
        HardwareError
            There is too little or too much light.
        """
        microscope = self.microscope
        self.progress("going to the slide", 0, 0)
        microscope.travel(*microscope.to_stage(x_um, y_um))
        microscope.move_z(self.guess_um)
        self.measure_light()
        if not shows_cells(self.look("where calibration begins, before focusing")):
            if glass_will_do:
                return
            raise UserError(
                f"the slide shows bare glass at ({x_um:g}, {y_um:g}) µm: there is nothing to "
                "measure with.",
                field="--at",
                hint="Name a place with cells by --at X Y, and see that the slide lies there.",
            )
        self.find_focus()
        self.mark()

    @property
    def is_marked(self) -> bool:
        """Whether there are cells to compare with: not where the bench settled on bare glass."""
        return self._marked is not None

    def mark(self) -> None:
        """Remember what shows here, for `check_still`."""
        self._marked_um = self.microscope.position_um[:2]
        self._marked = self.look("where calibration begins, in focus")

    def check_still(self) -> None:
        """Go back to what was marked; `UserError` where it shows something else by now."""
        if self._marked is None:
            return
        microscope = self.microscope
        self.progress("seeing whether the slide has moved", 0, 0)
        microscope.move_xy(*self._marked_um)
        moved_um = moved_px(self._marked, self.look("the same place at the end"))
        moved_um *= microscope.pixel_um
        if moved_um <= MOST_CREEP * microscope.hardware.stage.tolerance_um:
            return
        where = f"{moved_um:.1f} µm elsewhere" if np.isfinite(moved_um) else "not at all"
        raise UserError(
            f"the slide moves: the same place of the stage shows it {where} at the end.",
            hint="Clamp the slide, wait until oil and stage have settled, and see that the stage "
            "comes back where it was. Nothing was written.",
        )

    @property
    def guess_um(self) -> float:
        """The height at which focus is expected under the present objective."""
        microscope = self.microscope
        return microscope.hardware.focus_z_um + microscope.objective.offset_z_um

    def measure_light(self) -> None:
        """Find the exposure for bright field here."""
        self.progress("measuring the exposure", 0, 0)
        calibration = ExposureCalibration(self.microscope, self.stop)
        try:
            self._light = calibration.search(self._leds, True, "brightfield", self._brightness)
        except HardwareError:
            longest_ms = min(100.0, self.microscope.hardware.camera.exposure_range_ms[1])
            self.remember(Seen("bright field, too dark", self._snap(Light(longest_ms, 1.0))))
            raise

    def find_focus(self, half_range_um: float | None = None, step_um: float = STEP_UM) -> float:
        """Focus here, around the present height or as far as slides are searched; the height."""
        settings = FocusSettings(step_um=step_um)
        self.progress("finding focus", 0, 0)
        search = FocusSearch(self.microscope, self._focus, settings, self.stop)
        centre_um = self.guess_um if half_range_um is None else self.microscope.position_um[2]
        range_um = half_range_um or settings.range_um
        try:
            z_um, _ = search.find(centre_um, range_um)
        except NoFocus as error:
            self.microscope.move_z(centre_um)
            self.look(f"bright field at z {centre_um:.0f} µm, in the middle of the search")
            file = self.microscope.hardware.file
            raise UserError(
                error.message,
                hint="Name a place with cells by --at X Y, hold the slide fast, and set "
                f"focus_z_um in {file} to where they are sharp.",
            ) from None
        self.microscope.move_z(z_um)
        self._switch_on()
        return z_um

    def look(self, caption: str) -> Image:
        """An image where the stage stands, (y, x, rgb).

        Raises
        ------
        HardwareError
            It is saturated, or dark.
        """
        if self._light is None:
            self.measure_light()
        assert self._light is not None
        image = self._snap(self._light)
        self.remember(Seen(caption, image))
        saturated = float((image == 255).mean())
        level = float(np.median(image))
        if saturated > MOST_SATURATED or level < 25:
            what = (
                f"{100 * saturated:.0f} % of it are saturated"
                if saturated > MOST_SATURATED
                else f"its median is {level:.0f} of 255"
            )
            raise HardwareError(
                f"the image in bright field cannot be measured with: {what} at "
                f"{self._light.exposure_ms:.3g} ms and gain {self._light.gain:g}.",
                hint="Check the LED array, the lens, the camera's shortest exposure "
                "(camera.exposure_range_ms), and that nothing else lights the slide.",
            )
        return image

    def light_for(self, leds: Sequence[int], name: str) -> BenchLight:
        """Some LEDs, and the exposure that uses the sensor's range under them here."""
        found = ExposureCalibration(self.microscope, self.stop).search(leds, True, name)
        return BenchLight(tuple(leds), found)

    def snap(self, light: BenchLight) -> Image:
        """An image, (y, x, rgb), under other LEDs than bright field's."""
        self.stop.check()
        self.microscope.light(light.leds)
        return self._developed(light.light)

    def dark(self, exposure_ms: float) -> RawImage:
        """An image without light."""
        self.microscope.leds_off()
        low, high = self.microscope.hardware.camera.exposure_range_ms
        return self.microscope.snap(min(max(exposure_ms, low), high))

    def remember(self, seen: Seen) -> None:
        """Keep an image among those taken last."""
        self.seen = [*self.seen, seen][-KEPT:]

    def _switch_on(self) -> None:
        self.microscope.light(self._leds, self._brightness)

    def _snap(self, light: Light) -> Image:
        self.stop.check()
        self._switch_on()
        return self._developed(light)

    def _developed(self, light: Light) -> Image:
        camera = self.microscope.hardware.camera
        raw = self.microscope.snap(light.exposure_ms, light.gain)
        return develop_mosaic(raw, camera.bayer, 2**camera.bit_depth - 1)
