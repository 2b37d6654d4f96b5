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
from plsctl.acquire.capture.light import reference_index
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

LONG_STACK_MS = 1000.0
"""A series with at least so much light is long enough for the light to be looked at once more at
its end, which costs this computer some 12 ms."""

GRACE_S = 1.0
"""How much later than expected an image of a series may come before it counts as lost."""

ARRAY_PATIENCE_S = 2
"""The array waits this much longer than an exposure, so that the camera's failure shows first."""

PULSE_US = 100
"""Length of the trigger pulse."""

Deliver = Callable[["TakenFrame"], None]

Loaded = tuple[tuple[tuple[int, ...], ...], float, Colour]
"""What an array holds: the LEDs of every pattern of a series, their brightness and colour."""


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
                    return _not_taken(shots[place:] if place < len(wanted) else shots, failure)
                lights = [
                    other.submit(microscope.light, record.leds, record.brightness, record.colour)
                    for record in following
                    if overlaps
                ]
                try:
                    image = microscope.camera.read()
                except HardwareError as failure:
                    return _not_taken(shots[place:] if place < len(wanted) else shots, failure)
                finally:
                    for light in lights:
                        light.result()
                if not overlaps:
                    for record in following:
                        microscope.light(record.leds, record.brightness, record.colour)
                deliver(TakenFrame(index, image, microscope.clock.now()))
        return {}


def _not_taken(
    shots: Sequence[tuple[int | None, FrameRecord]], failure: HardwareError
) -> dict[int, str]:
    """Frames to be tried again: the camera failed at the first of them."""
    reason = failure.message.rstrip(".")
    return {index: reason for index, _ in shots if index is not None}


class HardwareStack:
    """The array pulses the camera for every pattern; the end of each exposure steps the array.

    Frames that would make a series of a few are timed by the computer, after the others.
    """

    def __init__(
        self, microscope: Microscope, frames: Sequence[FrameRecord], closes: bool = False
    ) -> None:
        self._microscope = microscope
        self._longest = microscope.camera.longest_exposure_sequence()
        self._bright = next((f for f in frames if f.led == BRIGHTFIELD), None)
        self._loaded: Loaded | None = None
        light_ms = sum(frame.exposure_ms for frame in frames)
        is_long = closes and light_ms >= LONG_STACK_MS
        self._reference = reference_frame(frames) if is_long else None
        self._by_computer = SoftwareStack(microscope, "too few for a series")
        series, few = self._divided(tuple(enumerate(frames)))
        self.longest_series = max(len(group.indices) for group in series)
        kind = "every frame its own exposure" if self._longest else "grouped by exposure"
        rest = f"; {len(few)} by the computer" if few else ""
        self.how = f"hardware timing ({len(series)} series; {kind}{rest})"

    def _divided(self, wanted: Sequence[Wanted]) -> tuple[list[FrameGroup], list[Wanted]]:
        """The series, and the frames that are too few for one."""
        readout_ms = self._microscope.hardware.camera.readout_ms
        groups = group_frames(wanted, self._longest, self._bright, readout_ms)
        long = [group for group in groups if len(group.indices) >= FEWEST_IN_SERIES]
        series = long or list(groups)  # a few frames alone are taken as the user wishes
        triggered = {index for group in series for index in group.indices}
        return series, [entry for entry in wanted if entry[0] not in triggered]

    def prepare(self, wanted: Sequence[Wanted]) -> None:
        """Load the first series into the array (see `StackTaker.prepare`)."""
        series, _ = self._divided(wanted)
        # An array that does not answer now is asked again, and judged, when the frames are taken.
        with contextlib.suppress(HardwareError):
            self._load(series[0])

    def take(
        self, wanted: Sequence[Wanted], deliver: Deliver, boundary: Boundary
    ) -> dict[int, str]:
        """Take frames in triggered series (see `StackTaker.take`)."""
        problems: dict[int, str] = {}
        series, few = self._divided(wanted)
        for group in series:
            boundary.check()
            boundary.hold()
            problem = self._take_group(group, deliver, boundary)
            if problem:
                problems |= dict.fromkeys(group.indices, problem)
        if few:
            problems |= self._by_computer.take(few, deliver, boundary)
        if self._reference is not None and not problems:
            problems = self._close(self._reference, wanted, deliver)
        return problems

    def reload(self) -> None:
        """The sequence is loaded anew (see `StackTaker.reload`)."""
        self._loaded = None

    def _load(self, group: FrameGroup) -> None:
        wanted = (tuple(shot.leds for shot in group.shots), group.brightness, group.colour)
        if self._loaded == wanted:
            return
        self._loaded = None
        if group.colour == "white":  # as drivers know it that have no colours
            self._microscope.leds.load_sequence(*wanted[:2])
        else:
            self._microscope.leds.load_sequence(*wanted)
        self._loaded = wanted

    def _close(
        self, frame: FrameRecord, wanted: Sequence[Wanted], deliver: Deliver
    ) -> dict[int, str]:
        """Take the reference frame once more, timed by this computer."""
        microscope = self._microscope
        microscope.light(frame.leds, frame.brightness, frame.colour)
        try:
            image = microscope.snap(frame.exposure_ms, frame.gain)
        except HardwareError as failure:
            return _not_taken(wanted, failure)
        deliver(TakenFrame(None, image, microscope.clock.now()))
        return {}

    def _take_group(self, group: FrameGroup, deliver: Deliver, boundary: Boundary) -> str:
        """Take one series; the reason if any part of it is wrong: then none of it is trusted."""
        leds, camera = self._microscope.leds, self._microscope.camera
        self._load(group)
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


def reference_frame(frames: Sequence[FrameRecord]) -> FrameRecord | None:
    """The frame that is taken once more at the end of a stack; None for a single one."""
    return frames[reference_index(frames)] if len(frames) > 1 else None


def open_stack(
    microscope: Microscope, frames: Sequence[FrameRecord], closes: bool = False
) -> StackTaker:
    """The fastest way of taking a stack that camera and array offer.

    Parameters
    ----------
    closes
        Take the reference frame once more at the end, to compare the light; not of one frame
        alone, nor of a short series.

    Raises
    ------
    UserError
        The hardware file asks for hardware timing, and they cannot do it.
    """
    wish = microscope.hardware.timing
    lacks = lacks_for_hardware(microscope)
    reference = reference_frame(frames) if closes else None
    if wish == "software":
        return SoftwareStack(microscope, "as the hardware file says", reference)
    if wish == "auto" and not lacks and len(frames) < FEWEST_IN_SERIES:
        reason = "markers would take longer than so few frames"
        return SoftwareStack(microscope, reason, reference)
    if not lacks:
        stack = HardwareStack(microscope, frames, closes)
        if wish == "hardware" or stack.longest_series >= FEWEST_IN_SERIES:
            return stack
        reason = "no exposure is that of enough frames for a series"
        return SoftwareStack(microscope, reason, reference)
    if wish == "hardware":
        raise UserError(
            f"hardware timing is not possible: {lacks}.",
            file=microscope.hardware.file,
            field="timing",
            hint="Say `timing: auto` or `timing: software` (docs/timing.md).",
        )
    return SoftwareStack(microscope, lacks, reference)


def lacks_for_hardware(microscope: Microscope) -> str:
    """What is missing for hardware timing, in words; empty if nothing is."""
    able = microscope.leds.capabilities
    if not (able.sequence and able.trigger):
        return "the LED array cannot step through patterns by trigger"
    if not microscope.camera.can_be_triggered:
        return "the hardware file has no `camera.trigger`"
    return ""
