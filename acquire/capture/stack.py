"""Taking the frames of one position: timed by this computer, or by camera and array themselves.

Both hand every frame on as it comes and tell at the end which ones did not come or cannot be
trusted; those are to be taken again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.capture.series import (
    FrameGroup,
    Taken,
    Wanted,
    group_frames,
    slipped,
    wrong_marker,
)
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.leds.array import Colour, SequenceTiming
from plsctl.acquire.plans.recipes import BRIGHTFIELD
from plsctl.acquire.store.records import FrameRecord

FEWEST_IN_SERIES = 4
"""A series of fewer frames is slower than this computer: three more are its markers."""

GRACE_S = 1.0
"""How much later than expected an image of a series may come before it counts as lost."""

ARRAY_PATIENCE_S = 2
"""The array waits this much longer than an exposure, so that the camera's failure shows first."""

PULSE_US = 100
"""Length of the trigger pulse."""

Deliver = Callable[["TakenFrame"], None]


class Boundary(Protocol):
    """What may happen between two frames."""

    def check(self) -> None:
        """Raise to stop; called repeatedly while waiting for an image."""

    def hold(self) -> bool:
        """Wait while the scan is paused, all LEDs dark; True when it was, and the light is gone."""


@dataclass(frozen=True)
class TakenFrame:
    """A frame as it arrived: its index in the stack, the image, and the time of arrival."""

    index: int
    image: RawImage
    time_s: float
    camera_number: int | None = None
    camera_time_ms: float | None = None


class StackTaker(Protocol):
    """Takes frames of a stack."""

    @property
    def how(self) -> str:
        """Who times the stack, and why, in words."""

    def take(
        self, wanted: Sequence[Wanted], deliver: Deliver, boundary: Boundary
    ) -> dict[int, str]:
        """Take frames and hand each to `deliver`.

        Returns
        -------
        Why frames did not come or cannot be trusted, by their index in the stack; a frame may
        have been delivered and turn out wrong afterwards.
        """


class SoftwareStack:
    """The computer lights an LED, exposes, and lights the next while the image is read out."""

    def __init__(self, microscope: Microscope, reason: str) -> None:
        self._microscope = microscope
        self.how = f"software timing ({reason})"

    def take(
        self, wanted: Sequence[Wanted], deliver: Deliver, boundary: Boundary
    ) -> dict[int, str]:
        """Take frames one by one (see `StackTaker.take`)."""
        microscope = self._microscope
        overlaps = not microscope.hardware.camera.rolling_shutter
        with ThreadPoolExecutor(1, "leds") as other:
            first = wanted[0][1]
            microscope.light(first.leds, first.brightness, first.colour)
            for place, (index, frame) in enumerate(wanted):
                boundary.check()
                if boundary.hold():
                    microscope.light(frame.leds, frame.brightness, frame.colour)
                following = [record for _, record in wanted[place + 1 : place + 2]]
                try:
                    microscope.camera.expose(frame.exposure_ms, frame.gain)
                except HardwareError as failure:
                    return _not_taken(wanted[place:], failure)
                lights = [
                    other.submit(microscope.light, record.leds, record.brightness, record.colour)
                    for record in following
                    if overlaps
                ]
                try:
                    image = microscope.camera.read()
                except HardwareError as failure:
                    return _not_taken(wanted[place:], failure)
                finally:
                    for light in lights:
                        light.result()
                if not overlaps:
                    for record in following:
                        microscope.light(record.leds, record.brightness, record.colour)
                deliver(TakenFrame(index, image, microscope.clock.now()))
        return {}


def _not_taken(wanted: Sequence[Wanted], failure: HardwareError) -> dict[int, str]:
    """Frames to be tried again: the camera failed at the first of them."""
    return {index: failure.message.rstrip(".") for index, _ in wanted}


