"""What opens something by its settings, with a check of these settings that opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")
Checked = TypeVar("Checked")
Opened = TypeVar("Opened")


class Opener(Generic[S, Opened, Checked]):
    """A function that opens something, and its check, by which a scan is tried beforehand.

    Parameters
    ----------
    opens
        Opens what its one argument, the settings, describes.
    check
        Raises `UserError` where these settings cannot be right.
    """

    def __init__(self, opens: Callable[[S], Opened], check: Callable[[S], Checked]) -> None:
        self._opens = opens
        self.check = check
        self.__doc__ = opens.__doc__

    def __call__(self, settings: S) -> Opened:
        """Open it."""
        return self._opens(settings)


def checked_by(
    check: Callable[[S], Checked],
) -> Callable[[Callable[[S], Opened]], Opener[S, Opened, Checked]]:
    """Decorate a function that opens something with the check of its settings."""
    return lambda opens: Opener(opens, check)
