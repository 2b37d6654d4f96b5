"""The strict engine: one transaction per position; only checked frames are kept.

Move, verify the arrival, go to focus, take every frame, check it; then the disk thread flushes,
moves the position into the plate and writes the journal, while the next one is begun. Whatever
fails in between, the position counts as not taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from psygnal import EmitLoopError, Signal, SignalInstance

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.capture.collector import FrameCollector
from plsctl.acquire.capture.frame_checks import FrameInspector, FrameMetadata
from plsctl.acquire.capture.light import bright_levels
from plsctl.acquire.capture.series import Wanted
from plsctl.acquire.capture.stack_timing import open_stack
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError, PlsctlError
from plsctl.acquire.focus.height import Height, PositionSkipped
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.plan import PassPlan
from plsctl.acquire.plans.positions import Position
from plsctl.acquire.roles import Drift
from plsctl.acquire.scanning.light_guard import LightGuard, StackLight
from plsctl.acquire.store.journal import Journal
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord
from plsctl.acquire.store.writer import PassWriter, PositionWriter, check_disk

TAKES = 3
"""How often a frame that fails its check is taken before the scan stops."""

HeightAt = Callable[[Position], Height]
Place = Callable[[Position], tuple[float, float]]


@dataclass
class PassTotals:
    """What a run of the engine did (times by the microscope's clock)."""

    positions: int = 0
    frames: int = 0
    retaken: int = 0
    skipped: int = 0
    """Positions left out because focus was not found there."""
    light_steps: int = 0
    """How often all frames were taken again because the light had changed, or seemed to."""
    light_seconds: float = 0.0
    travel_seconds: float = 0.0
    stack_seconds: float = 0.0
    bytes: int = 0
    seconds: float = 0.0
    timing: str = ""
    """Who stepped through the stacks, in words."""
    writing: str = ""
    """Why the pass has to wait for the disk, in words; empty where it need not."""


class Engine:
    """Takes the positions of a pass that the plate does not hold yet.

    Parameters
    ----------
    height
        The height of focus at a position (stage micrometres); called after the arrival.
    place
        Where the stage must go for a position.
    """

    sequence_started = Signal(PassPlan)
    frame_ready = Signal(np.ndarray, FrameRecord, Position)
    position_finished = Signal(Position)
    sequence_finished = Signal(PassTotals)
    paused = Signal(bool)
    drift_found = Signal(Drift)

    def __init__(
        self,
        microscope: Microscope,
        writer: PassWriter,
        journal: Journal,
        stop: StopRequest,
        height: HeightAt,
        place: Place,
    ) -> None:
        self._microscope = microscope
        self._writer = writer
        self._journal = journal
        self._stop = stop
        self._height = height
        self._place = place
        closes = microscope.hardware.checks.brightness
        self._stack = open_stack(microscope, writer.attributes.frames, closes)
        self._inspector = FrameInspector(
            microscope.hardware, writer.attributes, _last_means(writer)
        )
        self._light = LightGuard(
            microscope,
            journal,
            writer.attributes.frames,
            writer.attributes.black_level,
            _first_levels(writer),
        )
        self._under_way: dict[str, Position] = {}
        self.totals = PassTotals(timing=self._stack.how)

    def run(
        self, plan: PassPlan, enough: Callable[[Position, RawImage], bool] | None = None
    ) -> PassTotals:
        """Take all positions still missing.

        Parameters
        ----------
        enough
            Asked after every position with its bright-field image whether the pass may end.
        """
        clock = self._microscope.clock
        started = clock.now()
        self._journal.append("timing", pass_name=plan.pass_name, how=self._stack.how)
        self._tell(self.sequence_started, plan)
        try:
            with self._dark_afterwards():
                self._take_missing(plan, enough)
                self._writer.drain()
        finally:
            # A position that was taken whole is kept, whatever stopped the next one.
            self._writer.settle()
            self._tell_finished()
            self.totals.seconds = clock.now() - started
            self._tell(self.sequence_finished, self.totals)
        return self.totals

    @contextmanager
    def _dark_afterwards(self) -> Iterator[None]:
        """All LEDs off when the block has ended, however it ended."""
        try:
            yield
        except BaseException:
            # Whatever went wrong is what the user must hear of, not that the LEDs are lost too.
            with contextlib.suppress(PlsctlError):
                self._microscope.leds_off()
            raise
        self._microscope.leds_off()

    def _take_missing(
        self, plan: PassPlan, enough: Callable[[Position, RawImage], bool] | None
    ) -> None:
        brightfield: RawImage | None = None
        for position in plan.positions:
            if position.name in self._writer.wells:
                continue
            self.check()
            self.hold()
            if brightfield is not None:
                # A stop with room left is cleaner than a disk that fills within a position.
                frames = len(plan.frames) * (1 + self._writer.queued_positions)
                check_disk(self._writer.path, brightfield.shape, brightfield.dtype.itemsize, frames)
            try:
                brightfield = self._take(plan, position)
            except PositionSkipped:
                self.totals.skipped += 1
                continue
            if enough is not None and enough(position, brightfield):
                return

    def check(self) -> None:
        """Between frames: report finished positions, and stop on request."""
        self._tell_finished()
        self._stop.check()

    def hold(self) -> bool:
        """Between frames: wait while the scan is paused, all LEDs dark; True when it was."""
        if not self._stop.is_paused:
            return False
        self._microscope.leds_off()
        self._journal.append("paused")
        self._journal.sync()
        self._tell(self.paused, True)
        self._stop.wait()
        self._light.paused()
        self._journal.append("went_on")
        self._tell(self.paused, False)
        return True

    def tell_drift(self, drift: Drift) -> None:
        """Inform viewers of something that has drifted."""
        self._tell(self.drift_found, drift)

    def _tell(self, signal: SignalInstance, *what: object) -> None:
        """Inform viewers; a viewer's error is noted and does not stop the scan."""
        try:
            signal.emit(*what)
        except EmitLoopError as error:
            self._journal.append("viewer_failed", signal=signal.name, reason=str(error))

    def _take(self, plan: PassPlan, position: Position) -> RawImage:
        clock = self._microscope.clock
        before = clock.now()
        with ThreadPoolExecutor(1, "prepare") as other:
            ready = other.submit(self._stack.prepare, tuple(enumerate(plan.frames)))
            x, y = self._microscope.travel(*self._place(position))
            # The height may have to be sought, under light of the same array.
            ready.result()
        height = self._height(position)
        z = height.z_um
        self._microscope.move_z(z)
        self.totals.travel_seconds += clock.now() - before
        self._journal.append(
            "position_started",
            pass_name=plan.pass_name,
            position=position.name,
            stage_x_um=x,
            stage_y_um=y,
            z_um=z,
            focus=height.by,
        )
        # The plate's place is where the stage was sent: encoders round, and slides are compared.
        centre = (*self._place(position), z)
        writing = self._writer.position(position.name, centre)
        self._under_way[position.name] = position
        try:
            frames, brightfield, light = self._take_frames(plan, position, centre, writing)
            writing.finish_later(
                self._position_metadata(position, (x, y, z), frames, light) | _focus(height),
                lambda: self._note_finished(plan, position),
            )
        except BaseException:
            writing.discard()
            raise
        return brightfield

    def _note_finished(self, plan: PassPlan, position: Position) -> None:
        """Called by the disk thread once the position is in the plate."""
        self._journal.append("position_finished", pass_name=plan.pass_name, position=position.name)
        self._journal.sync()

    def _tell_finished(self) -> None:
        """Count the positions that have reached the disk since the last time, and tell viewers."""
        for name in self._writer.take_finished():
            self.totals.positions += 1
            self._tell(self.position_finished, self._under_way.pop(name))

    def _position_metadata(
        self,
        position: Position,
        arrived_um: tuple[float, float, float],
        frames: list[FrameMetadata],
        light: float | None,
    ) -> dict[str, Any]:
        x, y = self._place(position)
        return {
            "light_factor": None if light is None else round(light, 4),
            "position": {
                "x_um": x,
                "y_um": y,
                "z_um": arrived_um[2],
                "slide_x_um": position.x_um,
                "slide_y_um": position.y_um,
                "arrived_x_um": arrived_um[0],
                "arrived_y_um": arrived_um[1],
            },
            "frames": [one.as_dict() for one in frames],
        }

    def _take_frames(
        self,
        plan: PassPlan,
        position: Position,
        centre_um: tuple[float, float, float],
        writing: PositionWriter,
    ) -> tuple[list[FrameMetadata], RawImage, float | None]:
        """Take the stack, and repeat rejected frames until all are accepted.

        Returns their metadata, the bright-field image, and the light relative to the pass's first.
        """

        def accept(index: int, image: RawImage, metadata: FrameMetadata) -> None:
            frame = plan.frames[index]
            writing.write(index, image)
            self._note(plan, position, index, metadata)
            self.totals.bytes += image.nbytes
            self._tell(self.frame_ready, image, frame, position)

        wanted: list[Wanted] = list(enumerate(plan.frames))
        began_s = self._microscope.clock.now()
        where = (position.name, centre_um)
        self._light.begin()
        with FrameCollector(
            plan.frames, self._writer.attributes, self._inspector, accept
        ) as collector:
            # Dark before the collector is left: it waits for frames that the disk may not take yet.
            with self._dark_afterwards():
                for take in range(1, TAKES + 1):
                    light_ms = sum(frame.exposure_ms for _, frame in wanted)
                    self.totals.light_seconds += light_ms / 1000
                    problems = collector.take(self._stack, wanted, take, self)
                    if not problems:
                        problems = self._light_problems(where, collector, take == TAKES)
                    if not problems:
                        break
                    self._reject(plan, position, problems, take)
                    wanted = [(index, plan.frames[index]) for index in sorted(problems)]
                    self.totals.retaken += len(wanted)
            self.totals.frames += len(plan.frames)
            if collector.first is None:
                raise PlsctlError("the plan has no frames.")
            seconds = self._microscope.clock.now() - began_s
            self.totals.stack_seconds += seconds
            self._journal.append(
                "stack_taken",
                pass_name=plan.pass_name,
                position=position.name,
                seconds=round(seconds, 4),
            )
            light = self._light.finished(*where, self._stack_light(collector))
            frames = [collector.metadata[index] for index in range(len(plan.frames))]
            return frames, collector.first, light

    def _light_problems(
        self,
        where: tuple[str, tuple[float, float, float]],
        collector: FrameCollector,
        is_last: bool,
    ) -> dict[int, str]:
        """All frames, where the light has changed; what the array had loaded is gone then."""
        reason = self._light.problem(*where, self._stack_light(collector), is_last)
        if not reason:
            return {}
        self.totals.light_steps += 1
        self._stack.reload()
        return dict.fromkeys(collector.metadata, reason)

    def _stack_light(self, collector: FrameCollector) -> StackLight:
        black = self._writer.attributes.black_level
        taken = collector.metadata
        return StackLight(
            {index: metadata.level for index, metadata in taken.items()},
            {index: metadata.mean - black for index, metadata in taken.items()},
            collector.closing,
        )

    def _note(
        self, plan: PassPlan, position: Position, index: int, metadata: FrameMetadata
    ) -> None:
        frame = plan.frames[index]
        self._journal.append(
            "frame",
            pass_name=plan.pass_name,
            position=position.name,
            index=index,
            frame=frame.label,
            leds=list(frame.leds),
            exposure_ms=frame.exposure_ms,
            gain=frame.gain,
            brightness=frame.brightness,
            **metadata.as_dict(),
        )

    def _reject(
        self, plan: PassPlan, position: Position, problems: dict[int, str], take: int
    ) -> None:
        """Note frames that must be taken again; `HardwareError` after the last try."""
        for index, reason in sorted(problems.items()):
            self._journal.append(
                "frame_rejected",
                pass_name=plan.pass_name,
                position=position.name,
                frame=plan.frames[index].label,
                take=take,
                reason=reason,
            )
        if take == TAKES:
            index, reason = min(problems.items())
            raise HardwareError(
                f"the frame '{plan.frames[index].label}' was taken {TAKES} times and {reason}.",
                hint="Check this LED, its cable and the camera; nothing of this position was "
                "kept. Then run the same command again.",
            )


def _focus(height: Height) -> dict[str, Any]:
    """What is noted of a position's height."""
    noted: dict[str, Any] = {"focus": height.by}
    if height.off_um is not None and height.expected_error_um is not None:
        noted["focus_off_um"] = round(height.off_um, 3)
        noted["focus_expected_error_um"] = round(height.expected_error_um, 3)
    return noted


def _first_levels(writer: PassWriter) -> dict[int, float] | None:
    """Levels of the position that the pass began with; None without one."""
    if not writer.wells:
        return None
    noted = PassReader(writer.path).position_metadata(writer.wells[0])["frames"]
    return bright_levels(writer.attributes.frames, noted)


def _last_means(writer: PassWriter) -> list[float]:
    """Mean of every frame of the position taken last, above the black level; empty without one."""
    if not writer.wells:
        return []
    metadata = PassReader(writer.path).position_metadata(writer.wells[-1])
    return [frame["mean"] - writer.attributes.black_level for frame in metadata["frames"]]
