"""What answers at the microscope, part by part, and how to mend what does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from plsctl.acquire.capture.hardware_stack import HardwareStack
from plsctl.acquire.capture.stack_timing import lacks_for_hardware
from plsctl.acquire.devices.backend import Backend, open_backend
from plsctl.acquire.devices.calibrations import (
    calibrated,
    foreign,
    in_use,
    read_calibrations,
)
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.devices.hardware_check import check_hardware
from plsctl.acquire.devices.micromanager import device_interface
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError, PlsctlError
from plsctl.acquire.files.settings import add_line
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.leds.array import LedArray, open_led_array
from plsctl.acquire.store.records import FrameRecord

Opened = TypeVar("Opened")

SEEN_SHARE = 0.01
"""All LEDs together must lift the median image above darkness by this share of full scale."""


@dataclass(frozen=True)
class Answer:
    """The answer of one part of the microscope, or why there is none, and the remedy."""

    part: str
    is_well: bool
    message: str
    remedy: str = ""


class DeviceCheck:
    """Opens and tries every part of a microscope; one that fails does not hide the others.

    The stage is asked and not moved; LEDs are dark afterwards. `on_part` is called with the name
    of each part before it is asked.
    """

    def __init__(
        self,
        hardware: Hardware,
        stop: StopRequest,
        on_part: Callable[[str], None] = lambda part: None,
    ) -> None:
        self._hardware = hardware
        self._stop = stop
        self._on_part = on_part
        self.answers: list[Answer] = []

    @property
    def is_well(self) -> bool:
        """Whether everything answered."""
        return all(answer.is_well for answer in self.answers)

    def run(self) -> list[Answer]:
        """Ask all parts; `InterruptedScan` when a stop is asked for before all have answered."""
        with ExitStack() as opened:
            self._ask("hardware file", self._file)
            backend = self._open("core", self._core, lambda core: opened.callback(core.close))
            leds = self._open("LED array", self._leds, lambda array: opened.callback(array.close))
            if backend is None or leds is None:
                return self.answers

            def hand_over(microscope: Microscope) -> None:
                opened.pop_all()
                opened.callback(microscope.close)

            microscope = self._open(
                "devices in the core",
                lambda: (Microscope(self._hardware, backend, leds), "as the hardware file says"),
                hand_over,
            )
            if microscope is not None:
                self._ask("calibrations", lambda: _calibrations(microscope))
                self._ask("stage", lambda: _stage(microscope))
                self._ask("turret", lambda: _turret(microscope))
                self._ask("camera", lambda: _camera(microscope))
                self._ask("light", lambda: _light(microscope))
                self._ask("trigger cables", lambda: _cables(microscope))
        return self.answers

    def _open(
        self, part: str, action: Callable[[], tuple[Opened, str]], keep: Callable[[Opened], object]
    ) -> Opened | None:
        found: list[Opened] = []

        def opened() -> str:
            thing, said = action()
            found.append(thing)
            keep(thing)
            return said

        self._ask(part, opened)
        return found[0] if found else None

    def _ask(self, part: str, action: Callable[[], str]) -> None:
        self._stop.check()
        self._on_part(part)
        try:
            self.answers.append(Answer(part, True, action()))
        except PlsctlError as error:
            add_line(error)
            said = str(error).removesuffix(f" {error.hint}")
            self.answers.append(Answer(part, False, said, error.hint or ""))

    def _file(self) -> str:
        check_hardware(self._hardware)
        return f"{self._hardware.file.name} and the files it names fit together"

    def _core(self) -> tuple[Backend, str]:
        backend = open_backend(self._hardware)
        labels = [label for label in backend.core.getLoadedDevices() if label != "Core"]
        said = f"{self._hardware.core}: {', '.join(labels)}"
        if self._hardware.core.endswith(".cfg"):
            said += f" (device interface {device_interface(backend.core)})"
        return backend, said

    def _leds(self) -> tuple[LedArray, str]:
        array = open_led_array(self._hardware.led_array)
        who = array.identity
        able = ", ".join(name for name, has in vars(array.capabilities).items() if has)
        return array, (
            f"{who.name} ({who.driver} {who.version}), {who.led_count} LEDs at "
            f"{self._hardware.led_array.port}; can: {able}"
        )


def _calibrations(microscope: Microscope) -> str:
    """Those beside the hardware file; `UserError` where one belongs to other hardware."""
    hardware = microscope.hardware
    found = calibrated(hardware, read_calibrations(hardware))
    for calibration in found.calibrations:
        problem = foreign(calibration, hardware, *microscope.answers)
        if problem is not None:
            raise problem
    return ", ".join(in_use(found)) or "none; `plsctl calibrate all` measures what there is"


def _stage(microscope: Microscope) -> str:
    """Where it stands; `UserError` where that is outside its limits."""
    x, y, z = microscope.position_um
    microscope.lens.stage.check_standing()
    homing = microscope.hardware.stage.homing
    homed = "" if homing == "none" else f"; whether it is homed is asked before a pass ({homing})"
    return f"at x {x:.1f}, y {y:.1f}, z {z:.1f} µm, inside its limits{homed}"


def _turret(microscope: Microscope) -> str:
    hardware, name = microscope.hardware, microscope.lens.recognise()
    limits = ", ".join(
        f"{known} z {objective.z_um[0]:g} to {objective.z_um[1]:g} µm"
        if objective.z_um
        else f"{known} (no z_um of its own: stage.z_um counts)"
        for known, objective in hardware.turret.objectives.items()
    )
    if name is None:
        return f"turned by hand, a person is asked where it stands: {limits}"
    if hardware.turret.device is None:
        return f"none; the objective is {limits}"
    by_hand = ", turned by hand," if hardware.turret.manual else ""
    return f"at {name}{by_hand} of {limits}"


def _camera(microscope: Microscope) -> str:
    camera = microscope.hardware.camera
    microscope.check_camera()
    image = microscope.snap(max(1.0, camera.exposure_range_ms[0]))
    width, height = camera.size_px
    if image.shape[:2] != (height, width):
        raise HardwareError(
            f"it gives images of {image.shape[1]} x {image.shape[0]} pixels, the hardware file "
            f"says {width} x {height}.",
            hint="Correct `camera.size_px`, or the camera's region of interest.",
        )
    return f"images of {width} x {height} pixels, {image.dtype}"


def _light(microscope: Microscope) -> str:
    """Whether the camera sees the LEDs."""
    if not microscope.hardware.checks.brightness:
        return "not tried: the hardware file says that the camera does not see the LEDs"
    camera = microscope.hardware.camera
    exposure_ms = max(1.0, camera.exposure_range_ms[0])
    microscope.leds_off()
    dark = float(np.median(microscope.snap(exposure_ms)))
    microscope.light(microscope.pattern("brightfield"))
    bright = float(np.median(microscope.snap(exposure_ms)))
    microscope.leds_off()
    if bright - dark < SEEN_SHARE * (2**camera.bit_depth - 1):
        raise HardwareError(
            f"the camera sees no light: {bright:.0f} with the bright-field LEDs, {dark:.0f} "
            "without.",
            hint="Check the LED array's power and place, the shutter, the objective and that the "
            "light path leads to the camera.",
        )
    return f"the camera sees the LEDs (median {bright:.0f}, dark {dark:.0f})"


def _cables(microscope: Microscope) -> str:
    """Whether array and camera step one another: three short images in a series."""
    lacks = lacks_for_hardware(microscope)
    if lacks:
        return f"not used: {lacks}"
    exposure_ms = max(5.0, microscope.hardware.camera.exposure_range_ms[0])
    frame = FrameRecord(
        label="test",
        led="brightfield",
        variant="",
        leds=microscope.pattern("brightfield"),
        exposure_ms=exposure_ms,
        gain=1.0,
        brightness=1.0,
        direction=None,
        bright_field=True,
    )
    stack = HardwareStack(microscope, [frame])
    problems = stack.take([(0, frame)], lambda taken: None, _Unhurried())
    if problems:
        raise HardwareError(
            f"the array and the camera do not step one another: {problems[0]}.",
            hint="Check the cable from the array's trigger output to the camera's trigger input, "
            "the one from the camera's exposure output to the array's trigger input, common "
            "ground and polarity; or remove `camera.trigger` from the hardware file.",
        )
    return f"array and camera step one another; {stack.how}"


class _Unhurried:
    """A check is never interrupted here."""

    def check(self) -> None:
        """Go on."""

    def hold(self) -> bool:
        """Go on."""
        return False
