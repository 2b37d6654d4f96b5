"""What LED arrays have in common whose firmware lights LEDs and stores no sequences."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import NoReturn

from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.array import Capabilities, Identity, LedArraySettings, SequenceTiming
from plsctl.acquire.leds.base import SerialArray
from plsctl.acquire.leds.led_values import brightness_level, checked_leds
from plsctl.acquire.leds.serial_line import Garbled, NoAnswer, Refused

log = logging.getLogger(__name__)


class PlainArray(SerialArray):
    """An opened array; a driver says how its firmware is told what.

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
        super().__init__(settings)

    # What a driver says -----------------------------------------------------------------------

    @abstractmethod
    def _wake(self) -> None:
        """Bring the line to rest: end a half-sent command, throw away what is still coming."""

    @abstractmethod
    def _introduce(self) -> Identity:
        """Ask who answers; `HardwareError` where it is something else."""

    @abstractmethod
    def _dark(self) -> None:
        """All LEDs off."""

    @abstractmethod
    def _light(self, leds: tuple[int, ...], level: int) -> None:
        """Light exactly these LEDs; doing it twice must do no harm."""

    @abstractmethod
    def _check(self, leds: tuple[int, ...]) -> None:
        """Raise `UserError` for LEDs that cannot be lit together, before anything is sent."""

    def _prepare(self) -> None:
        """What the firmware needs once after opening; LEDs are off afterwards."""
        self._dark()

    def _forget(self) -> None:
        self._known_level = None

    # What the rest of the package calls -------------------------------------------------------

    def light(self, leds: Sequence[int], brightness: float = 1.0) -> None:
        """Light exactly these LEDs (see `LedArray.light`)."""
        chosen = checked_leds(leds, self.identity.led_count)
        level = brightness_level(brightness, self._levels)
        if not chosen or level == 0:
            self.off()
            return
        if not self.capabilities.brightness and level != self._levels:
            raise UserError(
                f"this array has no brightness to set, and {brightness} was asked for.",
                hint="Set the brightness to 1 and choose another exposure.",
            )
        self._check(chosen)
        self._perform(lambda: self._light(chosen, level))

    def off(self) -> None:
        """All LEDs off."""
        self._perform(self._dark)

    def load_sequence(self, patterns: Sequence[Sequence[int]], brightness: float = 1.0) -> None:
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
        """After a fault: only the identity proves that replies belong to commands again."""
        self._wake()
        found = self._introduce()
        if found != self.identity:
            raise Garbled("identity", str(found).encode())

    def _greet(self) -> Identity:
        """Who it is, then dark."""
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
