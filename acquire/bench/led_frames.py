"""One image under every LED of the array, each with the exposure it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.capture.auto_exposure import ExposureCalibration, Light
from plsctl.acquire.capture.content import shows_cells
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.store.images import develop_mosaic

MOST_SATURATED = 0.05
"""Largest share of values at full scale in bright field."""

MOST_SHIFT_PX = 1.0
"""How far the image may have moved between the first frame and the last."""

ALIKE = 0.5
"""Least response of the correlation between two images of one field."""


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


class UnusableField(UserError):
    """A field in which no LEDs can be measured; `images` show why, each with its caption."""

    def __init__(
        self, message: str, *, hint: str, images: Sequence[tuple[str, NDArray[np.uint8]]]
    ) -> None:
        super().__init__(message, hint=hint)
        self.images = tuple(images)


def check_field(microscope: Microscope, stop: StopRequest) -> None:
    """See whether bright field shows cells where the stage stands, in focus or not.

    Raises
    ------
    UnusableField
        It is dark, saturated or bare glass.
    """
    leds = microscope.pattern("brightfield")
    brightness = microscope.hardware.led_array.brightest(len(leds))
    calibration = ExposureCalibration(microscope, stop)
    dark = ""
    try:
        found = calibration.search(leds, True, "brightfield", brightness)
    except HardwareError as error:
        dark, found = error.message, Light(100.0, 1.0)
        microscope.light(leds, brightness)
    image = _developed(microscope, found)
    microscope.leds_off()
    seen = [(f"bright field, {found.exposure_ms:.3g} ms, gain {found.gain:g}", image)]
    if dark:
        raise UnusableField(
            f"the images are dark: {dark}",
            hint="Check the LED array's supply, and that nothing blocks the light.",
            images=seen,
        )
    saturated = float((image >= 255).mean())
    if saturated > MOST_SATURATED:
        raise UnusableField(
            f"the images are saturated: {100 * saturated:.0f} % of bright field at "
            f"{found.exposure_ms:.3g} ms and gain {found.gain:g}.",
            hint="Lower the light or the camera's shortest exposure, and switch off other lamps.",
            images=seen,
        )
    if not shows_cells(image):
        raise UnusableField(
            "the slide shows bare glass here: there is nothing to measure with.",
            hint="Name a place with cells by --at X Y, and see that the slide lies there.",
            images=seen,
        )


def take_led_frames(
    microscope: Microscope,
    stop: StopRequest,
    progress: Callable[[str], None] = lambda name: None,
    longest_ms: float = 500.0,
) -> LedFrames:
    """Take one image under every LED of the table, where the stage stands.

    Parameters
    ----------
    progress
        Called with the name of each LED that is done.

    Raises
    ------
    UnusableField
        The image has moved meanwhile.
    """
    calibration = ExposureCalibration(microscope, stop, longest_ms)
    camera, na = microscope.hardware.camera, microscope.objective.na
    images, used = [], []
    for led in microscope.geometry.leds:
        found = _exposure(calibration, led.led, led.name, led.is_within(na), longest_ms)
        microscope.light([led.led])
        images.append(_developed(microscope, found))
        used.append(found)
        progress(led.name)
    first = int(np.argmin([led.na for led in microscope.geometry.leds]))
    microscope.light([microscope.geometry.leds[first].led])
    again = _developed(microscope, used[first])
    microscope.leds_off()
    _check_still(images[first], again)
    black = camera.black_level * 255 / (2**camera.bit_depth - 1)
    light = np.array([each.amount for each in used])
    return LedFrames(np.stack(images), light, black, microscope.answers)


def _exposure(
    calibration: ExposureCalibration, led: int, name: str, bright: bool, longest_ms: float
) -> Light:
    try:
        return calibration.search([led], bright, name)
    except HardwareError as error:
        if "too little light" not in error.message:
            raise
        # A dead LED, or one whose light comes from elsewhere.
        return calibration.search([led], False, name)


def _developed(microscope: Microscope, light: Light) -> NDArray[np.uint8]:
    """An image under the present light, 8 bits, (y, x, rgb)."""
    camera = microscope.hardware.camera
    raw = microscope.snap(light.exposure_ms, light.gain)
    return develop_mosaic(raw, camera.bayer, 2**camera.bit_depth - 1)


def _check_still(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
    one, other = (
        np.asarray(image.astype(np.float32).mean(axis=-1), np.float32) for image in (before, after)
    )
    window = cv2.createHanningWindow(one.shape[::-1], cv2.CV_32F)
    spread = float(one.std()) * float(other.std())
    alike = float(np.mean((one - one.mean()) * (other - other.mean()))) / max(spread, 1e-6)
    (x, y), _ = cv2.phaseCorrelate(one, other, window)
    if one.std() < 1.0 or (alike >= ALIKE and np.hypot(x, y) <= MOST_SHIFT_PX):
        return
    if alike < ALIKE and one.std() / max(one.mean(), 1.0) < 0.02:
        return  # bare glass: noise alone
    raise UnusableField(
        f"the slide moved while the LEDs were measured: by {np.hypot(x, y):.1f} pixels between "
        "the first image and the last.",
        hint="Clamp the slide, let stage and focus come to rest, and measure again.",
        images=[("the first image", before), ("the same LED at the end", after)],
    )
