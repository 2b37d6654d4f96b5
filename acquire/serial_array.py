"""How an LED array on a serial line is let go, whatever its language."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Self

from plsctl.acquire.errors import PlsctlError
from plsctl.acquire.serial_line import SerialLine

log = logging.getLogger(__name__)


class SerialArray(ABC):
    """An opened array that goes dark when it is closed."""

    _line: SerialLine

    @abstractmethod
    def off(self) -> None:
        """All LEDs off."""

    def close(self) -> None:
        """All LEDs off, then the port is closed. Never raises."""
        try:
            self.off()
        except PlsctlError as error:
            log.warning("LEDs may still be lit: %s", error)
        finally:
            self._line.close()

    def release(self) -> None:
        """Close the port and leave the LEDs as they are. Never raises."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