class HardwareStack:
    """The array pulses the camera for every pattern; the end of each exposure steps the array."""

    def __init__(self, microscope: Microscope, frames: Sequence[FrameRecord]) -> None:
        self._microscope = microscope
        self._longest = microscope.camera.longest_exposure_sequence()
        self._bright = next((f for f in frames if f.led == BRIGHTFIELD), None)
        self._loaded: tuple[tuple[tuple[int, ...], ...], float, Colour] | None = None
        groups = len(self._groups(tuple(enumerate(frames))))
        self.how = (
            f"hardware timing ({groups} series; "
            f"{'every frame its own exposure' if self._longest else 'grouped by exposure'})"
        )

    def _groups(self, wanted: Sequence[Wanted]) -> tuple[FrameGroup, ...]:
        readout_ms = self._microscope.hardware.camera.readout_ms
        return group_frames(wanted, self._longest, self._bright, readout_ms)

    def take(
        self, wanted: Sequence[Wanted], deliver: Deliver, boundary: Boundary
    ) -> dict[int, str]:
        """Take frames in triggered series (see `StackTaker.take`)."""
        problems: dict[int, str] = {}
        for group in self._groups(wanted):
            boundary.check()
            boundary.hold()
            problem = self._take_group(group, deliver, boundary)
            if problem:
                problems |= dict.fromkeys(group.indices, problem)
        return problems

    def _take_group(self, group: FrameGroup, deliver: Deliver, boundary: Boundary) -> str:
        """Take one series; the reason if any part of it is wrong: then none of it is trusted."""
        leds, camera = self._microscope.leds, self._microscope.camera
        patterns = tuple(shot.leds for shot in group.shots)
        wanted = (patterns, group.brightness, group.colour)
        if self._loaded != wanted:
            self._loaded = None
            if group.colour == "white":
                leds.load_sequence(patterns, group.brightness)
            else:
                leds.load_sequence(*wanted)
            self._loaded = wanted
        longest_s = max(shot.exposure_ms for shot in group.shots) / 1000
        shortest_us = 1000 * min(shot.exposure_ms for shot in group.shots)
        timing = SequenceTiming(
            delay_ms=self._delay_ms(group),
            # The array is deaf while it pulses: it must hear the shortest exposure end.
            pulse_width_us=max(1, min(PULSE_US, round(shortest_us / 4))),
            input_timeout_s=math.ceil(longest_s) + ARRAY_PATIENCE_S,
        )
        try:
            camera.arm([shot.exposure_ms for shot in group.shots], group.gain)
            leds.start_sequence(timing)
            problem = self._receive(group, deliver, boundary)
            if not problem:
                leds.finish_sequence(GRACE_S + longest_s)
        except HardwareError as failure:
            # Also where the array was silent for a moment: what it does now is not known.
            problem = failure.message.rstrip(".")
        except BaseException:
            # Why it ends is what counts, not that a device could not be told.
            with contextlib.suppress(PlsctlError):
                self._break_off()
            raise
        if problem:
            self._break_off()
        else:
            camera.disarm()
        return problem

    def _break_off(self) -> None:
        self._loaded = None
        try:
            self._microscope.leds.stop_sequence()
        finally:
            self._microscope.camera.disarm()

    def _delay_ms(self, group: FrameGroup) -> int:
        """How long a pattern lasts at least: as long as a readout (see `group_frames`)."""
        readout_ms = self._microscope.hardware.camera.readout_ms
        shortest_ms = min(shot.exposure_ms for shot in group.shots)
        # The firmware takes no delays below 5 ms; the pace is then the exposures' own.
        return max(5, math.ceil(readout_ms)) if shortest_ms < readout_ms else 0

    def _receive(self, group: FrameGroup, deliver: Deliver, boundary: Boundary) -> str:
        camera, clock = self._microscope.camera, self._microscope.clock
        hardware = self._microscope.hardware
        readout_ms = hardware.camera.readout_ms
        before: Taken | None = None
        for shot in group.shots:
            wait_s = (shot.exposure_ms + readout_ms) / 1000 + GRACE_S
            got = camera.next_image(wait_s, boundary.check)
            problem = slipped(before, (shot, got), readout_ms)
            if not problem and hardware.checks.brightness:
                problem = wrong_marker(shot, got.image, hardware.camera)
            if problem:
                return problem
            before = (shot, got)
            if shot.index is not None:
                deliver(TakenFrame(shot.index, got.image, clock.now(), got.number, got.time_ms))
        return ""


def open_stack(microscope: Microscope, frames: Sequence[FrameRecord]) -> StackTaker:
    """The fastest way of taking a stack that camera and array offer.

    Raises
    ------
    UserError
        The hardware file asks for hardware timing, and they cannot do it.
    """
    wish = microscope.hardware.timing
    lacks = lacks_for_hardware(microscope)
    if wish == "software":
        return SoftwareStack(microscope, "as the hardware file says")
    if wish == "auto" and not lacks and len(frames) < FEWEST_IN_SERIES:
        return SoftwareStack(microscope, "markers would take longer than so few frames")
    if not lacks:
        return HardwareStack(microscope, frames)
    if wish == "hardware":
        raise UserError(
            f"hardware timing is not possible: {lacks}.",
            file=microscope.hardware.file,
            field="timing",
            hint="Say `timing: auto` or `timing: software` (docs/timing.md).",
        )
    return SoftwareStack(microscope, lacks)


def lacks_for_hardware(microscope: Microscope) -> str:
    """What is missing for hardware timing, in words; empty if nothing is."""
    able = microscope.leds.capabilities
    if not (able.sequence and able.trigger):
        return "the LED array cannot step through patterns by trigger"
    if not microscope.camera.can_be_triggered:
        return "the hardware file has no `camera.trigger`"
    return ""
