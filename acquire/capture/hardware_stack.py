"""A stack that camera and array time themselves, in triggered series."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from plsctl.acquire.capture.series import (
    FrameGroup,
    Taken,
    Wanted,
    group_frames,
    slipped,
    wrong_marker,
)
from plsctl.acquire.capture.software_stack import SoftwareStack
from plsctl.acquire.capture.stack import (
    Boundary,
    Deliver,
    TakenFrame,
    not_taken,
    reference_frame,
)
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError, PlsctlError
from plsctl.acquire.leds.array import Colour, SequenceTiming
from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD
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

Loaded = tuple[tuple[tuple[int, ...], ...], float, Colour]
"""What an array holds: the LEDs of every pattern of a series, their brightness and colour."""


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
            return not_taken(wanted, failure)
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
