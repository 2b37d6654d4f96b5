"""The camera: single images, and series that the LED array's trigger pulses begin one by one."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.devices.backend import first_line
from plsctl.acquire.devices.core_camera import check_exposure, check_gain
from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.files.settings import suggest

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.clock import Clock
    from plsctl.acquire.devices.hardware import Hardware

Result = TypeVar("Result")

POLL_S = 0.0005
"""Polling interval for the next image of a series: a fraction of any exposure with readout."""

STALLED_S = 60.0
"""Longest real time without an image, whatever clock the devices use."""

CABLES = "Check the trigger cables and the camera's trigger settings."

SERIAL_NUMBERS = ("serialnumber", "cameraserialnumber", "serial", "cameraid", "deviceserialnumber")
"""Properties of device adapters that hold a camera's number, in small letters without signs."""


class NoImage(HardwareError):
    """An image of a triggered series did not come."""


@dataclass(frozen=True)
class SeriesImage:
    """One image of a series, (y, x, rgb) or (y, x), with the camera's own count and time.

    `number` and `time_ms` are None where the hardware file names no tag for them.
    """

    image: RawImage
    number: int | None
    time_ms: float | None


def attempt(what: str, action: Callable[[], Result], *, again: bool = False) -> Result:
    """Run a device call; a failure becomes a `HardwareError` that names what was tried.

    With `again`, a call that fails is made once more: for settings, which may be sent twice.
    """
    try:
        return action()
    except PlsctlError:
        raise
    except (RuntimeError, ValueError, KeyError, IndexError, OSError) as error:
        if again:
            return attempt(what, action)
        raise HardwareError(
            f"the microscope could not {what}: {first_line(error)}.",
            hint="Check the device and its cable, then run the same command again.",
        ) from error


