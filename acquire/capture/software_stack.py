"""A stack that this computer times, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from plsctl.acquire.capture.series import Wanted
from plsctl.acquire.capture.stack import Boundary, Deliver, TakenFrame, not_taken
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.store.records import FrameRecord


class SoftwareStack:
    """The computer lights an LED, exposes, and lights the next while the image is read out."""

    def __init__(
        self, microscope: Microscope, reason: str, reference: FrameRecord | None = None
    ) -> None:
        self._microscope = microscope
        self._reference = reference
        self.how = f"software timing ({reason})"

    def prepare(self, wanted: Sequence[Wanted]) -> None:
        """Nothing can be done beforehand."""

    def reload(self) -> None:
        """Nothing is loaded (see `StackTaker.reload`)."""

    def take(
        self, wanted: Sequence[Wanted], deliver: Deliver, boundary: Boundary
    ) -> dict[int, str]:
        """Take frames one by one (see `StackTaker.take`)."""
        microscope = self._microscope
        shots: list[tuple[int | None, FrameRecord]] = list(wanted)
        if self._reference is not None:
            shots.append((None, self._reference))
        overlaps = not microscope.hardware.camera.rolling_shutter
        with ThreadPoolExecutor(1, "leds") as other:
            first = shots[0][1]
            microscope.light(first.leds, first.brightness, first.colour)
            for place, (index, frame) in enumerate(shots):
                boundary.check()
                if boundary.hold():
                    microscope.light(frame.leds, frame.brightness, frame.colour)
                following = [record for _, record in shots[place + 1 : place + 2]]
                try:
                    microscope.camera.expose(frame.exposure_ms, frame.gain)
                except HardwareError as failure:
                    return not_taken(shots[place:] if place < len(wanted) else shots, failure)
                lights = [
                    other.submit(microscope.light, record.leds, record.brightness, record.colour)
                    for record in following
                    if overlaps
                ]
                try:
                    image = microscope.camera.read()
                except HardwareError as failure:
                    return not_taken(shots[place:] if place < len(wanted) else shots, failure)
                finally:
                    for light in lights:
                        light.result()
                if not overlaps:
                    for record in following:
                        microscope.light(record.leds, record.brightness, record.colour)
                deliver(TakenFrame(index, image, microscope.clock.now()))
        return {}
