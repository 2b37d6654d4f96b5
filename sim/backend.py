"""The simulated microscope as a backend: `core: simulator` in a hardware file."""

from __future__ import annotations

import json
import sys

from plsctl.acquire.devices.backend import Backend, close_core
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.files.locations import beside
from plsctl.acquire.files.openers import checked_by
from plsctl.acquire.files.settings import validate_section
from plsctl.acquire.roles import BenchNeed
from plsctl.sim.firmware.arduino import ArduinoFirmware
from plsctl.sim.firmware.board import LedBoard
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.light_link import LightReader
from plsctl.sim.firmware.openuc2 import OpenUc2Firmware
from plsctl.sim.firmware.squid import SquidFirmware
from plsctl.sim.world.settings import SimulatorSettings
from plsctl.sim.world.world import World

NOWHERE_MM = (0.0, 0.0, -80.0)
"""Place of LEDs that the board has and the table leaves out."""

SWITCH_S = 0.0005
"""How long a thread may keep the others waiting in real time."""


class SimulatedOperator:
    """The simulated operator: handles the slide as a person would."""

    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Stain the slide and put it back; add oil before the 100x pass."""
        if pass_name in ("stained", "highres") and self._world.settings.operator == "careful":
            self._world.stain()
        if pass_name == "highres":
            self._world.add_oil()

    def bring(self, need: BenchNeed) -> None:
        """Put another slide on the stage, or oil on it."""
        if need == "oil":
            self._world.add_oil()
        else:
            self._world.stained = need == "stained smear"

    def turn_turret(self, objective: str) -> None:
        """Turn the turret by hand."""
        turret = self._world.hardware.turret
        self._world.turn_to(str(turret.objectives[objective].label))

    def home_stage(self, by_core: bool) -> None:
        """Home the stage with its own controller, where the core does not."""


def check_simulator(hardware: Hardware) -> None:
    """`UserError` where the options of a hardware file cannot be right; nothing is made."""
    validate_section(SimulatorSettings, hardware.options, hardware.file, "options")


def open_world(hardware: Hardware) -> World:
    """The world that a hardware file's options describe."""
    settings = validate_section(SimulatorSettings, hardware.options, hardware.file, "options")
    places = {
        name: beside(path, hardware.file.parent)
        for name in ("prepared", "led_log")
        if (path := getattr(settings, name)) is not None
    }
    return World(hardware.described, settings.model_copy(update=places))


@checked_by(check_simulator)
def open_simulator(hardware: Hardware) -> Backend:
    """Load the simulated devices into a core and put the LED array on its port."""
    from pymmcore_plus import DeviceInitializationState

    from plsctl.sim.devices.camera import SimulatedCamera
    from plsctl.sim.devices.core import SimulatedCore
    from plsctl.sim.devices.stages import SimulatedTurret, SimulatedXYStage, SimulatedZStage
    from plsctl.sim.firmware.ports import register

    world = open_world(hardware)
    if world.settings.clock == "real":
        # The camera's thread must wake in time; a real camera does not wait for an interpreter.
        sys.setswitchinterval(SWITCH_S)
    elsewhere = None
    if world.settings.light_from is not None:
        elsewhere = LightReader(world.settings.light_from)
        world.read_light = elsewhere.read
    firmware = _board(world)
    camera = SimulatedCamera(world, firmware)
    core = SimulatedCore(camera)
    stage, turret = hardware.stage, hardware.turret
    devices = {
        hardware.camera.device: camera,
        stage.xy_device: SimulatedXYStage(world),
        stage.z_device: SimulatedZStage(world),
    }
    if turret.device is not None:
        devices[turret.device] = SimulatedTurret(world)
    for label, device in devices.items():
        core.loadPyDevice(label, device)
        core.initializeDevice(label)
        # An error while a Python device starts is swallowed by the core.
        if (
            core.getDeviceInitializationState(label)
            != DeviceInitializationState.InitializedSuccessfully
        ):
            raise HardwareError(
                f"the simulated device '{label}' did not start.",
                hint="The reason stands above; correct the hardware file's options.",
            )
    port = hardware.led_array.port
    if port.startswith("simled://"):
        register(port.removeprefix("simled://"), firmware)

    def close() -> None:
        close_core(core)
        if elsewhere is not None:
            elsewhere.close()

    return Backend(
        core=core,
        clock=world.clock,
        operator=SimulatedOperator(world),
        close=close,
    )


FIRMWARES: dict[str, type[LedBoard]] = {
    "illuminate": IlluminateFirmware,
    "openuc2": OpenUc2Firmware,
    "squid": SquidFirmware,
    "template": ArduinoFirmware,
}
"""What answers the drivers. Another driver meets Illuminate."""


def _board(world: World) -> LedBoard:
    """The LED array of the world, in the language of its driver, wired to its camera."""
    numbered = {led.led: led for led in world.geometry.leds}
    places = [
        (led.x_mm, led.y_mm, led.z_mm) if led is not None else NOWHERE_MM
        for led in (numbered.get(number) for number in range(max(numbered) + 1))
    ]
    log = world.settings.led_log

    def light(time_s: float, lit: dict[int, float]) -> None:
        world.tints = board.tints
        world.lit = {number: level for number, level in lit.items() if number in numbered}
        if log is not None:
            # Closed after every line: what shone must be on record when the process is killed.
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time_s": time_s, "lit": sorted(world.lit)}) + "\n")

    def pulse(time_s: float) -> None:
        if world.settings.wiring == "handshake":
            world.on_trigger(time_s)

    firmware = FIRMWARES.get(world.hardware.led_array.driver, IlluminateFirmware)
    board = firmware(places, world.clock)
    board.on_change, board.on_trigger_output = light, pulse
    board.faults.counter = world.faults
    return board