class Camera:
    """The camera of a hardware file, in the core."""

    def __init__(self, hardware: Hardware, core: CMMCorePlus, clock: Clock) -> None:
        self._hardware = hardware
        self._settings = hardware.camera
        self._core = core
        self._clock = clock
        self._armed = False
        self._sequenced = False
        self._gains: tuple[str, ...] | None = None
        """What the gain's property takes, where it has a list."""

    def prepare(self) -> None:
        """Make this the core's camera and set the hardware file's properties."""
        device = self._settings.device
        self._core.setCameraDevice(device)
        self._check_properties(device)
        for name, value in self._settings.properties.items():
            self._set(name, value)
        self._listen_to_triggers(False)

    @property
    def answers(self) -> str:
        """What tells this camera from others: adapter, device and, if it tells it, its number."""
        core, device = self._core, self._settings.device
        said = [str(core.getDeviceLibrary(device)), str(core.getDeviceName(device))]
        for name in core.getDevicePropertyNames(device):
            if "".join(sign for sign in name.lower() if sign.isalnum()) in SERIAL_NUMBERS:
                # An adapter that lists a number may still have none to give.
                with contextlib.suppress(RuntimeError):
                    said.append(str(core.getProperty(device, name)))
        return " ".join(said)

    def _check_properties(self, device: str) -> None:
        """`UserError` for a property that the camera does not have."""
        settings = self._settings
        named = {f"camera.properties.{name}": name for name in settings.properties}
        if settings.trigger is not None:
            named["camera.trigger.property"] = settings.trigger.property
        if settings.gain_property is not None:
            named["camera.gain_property"] = settings.gain_property
        for field, name in named.items():
            if not attempt("ask for properties", partial(self._core.hasProperty, device, name)):
                raise UserError(
                    f"the camera '{device}' has no property '{name}'.",
                    file=self._hardware.file,
                    field=field,
                    hint=suggest(name, self._core.getDevicePropertyNames(device)),
                )

    def _set(self, name: str, value: str | int | float) -> None:
        device = self._settings.device
        attempt(
            f"set the camera's property '{name}' to {value}",
            lambda: self._core.setProperty(device, name, value),
            again=True,
        )

    # Single images ----------------------------------------------------------------------------

    def expose(self, exposure_ms: float, gain: float = 1.0) -> None:
        """Expose one image; `read` it before the next. The light may change once this returns.

        Raises
        ------
        UserError
            The exposure is outside the camera's range, or there is a gain and no gain property.
        HardwareError
            The camera fails.
        """
        self._set_exposure(exposure_ms)
        self._set_gain(gain)
        attempt("take an image", self._core.snapImage)

    def read(self) -> RawImage:
        """The image exposed last: (y, x, rgb), or (y, x) for grey and Bayer cameras."""
        return checked_image(attempt("read the image", self._core.getImage))

    def _set_exposure(self, exposure_ms: float) -> None:
        low, high = self._settings.exposure_range_ms
        if not low <= exposure_ms <= high:
            raise UserError(
                f"an exposure of {exposure_ms:g} ms is outside the camera's range "
                f"({low:g} to {high:g} ms).",
                field="exposure_ms",
                hint="Correct the exposure table.",
            )
        device = self._settings.device
        attempt("set the exposure", lambda: self._core.setExposure(device, exposure_ms), again=True)
        attempt("read the exposure back", lambda: check_exposure(self._core, device, exposure_ms))

    def _set_gain(self, gain: float) -> None:
        name, device = self._settings.gain_property, self._settings.device
        if name is not None:
            self._set(name, self._gain_text(name, gain))
            attempt("read the gain back", lambda: check_gain(self._core, device, name, gain))
        elif gain != 1.0:
            raise UserError(
                f"the exposure table asks for gain {gain:g}, but the hardware file names no "
                "gain property.",
                file=self._hardware.file,
                field="camera.gain_property",
                hint="Name the camera's gain property, or use gain 1.",
            )

    def _gain_text(self, name: str, gain: float) -> str:
        """A gain as its property takes it: some take only what stands in their list."""
        if self._gains is None:
            device = self._settings.device
            self._gains = attempt(
                f"read what the camera's property '{name}' takes",
                lambda: tuple(self._core.getAllowedPropertyValues(device, name)),
            )
        listed = self._gains
        numbers = {text: _as_number(text) for text in listed}
        matching = [text for text, number in numbers.items() if number == gain]
        if listed and not matching:
            raise UserError(
                f"the exposure table asks for gain {gain:g}, and the camera's property '{name}' "
                f"takes only {', '.join(listed)}.",
                field="gain",
                hint="Correct the exposure table, or `camera.gain_property` in the hardware file.",
            )
        return matching[0] if matching else f"{gain:g}"

    # Triggered series -------------------------------------------------------------------------

    @property
    def can_be_triggered(self) -> bool:
        """Whether the hardware file names the property that makes the camera wait for triggers."""
        return self._settings.trigger is not None

    def longest_exposure_sequence(self) -> int:
        """How many images of a series can have their own exposures; 0 if none can."""
        device = self._settings.device
        if not attempt(
            "ask the camera for exposure sequences",
            lambda: self._core.isExposureSequenceable(device),
        ):
            return 0
        return int(self._core.getExposureSequenceMaxLength(device))

    def arm(self, exposures_ms: Sequence[float], gain: float) -> None:
        """Let the camera wait for as many triggers as there are exposures.

        Exposures that differ need a camera with exposure sequences (`longest_exposure_sequence`).
        """
        device, core = self._settings.device, self._core
        self._set_exposure(max(exposures_ms))
        self._set_gain(gain)
        self._armed = True
        self._listen_to_triggers(True)
        if len(set(exposures_ms)) > 1:
            attempt(
                "load the exposures",
                lambda: core.loadExposureSequence(device, list(exposures_ms)),
            )
            attempt("start the exposures", lambda: core.startExposureSequence(device))
            self._sequenced = True
        attempt(
            "start a series of images",
            lambda: core.startSequenceAcquisition(device, len(exposures_ms), 0.0, True),
        )

    def next_image(self, wait_s: float, go_on: Callable[[], None]) -> SeriesImage:
        """The next image of the series.

        Parameters
        ----------
        wait_s
            Longest wait, by the clock of the devices.
        go_on
            Called again and again while nothing has come; raises to break off.

        Raises
        ------
        NoImage
            None came in time.
        """
        core, clock = self._core, self._clock
        deadline, stalled = clock.now() + wait_s, time.monotonic() + STALLED_S
        while attempt("ask for images", core.getRemainingImageCount) == 0:
            go_on()
            if self._series_is_over():
                raise NoImage(
                    "the camera ended its series before all images had come.", hint=CABLES
                )
            if clock.now() > deadline or time.monotonic() > stalled:
                raise NoImage(
                    f"the camera gave no image within {wait_s:.1f} s of its trigger.", hint=CABLES
                )
            time.sleep(POLL_S)
        image, tags = attempt("read an image of the series", core.popNextImageAndMD)
        number = _number(dict(tags), self._settings.frame_number_tag)
        return SeriesImage(
            checked_image(image),
            None if number is None else round(number),
            _number(dict(tags), self._settings.timestamp_tag),
        )

    def _series_is_over(self) -> bool:
        """Whether the camera has stopped and all its images have been read."""
        core, device = self._core, self._settings.device
        if attempt("ask for images", lambda: core.isSequenceRunning(device)):
            return False
        return bool(attempt("ask for images", core.getRemainingImageCount) == 0)

    def disarm(self) -> None:
        """End a series, whether or not all images came; single images are possible again."""
        if not self._armed:
            return
        device, core = self._settings.device, self._core
        attempt("end the series of images", lambda: core.stopSequenceAcquisition(device))
        if self._sequenced:
            self._sequenced = False
            attempt("end the exposures", lambda: core.stopExposureSequence(device))
        self._listen_to_triggers(False)
        self._armed = False

    def _listen_to_triggers(self, external: bool) -> None:
        trigger = self._settings.trigger
        if trigger is not None:
            self._set(trigger.property, trigger.external if external else trigger.internal)


def _number(tags: Mapping[str, str], name: str | None) -> float | None:
    """A tag of a camera image as a number; None where the hardware file names none."""
    if name is None:
        return None
    try:
        if math.isfinite(value := float(tags[name])):
            return value
        raise ValueError
    except (KeyError, ValueError):
        raise UserError(
            f"the camera's images carry no number '{name}'.",
            field="camera",
            hint="Correct `frame_number_tag` and `timestamp_tag` in the hardware file; the camera "
            f"gives {', '.join(sorted(tags))}.",
        ) from None


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def checked_image(image: NDArray[Any]) -> RawImage:
    """An image in the package's layout; `HardwareError` for anything else."""
    # Micro-Manager hands 32-bit colour over with a fourth, empty component.
    colour = image[..., :3] if image.ndim == 3 else image
    right_kind = colour.dtype in (np.uint8, np.uint16) and colour.ndim in (2, 3)
    if not right_kind or 0 in colour.shape:
        raise HardwareError(
            f"the camera gave an image of shape {image.shape} and type {image.dtype}.",
            hint="Set it to 8 or 16 bit, grey, Bayer or RGB.",
        )
    return colour
