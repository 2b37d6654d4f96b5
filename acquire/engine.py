"""The strict engine: one transaction per position, and nothing kept that was not checked.

Move, verify the arrival, go to focus, take every frame, check it, flush, journal, move the
position into the plate. Whatever fails in between, the position counts as not taken.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from psygnal import EmitLoopError, Signal, SignalInstance

from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.journal import Journal
from plsctl.acquire.microscope import Microscope
from plsctl.acquire.plan import PassPlan, Position
from plsctl.acquire.store import FrameRecord, PassAttributes, RawImage, checksum
from plsctl.acquire.store_writer import PassWriter, PositionWriter, frame_bytes

TAKES = 3
"""How often a frame that fails its check is taken before the scan stops."""

DARK_SHARE = 0.05
"""A bright-field frame whose median lies below this share of full scale had no light."""

Height = Callable[[Position], float]
Place = Callable[[Position], tuple[float, float]]


@dataclass
class PassTotals:
    """What a run of the engine did (times by the microscope's clock)."""

    positions: int = 0
    frames: int = 0
    retaken: int = 0
    light_seconds: float = 0.0
    travel_seconds: float = 0.0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FrameFacts:
    """What was measured on one frame as it was taken."""

    crc32: int
    median: float
    mean: float
    saturated: float
    takes: int
    time_s: float = field(default=0.0)

    def as_dict(self) -> dict[str, float | int]:
        """For the journal and the position's attributes."""
        return {
            "crc32": self.crc32,
            "median": round(self.median, 3),
            "mean": round(self.mean, 3),
            "saturated": round(self.saturated, 6),
            "takes": self.takes,
            "time_s": round(self.time_s, 4),
        }


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

    def __init__(
        self,
        microscope: Microscope,
        writer: PassWriter,
        journal: Journal,
        stop: StopRequest,
        height: Height,
        place: Place,
    ) -> None:
        self._microscope = microscope
        self._writer = writer
        self._journal = journal
        self._stop = stop
        self._height = height
        self._place = place
        self.totals = PassTotals()

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
        self._tell(self.sequence_started, plan)
        try:
            self._take_missing(plan, enough)
        except BaseException:
            # Whatever went wrong is what the user must hear of, not that the LEDs are lost too.
            with contextlib.suppress(PlsctlError):
                self._microscope.leds_off()
            raise
        finally:
            self.totals.seconds = clock.now() - started
            self._tell(self.sequence_finished, self.totals)
        self._microscope.leds_off()
        return self.totals

    def _take_missing(
        self, plan: PassPlan, enough: Callable[[Position, RawImage], bool] | None
    ) -> None:
        for position in plan.positions:
            if position.name in self._writer.wells:
                continue
            self._stop.check()
            brightfield = self._take(plan, position)
            self._tell(self.position_finished, position)
            if enough is not None and enough(position, brightfield):
                return

    def _tell(self, signal: SignalInstance, *what: object) -> None:
        """Inform viewers; one that fails is noted and does not cost the slide."""
        try:
            signal.emit(*what)
        except EmitLoopError as error:
            self._journal.append("viewer_failed", signal=signal.name, reason=str(error))

    def _take(self, plan: PassPlan, position: Position) -> RawImage:
        clock = self._microscope.clock
        before = clock.now()
        x, y = self._microscope.move_xy(*self._place(position))
        z = self._height(position)
        self._microscope.move_z(z)
        self.totals.travel_seconds += clock.now() - before
        self._journal.append(
            "position_started",
            pass_name=plan.pass_name,
            position=position.name,
            stage_x_um=x,
            stage_y_um=y,
            z_um=z,
        )
        # The plate's place is where the stage was sent: encoders round, and slides are compared.
        centre = (*self._place(position), z)
        writing = self._writer.position(position.name, centre)
        try:
            frames, brightfield = self._take_frames(plan, position, writing)
            writing.finish(self._facts(position, (x, y, z), frames))
        except BaseException:
            writing.discard()
            raise
        self._journal.append("position_finished", pass_name=plan.pass_name, position=position.name)
        self._journal.sync()
        self.totals.positions += 1
        return brightfield

    def _facts(
        self,
        position: Position,
        arrived_um: tuple[float, float, float],
        frames: list[FrameFacts],
    ) -> dict[str, Any]:
        x, y = self._place(position)
        return {
            "position": {
                "x_um": x,
                "y_um": y,
                "z_um": arrived_um[2],
                "slide_x_um": position.x_um,
                "slide_y_um": position.y_um,
                "arrived_x_um": arrived_um[0],
                "arrived_y_um": arrived_um[1],
            },
            "frames": [facts.as_dict() for facts in frames],
        }

    def _take_frames(
        self, plan: PassPlan, position: Position, writing: PositionWriter
    ) -> tuple[list[FrameFacts], RawImage]:
        taken: list[FrameFacts] = []
        first: RawImage | None = None
        for index, frame in enumerate(plan.frames):
            self._stop.check()
            image, facts = self._take_frame(frame, first)
            first = image if first is None else first
            taken.append(facts)
            writing.write(index, image)
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
                **facts.as_dict(),
            )
            self.totals.frames += 1
            self.totals.light_seconds += frame.exposure_ms / 1000
            self.totals.retaken += facts.takes - 1
            self.totals.bytes += image.nbytes
            self._tell(self.frame_ready, image, frame, position)
        self._microscope.leds_off()
        if first is None:
            raise PlsctlError("the plan has no frames.")
        return taken, first

    def _take_frame(
        self, frame: FrameRecord, first: RawImage | None
    ) -> tuple[RawImage, FrameFacts]:
        problem = ""
        for take in range(1, TAKES + 1):
            self._microscope.light(frame.leds, frame.brightness)
            image = self._microscope.snap(frame.exposure_ms, frame.gain)
            facts = measure(image, self._writer.attributes, take, self._microscope.clock.now())
            problem = self._problem(frame, image, facts, first)
            if not problem:
                return image, facts
            self._journal.append(
                "frame_rejected",
                pass_name=self._writer.attributes.pass_name,
                frame=frame.label,
                take=take,
                reason=problem,
            )
        raise HardwareError(
            f"the frame '{frame.label}' was taken {TAKES} times and {problem}.",
            hint="Check this LED, its cable and the camera; nothing of this position was kept. "
            "Then run the same command again.",
        )

    def _problem(
        self, frame: FrameRecord, image: RawImage, facts: FrameFacts, first: RawImage | None
    ) -> str:
        if first is not None and (image.shape != first.shape or image.dtype != first.dtype):
            return f"had the shape {image.shape} instead of {first.shape}"
        width, height = self._microscope.hardware.camera.size_px
        if image.shape[:2] != (height, width):
            return f"had {image.shape[1]} x {image.shape[0]} pixels instead of {width} x {height}"
        attributes = self._writer.attributes
        signal = facts.median - attributes.black_level
        if (
            self._microscope.hardware.checks.brightness
            and frame.bright_field
            and signal < DARK_SHARE * attributes.full_scale
        ):
            return f"was dark (median {facts.median:.0f} of {attributes.full_scale})"
        return ""


def measure(image: RawImage, attributes: PassAttributes, takes: int, time_s: float) -> FrameFacts:
    """Checksum and brightness of a frame, (y, x, rgb) or (y, x)."""
    # Every 4th pixel each way tells the level of a frame of millions well enough.
    sample = image[::4, ::4]
    return FrameFacts(
        crc32=checksum(image),
        median=float(np.median(sample)),
        mean=float(sample.mean()),
        saturated=float((sample >= attributes.full_scale).mean()),
        takes=takes,
        time_s=time_s,
    )


def check_disk(folder: Path, image_shape: Sequence[int], bytes_per_value: int, frames: int) -> None:
    """`UserError` when the disk has no room for what is still to be written.

    Compression roughly halves what noise leaves to compress; half is what must be free.
    """
    shape = (image_shape[0], image_shape[1], image_shape[2] if len(image_shape) == 3 else 1)
    needed = frame_bytes(shape, bytes_per_value) * frames // 2
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"the disk has {free / 1e6:,.0f} MB free, and the pass needs about "
            f"{needed / 1e6:,.0f} MB.",
            file=folder,
            hint="Make room, choose another folder with --out, or scan a smaller region.",
        )
