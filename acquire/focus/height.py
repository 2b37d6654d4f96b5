"""What is said of a position's height of focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plsctl.acquire.focus.sweep import NoFocus

HeightBy = Literal["measured", "surface", "neighbours", "fixed"]


@dataclass(frozen=True)
class Height:
    """Where focus lies at a position, and how that is known.

    `measured`: here and now; `surface`: from heights measured elsewhere; `neighbours`: the same,
    after focus was sought here and not found; `fixed`: as the hardware file says.
    """

    z_um: float
    by: HeightBy
    off_um: float | None = None
    """A measured height less what the surface of focus let expect here."""
    expected_error_um: float | None = None
    """Standard deviation of what it let expect."""


class PositionSkipped(NoFocus):
    """Focus was not found at a position, and the slide file says that it is left out then."""
