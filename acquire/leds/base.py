"""What LED arrays on a serial line have in common: opened dark, kept in step, dark in the end."""

from __future__ import annotations

import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from plsctl.acquire.errors import HardwareError, PlsctlError
from plsctl.acquire.leds.array import Identity, LedArraySettings
from plsctl.acquire.leds.serial_line import LineFault, SerialLine

log = logging.getLogger(__name__)


class SerialArray(ABC):
    """An opened array that goes dark when it is closed; a driver says how it is told what.

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
        """Dark, who it is, and what the driver counts on; the port was just opened."""

    @abstractmethod
    def _recover(self) -> None:
        """Bring the array back in step after a fault on the line."""

    @abstractmethod
    def _forget(self) -> None:
        """Count what is known of the array's state as known no longer."""

    # Getting in step --------------------------------------------------------------------------

    @property
    def _tries(self) -> int:
        """How often to ask who is there: a board that restarts with its port needs time."""
        settings = self._settings
        return max(1 + settings.retries, math.ceil(settings.boot_timeout_s / settings.timeout_s))

    def _perform(self, operation: Callable[[], None]) -> None:
        """Run what sends commands; doing it twice must do no harm."""

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
        """All LEDs off, then the port is closed. Never raises; once let go it stays as it is."""
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
