"""The LED array as the rest of the package sees it: light these LEDs, run a sequence, go dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

from pydantic import Field, PrivateAttr

from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.files.settings import Settings, read_yaml, suggest, validate_section

MAX_LIGHT = 128.0
"""LEDs at full drive that may shine together where the hardware file says nothing: some 2.6 A at
20 mA each. Bright field of all arrays known here needs fewer."""

DRIVER_GROUP = "plsctl.led_drivers"
OPTIONS_PLACE = "led_array.options"

Options = TypeVar("Options", bound=Settings)

Colour = Literal["white", "red", "green", "blue"]
"""What coloured LEDs shine in; white is all their colours, as the hardware file balances them."""


class LedArraySettings(Settings):
    """The `led_array` part of a hardware file.

    Parameters
    ----------
    driver
        Name of an installed driver (entry point group `plsctl.led_drivers`).
    port
        Anything pyserial opens: `COM3`, `/dev/ttyACM0`, a pty, `socket://host:port`, or
        `simled://name` inside the simulator.
    geometry
        Name or path of the LED geometry table (CSV).
    baud_rate
        Serial speed in bits per second.
    timeout_s
        How long the array may stay silent before a command counts as lost.
    retries
        How often a lost command is sent again before the port is opened anew.
    boot_timeout_s
        How long the array may take to answer after the port was opened: some boards restart then.
    reconnect_s
        How long a port that vanishes during work is waited for: a pulled cable, a hub's restart.
    led_count
        Number of LEDs the array must report; checked on opening where it is given.
    max_light
        Most light at a time: number of LEDs times their brightness. What the board, its LEDs and
        its supply take; `MAX_LIGHT` where nothing is said.
    serial_number
        USB serial number of the controller; finds it under whatever port name it has today.
    options
        Settings that only one driver knows, checked by it (see `driver_options`). `file: NAME.yaml`
        alone says that they stand in that file.
    """

    driver: str = "illuminate"
    port: str = Field(min_length=1)
    geometry: str
    baud_rate: int = Field(default=115200, gt=0)
    timeout_s: float = Field(default=0.5, gt=0, le=60)
    retries: int = Field(default=2, ge=0, le=10)
    boot_timeout_s: float = Field(default=3.0, ge=0, le=60)
    reconnect_s: float = Field(default=10.0, ge=0, le=600)
    led_count: int | None = Field(default=None, gt=0)
    max_light: float = Field(default=MAX_LIGHT, gt=0)
    serial_number: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    _file: Path | None = PrivateAttr(default=None)
    _options_file: Path = PrivateAttr(default=Path())
    _section: str = PrivateAttr(default=OPTIONS_PLACE)

    def check_light(self, count: int, brightness: float) -> None:
        """`UserError` when so many LEDs at that brightness are more than `max_light`."""
        light = count * brightness
        if light <= self.max_light * (1 + 1e-6):
            return
        lower = math.floor(1000 * self.max_light / count) / 1000
        raise UserError(
            f"{count} LEDs together at brightness {brightness:g} are the light of {light:g} LEDs, "
            f"and at most {self.max_light:g} are allowed.",
            file=self._file,
            field="led_array.max_light",
            hint=f"Light fewer LEDs, or these at brightness {lower:g}; or write max_light: "
            f"{math.ceil(light)} under led_array in the hardware file, if board and supply take "
            "that much.",
        )

    def brightest(self, count: int) -> float:
        """The brightness at which so many LEDs together stay within `max_light`."""
        return min(1.0, self.max_light / count)

    def read_from(self, file: Path, resolve: Callable[[str], Path]) -> LedArraySettings:
        """These settings with the file they come from; options in a separate file are read.

        Raises
        ------
        UserError
            The options' file is missing, is not YAML, or not all the options are in it.
        """
        named = self.options.get("file")
        if not isinstance(named, str):
            located = self.model_copy()
            located._file = located._options_file = file
            return located
        if len(self.options) > 1:
            other = next(name for name in self.options if name != "file")
            raise UserError(
                f"the options stand in '{named}', and '{other}' stands here as well.",
                file=file,
                field=f"{OPTIONS_PLACE}.{other}",
                hint="Write all of them there, or all of them here.",
            )
        options_file = resolve(named)
        options, _ = read_yaml(options_file)
        located = self.model_copy(update={"options": options})
        located._file, located._options_file, located._section = file, options_file, ""
        return located


@dataclass(frozen=True)
class Capabilities:
    """What an array's firmware can do; the engine chooses by these, never by a driver's name."""

    single: bool = True
    several: bool = False
    brightness: bool = False
    sequence: bool = False
    trigger: bool = False
    watchdog: bool = False
    colour: bool = False


@dataclass(frozen=True)
class Identity:
    """The device that answered at the port."""

    driver: str
    name: str
    version: str
    led_count: int


@dataclass(frozen=True)
class SequenceTiming:
    """How a loaded sequence runs.

    Parameters
    ----------
    delay_ms
        Shortest time each pattern stays lit; 0 leaves the pace to the trigger input.
    repeats
        How often the whole sequence runs.
    wait_for_camera
        Step to the next pattern when the camera's exposure output falls.
    pulse_camera
        Send a pulse to the camera's trigger input once a pattern is lit.
    pulse_width_us, pulse_delay_us
        Length of that pulse, and the wait after it. The array does not look at its input
        meanwhile, so both together must stay below the shortest exposure.
    input_timeout_s
        How long the array waits for the camera before it gives the sequence up.
    """

    delay_ms: int = 0
    repeats: int = 1
    wait_for_camera: bool = True
    pulse_camera: bool = True
    pulse_width_us: int = 100
    pulse_delay_us: int = 0
    input_timeout_s: int = 2


class LedArray(Protocol):
    """An opened LED array. Its LEDs are off after opening and after `close`."""

    @property
    def identity(self) -> Identity:
        """The device that answered when the port was opened."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this array can do."""
        ...

    def light(self, leds: Sequence[int], brightness: float = 1.0, colour: Colour = "white") -> None:
        """Light exactly these LEDs.

        Parameters
        ----------
        leds
            LED numbers, 0 to `identity.led_count - 1`; an empty sequence is darkness.
        brightness
            0 to 1, of the array's full drive.
        colour
            What they shine in; an array without `capabilities.colour` knows white alone.

        Raises
        ------
        UserError
            A number, the brightness or the colour is impossible, or together they are more light
            than `LedArraySettings.max_light`; nothing has been sent then.
        HardwareError
            The array does not answer or refuses.
        """
        ...

    def off(self) -> None:
        """All LEDs off."""
        ...

    def forget_state(self) -> None:
        """Take nothing of the array's state for known: the next light sends all of it again.

        Sends nothing. A controller that has restarted by itself shines otherwise, and says nothing.
        """
        ...

    def set_up(self) -> None:
        """Bring the array into the state that it had after opening, whatever has become of it."""
        ...

    def load_sequence(
        self,
        patterns: Sequence[Sequence[int]],
        brightness: float = 1.0,
        colour: Colour = "white",
    ) -> None:
        """Store patterns in the array, in the order in which they will be lit."""
        ...

    def start_sequence(self, timing: SequenceTiming | None = None) -> None:
        """Start the stored sequence and return at once; the array then runs by itself."""
        ...

    def finish_sequence(self, timeout_s: float) -> None:
        """Wait until the array reports that the sequence has ended.

        Raises
        ------
        HardwareError
            The sequence was given up (the camera's trigger did not come) or has not ended in time.
        """
        ...

    def stop_sequence(self) -> None:
        """Stop a running sequence; all LEDs off."""
        ...

    def close(self) -> None:
        """All LEDs off, then the port is closed; nothing after `release`. Never raises."""
        ...

    def release(self) -> None:
        """Close the port and leave the LEDs lit: for an array driven by hand. Never raises."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_led_array(settings: LedArraySettings) -> LedArray:
    """Open the array that the settings name; its LEDs are off afterwards.

    Raises
    ------
    UserError
        No such driver is installed, or the port cannot be opened.
    HardwareError
        Nothing answers there, or something other than the settings say.
    """
    with _in_file(settings):
        array = _driver(settings.driver)(settings)
    found = array.identity.led_count
    if settings.led_count is not None and found != settings.led_count:
        array.close()
        raise HardwareError(
            f"the LED array at {settings.port} has {found} LEDs, but the hardware file says "
            f"{settings.led_count}.",
            file=settings._file,
            field="led_array.led_count",
            hint="Correct `led_count` and `geometry`, or connect the right array.",
        )
    return array


def check_led_array(settings: LedArraySettings) -> Capabilities | None:
    """What the array will be able to do by its settings alone; nothing is opened.

    None where the driver cannot know before (see `plsctl.acquire.files.openers.checked_by`).

    Raises
    ------
    UserError
        No such driver is installed, or its options are wrong.
    """
    with _in_file(settings):
        check = getattr(_driver(settings.driver), "check", None)
        able: Capabilities | None = None if check is None else check(settings)
        return able


@contextmanager
def _in_file(settings: LedArraySettings) -> Iterator[None]:
    """Let errors name the file that the settings come from, and the field in it."""
    try:
        yield
    except PlsctlError as error:
        if error.file is None and settings._file is not None:
            error.file = str(settings._file)
        if error.field in ("port", "serial_number"):
            error.field = f"led_array.{error.field}"
        raise


def driver_options(settings: LedArraySettings, model: type[Options]) -> Options:
    """The options of a driver, checked against its model.

    Raises
    ------
    UserError
        An option is unknown, missing or wrong; file, line and field are named.
    """
    return validate_section(model, settings.options, settings._options_file, settings._section)


def _driver(name: str) -> Callable[[LedArraySettings], LedArray]:
    installed: dict[str, EntryPoint] = {e.name: e for e in entry_points(group=DRIVER_GROUP)}
    if name not in installed:
        raise UserError(
            f"there is no LED driver '{name}'.",
            field="led_array.driver",
            hint=suggest(name, sorted(installed)),
        )
    loaded: Any = installed[name].load()
    opener: Callable[[LedArraySettings], LedArray] = loaded
    return opener
