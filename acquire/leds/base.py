"""What LED arrays on a serial line have in common: opened dark, kept in step, dark in the end.

`PlainArray` is for firmware that lights LEDs and stores no sequences.
"""

from __future__ import annotations

import logging
import math
import operator
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, Self

from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.leds.array import (
    Capabilities,
    Colour,
    Identity,
    LedArraySettings,
    SequenceTiming,
)
from plsctl.acquire.leds.serial_line import Garbled, LineFault, NoAnswer, Refused, SerialLine

log = logging.getLogger(__name__)


class SerialArray(ABC):
    """An opened array that goes dark when it is closed; a driver supplies the commands.

    Parameters
    ----------
    settings
        The `led_array` part of the hardware file.

    Raises
    ------
    UserError
        The port cannot be opened.
    HardwareError
        Nothing answers, or something else.
    """

    def __init__(self, settings: LedArraySettings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._is_let_go = False
        self._line = SerialLine(
            "LED array",
            settings.port,
            settings.baud_rate,
            settings.timeout_s,
            settings.retries,
            settings.serial_number,
            settings.reconnect_s,
        )
        try:
            self.identity: Identity = self._greet()
        except LineFault as fault:
            self._line.close()
            raise self._line.unanswered(fault) from fault
        except BaseException:
            self._line.close()
            raise

    # What a driver says -----------------------------------------------------------------------

    @abstractmethod
    def off(self) -> None:
        """All LEDs off."""

    @abstractmethod
    def _greet(self) -> Identity:
        """Go dark, identify the array, set what the driver relies on; the port was just opened."""

    @abstractmethod
    def _recover(self) -> None:
        """Bring the array back in step after a fault on the line."""

    @abstractmethod
    def _forget(self) -> None:
        """Forget the known state of the array."""

    def _set_up(self) -> None:
        """Send what brings a controller in any state into the one that the driver relies on."""
        return None

    # What the rest of the package calls -------------------------------------------------------

    def forget_state(self) -> None:
        """Take nothing for known (see `LedArray.forget_state`)."""
        with self._lock:
            self._forget()

    def set_up(self) -> None:
        """Bring the array into its state after opening (see `LedArray.set_up`)."""

        def anew() -> None:
            self._forget()
            self._set_up()

        self._perform(anew)

    def checked_pattern(
        self, leds: Iterable[int], brightness: float, levels: int = 255
    ) -> tuple[tuple[int, ...], int]:
        """LED numbers (sorted, each once) and the step of the drive, for every pattern to pass.

        Raises
        ------
        UserError
            A number or the brightness is out of range, or it is more than `max_light`.
        """
        chosen = checked_leds(leds, self.identity.led_count)
        level = brightness_level(brightness, levels)
        self._settings.check_light(len(chosen), brightness)
        return chosen, level

    # Getting in step --------------------------------------------------------------------------

    @property
    def _tries(self) -> int:
        """How often to ask for the identity: a board that restarts with its port needs time."""
        settings = self._settings
        return max(1 + settings.retries, math.ceil(settings.boot_timeout_s / settings.timeout_s))

    def _perform(self, operation: Callable[[], None]) -> None:
        """Run a function that sends commands; it must be safe to repeat."""

        def step() -> None:
            try:
                operation()
            except BaseException:
                self._forget()
                raise

        with self._lock:
            self._line.perform(step, self._recover, self._greet_again)

    def _greet_again(self) -> None:
        found = self._greet()
        if found != self.identity:
            raise HardwareError(
                f"another LED array answers at {self._line.port}: {found}, before it was "
                f"{self.identity}.",
                hint="Connect the array the work began with.",
            )

    # The end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """All LEDs off, then the port is closed. Never raises; does nothing after `release`."""
        if self._is_let_go:
            return
        self._is_let_go = True
        try:
            self.off()
        except PlsctlError as error:
            log.warning("LEDs may still be lit: %s", error)
        finally:
            self._line.close()

    def release(self) -> None:
        """Close the port and leave the LEDs as they are. Never raises."""
        self._is_let_go = True
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def checked_leds(leds: Iterable[int], led_count: int) -> tuple[int, ...]:
    """The LED numbers, sorted, each once; `UserError` where one is not in the array.

    Firmwares do not check: Illuminate takes -1 for every LED and reads past its table for numbers
    that are too large. Every driver calls this before it sends anything.
    """
    chosen: set[int] = set()
    for led in leds:
        try:
            number = operator.index(led)
        except TypeError:
            raise UserError(
                f"{led!r} is not an LED number.", hint=f"The LEDs are 0 to {led_count - 1}."
            ) from None
        if not 0 <= number < led_count:
            raise UserError(
                f"the array has no LED {number}.", hint=f"Its LEDs are 0 to {led_count - 1}."
            )
        chosen.add(number)
    return tuple(sorted(chosen))


def brightness_level(brightness: float, levels: int = 255) -> int:
    """Brightness 0 to 1 as a step of the array's drive; `UserError` outside or below one step."""
    if not 0 <= brightness <= 1:
        raise UserError(f"the brightness {brightness} is not between 0 and 1.")
    level = round(brightness * levels)
    if level == 0 and brightness > 0:
        raise UserError(
            f"the brightness {brightness} is below the array's smallest step, {1 / levels:.4f}.",
            hint="Shorten the exposure instead.",
        )
    return level


CHANNELS: dict[Colour, tuple[bool, bool, bool]] = {
    "white": (True, True, True),
    "red": (True, False, False),
    "green": (False, True, False),
    "blue": (False, False, True),
}
"""Which of red, green and blue shine."""


def check_colour(able: Capabilities, colour: Colour) -> None:
    """`UserError` for a colour that the array has not; all know white."""
    if colour not in CHANNELS:
        raise UserError(f"there is no colour '{colour}'.", hint=f"There are {', '.join(CHANNELS)}.")
    if colour != "white" and not able.colour:
        raise UserError(
            f"this array has LEDs of one colour, and {colour} was asked for.",
            field="colour",
            hint="Leave the colour out.",
        )


def colour_drive(drives: tuple[float, float, float], colour: Colour) -> tuple[float, float, float]:
    """The drive of red, green and blue for a colour; `drives` are those for white.

    Raises
    ------
    UserError
        White has nothing of that colour.
    """
    red, green, blue = (
        drive if shines else 0 for drive, shines in zip(drives, CHANNELS[colour], strict=True)
    )
    if not (red or green or blue):
        raise UserError(
            f"the array's white has no {colour}.",
            field="led_array.options.colour",
            hint="Give that colour a drive above 0 in the hardware file.",
        )
    return red, green, blue


class PlainArray(SerialArray):
    """An opened array; a driver supplies the firmware's commands.

    Parameters
    ----------
    settings
        The `led_array` part of the hardware file.
    capabilities
        What the firmware can do.
    levels
        Steps of its brightness.
    """

    def __init__(
        self, settings: LedArraySettings, capabilities: Capabilities, levels: int = 255
    ) -> None:
        self.capabilities = capabilities
        self._levels = levels
        self._known_level: int | None = None  # brightness the array is known to have
        self._colour: Colour = "white"  # what `_light` is to shine in
        super().__init__(settings)

    # What a driver says -----------------------------------------------------------------------

    @abstractmethod
    def _wake(self) -> None:
        """Bring the line to rest: end a half-sent command, discard what still arrives."""

    @abstractmethod
    def _introduce(self) -> Identity:
        """Ask for the identity; `HardwareError` if another device answers."""

    @abstractmethod
    def _dark(self) -> None:
        """All LEDs off."""

    @abstractmethod
    def _light(self, leds: tuple[int, ...], level: int) -> None:
        """Light exactly these LEDs, in `self._colour`; must be safe to repeat."""

    @abstractmethod
    def _check(self, leds: tuple[int, ...]) -> None:
        """Raise `UserError` for LEDs that cannot be lit together, before anything is sent."""

    def _prepare(self) -> None:
        """What the firmware needs once after opening; LEDs are off afterwards."""
        self._dark()

    def _set_up(self) -> None:
        self._prepare()

    def _forget(self) -> None:
        self._known_level = None

    # What the rest of the package calls -------------------------------------------------------

    def light(self, leds: Sequence[int], brightness: float = 1.0, colour: Colour = "white") -> None:
        """Light exactly these LEDs (see `LedArray.light`)."""
        check_colour(self.capabilities, colour)
        chosen, level = self.checked_pattern(leds, brightness, self._levels)
        if not chosen or level == 0:
            self.off()
            return
        if not self.capabilities.brightness and level != self._levels:
            raise UserError(
                f"this array has no brightness to set, and {brightness} was asked for.",
                hint="Set the brightness to 1 and choose another exposure.",
            )
        self._check(chosen)
        self._perform(lambda: self._light_in(colour, chosen, level))

    def _light_in(self, colour: Colour, leds: tuple[int, ...], level: int) -> None:
        self._colour = colour
        self._light(leds, level)

    def off(self) -> None:
        """All LEDs off."""
        self._perform(self._dark)

    def load_sequence(
        self,
        patterns: Sequence[Sequence[int]],
        brightness: float = 1.0,
        colour: Colour = "white",
    ) -> None:
        """Refused: see `capabilities`."""
        self._refuse_sequence()

    def start_sequence(self, timing: SequenceTiming | None = None) -> None:
        """Refused: see `capabilities`."""
        self._refuse_sequence()

    def finish_sequence(self, timeout_s: float) -> None:
        """Refused: see `capabilities`."""
        self._refuse_sequence()

    def stop_sequence(self) -> None:
        """All LEDs off: no sequence can be running."""
        self.off()

    # Getting in step --------------------------------------------------------------------------

    def _refuse_sequence(self) -> NoReturn:
        raise UserError(
            f"the firmware of {self._line} stores no sequences of patterns.",
            hint="Let the computer time the images: `timing: software` in the hardware file.",
        )

    def _recover(self) -> None:
        """After a fault: only a right identity proves that replies match commands again."""
        self._wake()
        found = self._introduce()
        if found != self.identity:
            raise Garbled("identity", str(found).encode())

    def _greet(self) -> Identity:
        """Read the identity, then go dark."""
        self._forget()
        for _ in range(self._tries - 1):
            try:
                return self._begin()
            except (NoAnswer, Garbled, Refused) as fault:
                log.debug("%s: %s; asking again", self._line, fault)
        return self._begin()

    def _begin(self) -> Identity:
        self._wake()
        found = self._introduce()
        self._prepare()
        return found
