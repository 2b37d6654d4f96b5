"""The microscope: camera, stage, turret and LED array behind one safe front.

Everything that could break a slide, an objective or a record is checked here, below the plan:
limits before every movement, arrival after it, the reply to every LED command, every image.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.clock import Clock
from plsctl.acquire.devices.backend import Backend, open_backend
from plsctl.acquire.devices.calibrations import foreign
from plsctl.acquire.devices.camera import Camera, attempt
from plsctl.acquire.devices.core_camera import check_core_camera
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.hardware_parts import Objective
from plsctl.acquire.devices.lens import Lens
from plsctl.acquire.devices.micromanager import check_labels
from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.leds.array import Colour, LedArray, open_led_array
from plsctl.acquire.roles import Operator

log = logging.getLogger(__name__)


class Microscope:
    """A microscope opened from its hardware file; use it as a context manager.

    However the block ends, the LEDs go dark and the devices are let go.
    """

    def __init__(self, hardware: Hardware, backend: Backend, leds: LedArray) -> None:
        self.hardware = hardware
        self.geometry = hardware.geometry()
        self.leds = leds
        self._backend = backend
        self._core = backend.core
        self.camera = Camera(hardware, backend.core, backend.clock)
        self._check_led_count()
        self._prepare_core()
        self._check_calibrations()
        self.lens = Lens(hardware, backend.core)
        # Last: it must not stay open where something else is wrong.
        self._set_shutter(True)

    @property
    def clock(self) -> Clock:
        """The devices' clock."""
        return self._backend.clock

    @property
    def operator(self) -> Operator | None:
        """The operator that replaces a person (the simulator's)."""
        return self._backend.operator

    def __enter__(self) -> Microscope:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except HardwareError as stands:
            if error is None:
                raise
            if isinstance(error, PlsctlError):
                error.hint = " ".join(filter(None, (error.hint, stands.message, stands.hint)))
            else:  # such as a second Ctrl-C, which has no words of its own
                log.warning("%s", stands)

    def close(self) -> None:
        """LEDs off, stage stopped, the lens drawn back, devices released.

        A step that fails, or a second Ctrl-C, does not stop the others.

        Raises
        ------
        HardwareError
            The lens stands near the slide and could not be drawn back.
        """
        with ExitStack() as steps:
            # The last one first.
            steps.callback(_try, self._backend.close)
            steps.callback(self.lens.leave)
            for label in (self.hardware.stage.z_device, self.hardware.stage.xy_device):
                steps.callback(_try, partial(self._core.stop, label))
            steps.callback(_try, lambda: self._set_shutter(False))
            steps.callback(_try, self.camera.disarm)
            steps.callback(_try, self.leds.close)

    def _check_led_count(self) -> None:
        highest = max(led.led for led in self.geometry.leds)
        if highest >= self.leds.identity.led_count:
            raise UserError(
                f"the LED geometry names LED number {highest}, but the array has "
                f"{self.leds.identity.led_count} LEDs (0 to {self.leds.identity.led_count - 1}).",
                file=self.hardware.file,
                field="led_array.geometry",
                hint="Name the geometry table that belongs to this array.",
            )

    def _prepare_core(self) -> None:
        check_labels(self.hardware, self._core.getLoadedDevices())
        # Auto-shutter without a shutter device raises, and would hide a shutter that stays shut.
        self._core.setAutoShutter(False)
        self.camera.prepare()

    @property
    def answers(self) -> tuple[str, str]:
        """What camera and LED array say of themselves: by that they are told from others."""
        who = self.leds.identity
        return self.camera.answers, f"{who.name}, {who.led_count} LEDs"

    def _check_calibrations(self) -> None:
        """`UserError` when a calibration was measured with another camera or LED array."""
        for calibration in self.hardware.calibrations:
            problem = foreign(calibration, self.hardware, *self.answers)
            if problem is not None:
                raise problem

    def _set_shutter(self, is_open: bool) -> None:
        shutter = self.hardware.camera.shutter
        if shutter is None:
            return
        what = f"{'open' if is_open else 'close'} the shutter '{shutter}'"
        attempt(what, lambda: self._core.setShutterOpen(shutter, is_open))

    # Stage and turret ------------------------------------------------------------------------

    @property
    def position_um(self) -> tuple[float, float, float]:
        """Where the stage says it is (x, y, z)."""
        return self.lens.stage.position_um

    def check_limits(
        self, x_um: float | None = None, y_um: float | None = None, z_um: float | None = None
    ) -> None:
        """`UserError` when a position lies outside the limits: for z, those of the objective."""
        self.lens.stage.check_limits(x_um, y_um, z_um)

    @property
    def z_um(self) -> float:
        """Where the focus drive says it is, on its way too."""
        return self.lens.stage.z_um

    @property
    def z_limits_um(self) -> tuple[float, float]:
        """Between which heights z may be sent under the objective in the light path."""
        limits = self.lens.stage.z_limits
        return limits.low_um, limits.high_um

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Go to a stage position and return where the stage arrived (see `Lens.move_xy`).

        A lens that was drawn back on the way comes back to the height at which it was.
        """
        near_um = self.position_um[2] if self.lens.is_near else None
        arrived = self.lens.move_xy(x_um, y_um)
        if near_um is not None and not self.lens.is_near:
            self.lens.move_z(near_um)
        return arrived

    def travel(self, x_um: float, y_um: float) -> tuple[float, float]:
        """As `move_xy`, but a lens that was drawn back stays so until `move_z`."""
        return self.lens.move_xy(x_um, y_um)

    def move_z(self, z_um: float) -> None:
        """Go to a height within the objective's limits, micrometres, and verify the arrival."""
        self.lens.move_z(z_um)

    @property
    def can_look_on_its_way(self) -> bool:
        """Whether z can be sent slowly, and images taken meanwhile (`stage.z_speed`)."""
        return self.lens.stage.can_look_on_its_way

    def z_on_its_way(self, z_um: float, um_per_s: float) -> AbstractContextManager[None]:
        """Let z move slowly to a height while the block runs (see `Stage.z_on_its_way`)."""
        return self.lens.z_on_its_way(z_um, um_per_s)

    def retract(self) -> None:
        """Draw the lens back from the slide, as far as the z limits allow."""
        self.lens.retract()

    def to_loading(self) -> None:
        """LEDs off, the lens drawn back, the stage at its loading position: for a person."""
        self.leds_off()
        self.lens.to_loading()

    def set_objective(self, name: str) -> None:
        """Turn the turret, or let it be turned by hand (see `Lens.set_objective`)."""
        self.lens.set_objective(name)

    @property
    def objective_name(self) -> str:
        """The objective in the light path; `UserError` while a person must tell."""
        return self.lens.objective_name

    @property
    def objective(self) -> Objective:
        """What is known about the objective in the light path."""
        return self.hardware.objective(self.objective_name)

    @property
    def pixel_um(self) -> float:
        """Size of a camera pixel in the sample, nominal."""
        return self.hardware.pixel_um(self.objective_name)

    def to_stage(self, x_um: float, y_um: float) -> tuple[float, float]:
        """The stage position that brings a point to the centre under the present objective.

        `x_um, y_um` is the stage position that centres the point under the low-power objective.
        """
        return x_um + self.objective.offset_x_um, y_um + self.objective.offset_y_um

    # Light and camera ------------------------------------------------------------------------

    def check_camera(self) -> None:
        """`UserError` when what the core says of the camera contradicts the hardware file."""
        attempt(
            "read the camera's settings",
            lambda: check_core_camera(self._core, self.hardware, self.lens.recognise()),
        )

    def light(self, leds: Sequence[int], brightness: float = 1.0, colour: Colour = "white") -> None:
        """Light exactly these LEDs (numbers of the array)."""
        if colour == "white":  # as drivers know it that have no colours
            self.leds.light(leds, brightness)
        else:
            self.leds.light(leds, brightness, colour)

    def leds_off(self) -> None:
        """All LEDs dark."""
        self.leds.off()

    def pattern(self, name: str) -> tuple[int, ...]:
        """LED numbers of a pattern or an LED's name, for the low-power objective's aperture.

        It decides which LEDs are bright field: a 100x lens gets the same light.
        """
        na = self.hardware.objective(self.hardware.low_power).na
        return tuple(led.led for led in self.geometry.pattern(name, na))

    def snap(self, exposure_ms: float, gain: float = 1.0) -> RawImage:
        """One image: (y, x, rgb), or (y, x) for grey and Bayer cameras; dtype as the camera's."""
        self.camera.expose(exposure_ms, gain)
        return self.camera.read()


def _try(action: Callable[[], object]) -> None:
    """Closing continues whatever fails."""
    with contextlib.suppress(Exception):
        action()


def open_microscope(hardware: Hardware | str | Path) -> Microscope:
    """Open all devices a hardware file names; LEDs are dark afterwards.

    Parameters
    ----------
    hardware
        The hardware file's content, its path, or the name of one that is shipped ("simulator").

    Raises
    ------
    UserError
        A device or port is named wrongly or cannot be opened.
    HardwareError
        A device does not answer.
    """
    if not isinstance(hardware, Hardware):
        hardware = load_hardware(hardware)
    # Devices are what they are; what was measured of them is for those who use them.
    backend = open_backend(hardware.described)
    try:
        leds = open_led_array(hardware.led_array)
        try:
            return Microscope(hardware, backend, leds)
        except BaseException:
            leds.close()
            raise
    except BaseException:
        _try(backend.close)
        raise
