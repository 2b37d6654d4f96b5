"""A stack: the frames of one position, handed on one by one as they come.

Who times them hands every frame on and tells at the end which ones did not come or cannot be
trusted; those are to be taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.capture.light import reference_index
from plsctl.acquire.capture.series import Wanted
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.store.records import FrameRecord

Deliver = Callable[["TakenFrame"], None]


class Boundary(Protocol):
    """What may happen between two frames."""

    def check(self) -> None:
        """Raise to stop; called repeatedly while waiting for an image."""

    def hold(self) -> bool:
        """Wait while the scan is paused, all LEDs dark; True when it was, and the light is gone."""


@dataclass(frozen=True)
class TakenFrame:
    """A frame as it arrived: its index in the stack, the image, and the time of arrival.

    Without an index it is the second image of the reference frame: none to keep, it tells whether
    the light is still what it was.
    """

    index: int | None
    image: RawImage
    time_s: float
    camera_number: int | None = None
    camera_time_ms: float | None = None


class StackTaker(Protocol):
    """Takes frames of a stack."""

    @property
    def how(self) -> str:
        """Who times the stack, and why, in words."""

    def prepare(self, wanted: Sequence[Wanted]) -> None:
        """Do what needs no light while the stage is on its way; `take` does what this could not."""

    def take(
        self, wanted: Sequence[Wanted], deliver: Deliver, boundary: Boundary
    ) -> dict[int, str]:
        """Take frames and hand each to `deliver`.

        Returns
        -------
        Why frames did not come or cannot be trusted, by their index in the stack; a frame may
        have been delivered and turn out wrong afterwards.
        """

    def reload(self) -> None:
        """The array was set up anew: what was loaded into it before is gone."""


def not_taken(
    shots: Sequence[tuple[int | None, FrameRecord]], failure: HardwareError
) -> dict[int, str]:
    """Frames to be tried again: the camera failed at the first of them."""
    reason = failure.message.rstrip(".")
    return {index: reason for index, _ in shots if index is not None}


def reference_frame(frames: Sequence[FrameRecord]) -> FrameRecord | None:
    """The frame that is taken once more at the end of a stack; None for a single one."""
    return frames[reference_index(frames)] if len(frames) > 1 else None
