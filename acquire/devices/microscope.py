"""The microscope: camera, stage, turret and LED array behind one safe front.

Everything that could break a slide, an objective or a record is checked here, below the plan:
limits before every movement, arrival after it, the reply to every LED command, every image.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.clock import Clock
from plsctl.acquire.devices.backend import Backend, open_backend
from plsctl.acquire.devices.camera import Camera, attempt
from plsctl.acquire.devices.core_camera import check_core_camera
from plsctl.acquire.devices.hardware import Hardware, Objective, load_hardware
from plsctl.acquire.devices.stage import Stage
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.files.settings import suggest
from plsctl.acquire.leds.array import Colour, LedArray, open_led_array
from plsctl.acquire.roles import Operator


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
        self._stage = Stage(hardware, backend.core)
        self.camera = Camera(hardware, backend.core, backend.clock)
        self._objective = hardware.low_power
        self._check_led_count()
        self._prepare_core()
        self._recognise_objective()
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
        self.close()

    def close(self) -> None:
        """LEDs off, stage stopped, devices released; a step that fails does not stop the others."""
        _try(self.leds.close)
        _try(self.camera.disarm)
        _try(lambda: self._set_shutter(False))
        for label in (self.hardware.stage.xy_device, self.hardware.stage.z_device):
            _try(partial(self._core.stop, label))
        _try(self._backend.close)

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
        stage = self.hardware.stage
        labels = set(self._core.getLoadedDevices())
        wanted = {
            "camera.device": self.hardware.camera.device,
            "stage.xy_device": stage.xy_device,
            "stage.z_device": stage.z_device,
        }
        if self.hardware.camera.shutter is not None:
            wanted["camera.shutter"] = self.hardware.camera.shutter
        if self.hardware.turret.device is not None:
            wanted["turret.device"] = self.hardware.turret.device
        for field, label in wanted.items():
            if label not in labels:
                raise UserError(
                    f"the core has no device '{label}'.",
                    file=self.hardware.file,
                    field=field,
                    hint=f"Loaded: {', '.join(sorted(labels - {'Core'}))}.",
                )
        self._check_objective_labels()
        # Auto-shutter without a shutter device raises, and would hide a shutter that stays shut.
        self._core.setAutoShutter(False)
        self.camera.prepare()

    def _set_shutter(self, is_open: bool) -> None:
        shutter = self.hardware.camera.shutter
        if shutter is None:
            return
        what = f"{'open' if is_open else 'close'} the shutter '{shutter}'"
        attempt(what, lambda: self._core.setShutterOpen(shutter, is_open))

    def _check_objective_labels(self) -> None:
        device = self.hardware.turret.device
        if device is None:
            return
        labels = [str(label) for label in self._core.getStateLabels(device)]
        for name, objective in self.hardware.turret.objectives.items():
            if str(objective.label) not in labels:
                raise UserError(
                    f"the turret '{device}' has no place labelled '{objective.label}'.",
                    file=self.hardware.file,
                    field=f"turret.objectives.{name}.label",
                    hint=suggest(str(objective.label), labels),
                )

    def _recognise_objective(self) -> None:
        """The turret may stand anywhere when the microscope is opened."""
        device = self.hardware.turret.device
        if device is None:
            return
        label = self._current_label(device)
        for name, objective in self.hardware.turret.objectives.items():
            if str(objective.label) == label:
                self._objective = name

    # Stage -----------------------------------------------------------------------------------

    @property
    def position_um(self) -> tuple[float, float, float]:
        """Where the stage says it is (x, y, z)."""
        return self._stage.position_um

    def check_limits(
        self, x_um: float | None = None, y_um: float | None = None, z_um: float | None = None
    ) -> None:
        """`UserError` when a position lies outside the stage's limits."""
        self._stage.check_limits(x_um, y_um, z_um)

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Go to a stage position and return where the stage arrived (see `Stage.move_xy`).

        Before a long way under an immersion lens, slide and objective are drawn apart.
        """
        self.check_limits(x_um, y_um)
        if not self._is_long_travel(x_um, y_um):
            return self._stage.move_xy(x_um, y_um)
        z_um = self.position_um[2]
        self.retract()
        arrived = self._stage.move_xy(x_um, y_um)
        self.move_z(z_um)
        return arrived

    def _is_long_travel(self, x_um: float, y_um: float) -> bool:
        """Whether an immersion lens would travel far: no slide is quite flat."""
        if self.objective.immersion == "air":
            return False
        x, y, _ = self.position_um
        return math.dist((x, y), (x_um, y_um)) > self.hardware.turret.long_travel_um

    def move_z(self, z_um: float) -> None:
        """Go to a height, micrometres, and verify the arrival."""
        self._stage.move_z(z_um)

    # Turret ----------------------------------------------------------------------------------

    @property
    def objective_name(self) -> str:
        """The objective in the light path."""
        return self._objective

    @property
    def objective(self) -> Objective:
        """What is known about the objective in the light path."""
        return self.hardware.objective(self._objective)

    @property
    def pixel_um(self) -> float:
        """Size of a camera pixel in the sample, nominal."""
        return self.hardware.pixel_um(self._objective)

    def set_objective(self, name: str) -> None:
        """Turn the turret; slide and objective are drawn apart first and meet again afterwards."""
        target = self.hardware.objective(name)
        turret = self.hardware.turret
        if turret.device is None:
            self._objective = name
            return
        label = turret.device
        if self._current_label(label) == str(target.label):
            self._objective = name
            return
        _, _, z = self.position_um
        with_offset = z + target.offset_z_um - self.objective.offset_z_um
        self.retract()
        attempt(
            f"turn the turret to '{name}'",
            lambda: self._core.setStateLabel(label, str(target.label)),
        )
        self._stage.wait(label)
        if self._current_label(label) != str(target.label):
            raise HardwareError(
                f"the turret was sent to '{target.label}' and stands at "
                f"'{self._current_label(label)}'.",
                hint="Check the turret, then run the same command again.",
            )
        self._objective = name
        low, high = self.hardware.stage.z_um
        self.move_z(min(max(with_offset, low), high))

    def _current_label(self, device: str) -> str:
        return str(attempt("read the turret", lambda: self._core.getStateLabel(device)))

    def retract(self) -> None:
        """Draw slide and objective apart, as far as the z limits allow."""
        turret, stage = self.hardware.turret, self.hardware.stage
        sign = -1.0 if turret.retract_direction == "down" else 1.0
        low, high = stage.z_um
        before = self.position_um[2]
        z = min(max(before + sign * turret.retract_z_um, low), high)
        # Turned by hand it may stand beyond the limit: the way to it would bring them together.
        if sign * (z - before) > 0:
            self.move_z(z)

    def to_stage(self, x_um: float, y_um: float) -> tuple[float, float]:
        """The stage position that brings a point to the centre under the present objective.

        `x_um, y_um` is the stage position that centres the point under the low-power objective.
        """
        return x_um + self.objective.offset_x_um, y_um + self.objective.offset_y_um

    # Light and camera ------------------------------------------------------------------------

    def check_camera(self) -> None:
        """`UserError` when what the core says of the camera contradicts the hardware file."""
        device = self.hardware.turret.device
        # Where the turret stands elsewhere, the core speaks of another objective.
        is_there = device is None or self._current_label(device) == str(self.objective.label)
        objective = self._objective if is_there else None
        attempt(
            "read the camera's settings",
            lambda: check_core_camera(self._core, self.hardware, objective),
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
    backend = open_backend(hardware)
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
