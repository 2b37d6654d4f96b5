"""What a pass will do: positions, frames, and a forecast of time and disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import LedGeometry
from plsctl.acquire.plans.exposures import ExposureTable, load_exposures
from plsctl.acquire.plans.positions import Position
from plsctl.acquire.plans.recipes import BRIGHTFIELD, Frame, recipe
from plsctl.acquire.plans.slide import Slide
from plsctl.acquire.store.records import FrameRecord, PassName
from plsctl.acquire.store.writer import frame_bytes

LED_COMMAND_S = 0.0015
"""Serial round trip of one LED command (docs/led-arrays.md)."""

LED_STEP_S = 0.0054
"""Time an array needs to show the next pattern of a sequence (Illuminate 2.32)."""


@dataclass(frozen=True)
class PassPlan:
    """Everything a pass will do, in order."""

    pass_name: PassName
    objective: str
    positions: tuple[Position, ...]
    frames: tuple[FrameRecord, ...]


@dataclass(frozen=True)
class Forecast:
    """Time and disk space of a plan."""

    positions: int
    frames: int
    seconds: float
    light_seconds: float
    travel_seconds: float
    bytes: int

    @property
    def efficiency(self) -> float:
        """Share of the time in which light is collected."""
        return self.light_seconds / self.seconds if self.seconds else 0.0


def frame_records(
    recipe_name: str, exposures: ExposureTable, geometry: LedGeometry, bright_field_na: float
) -> tuple[FrameRecord, ...]:
    """The frames of a recipe with their LEDs and exposures; errors name the missing LED."""
    return tuple(
        _record(frame, exposures, geometry, bright_field_na) for frame in recipe(recipe_name)
    )


def _record(
    frame: Frame, exposures: ExposureTable, geometry: LedGeometry, bright_field_na: float
) -> FrameRecord:
    exposure = exposures.exposure(frame)
    if frame.led == BRIGHTFIELD:
        leds = tuple(led.led for led in geometry.within(bright_field_na))
        direction = None
    else:
        led = geometry.named(frame.led)
        leds, direction = (led.led,), led.direction
    return FrameRecord(
        label=frame.label,
        led=frame.led,
        variant=frame.variant,
        leds=leds,
        exposure_ms=exposure.exposure_ms,
        gain=exposure.gain,
        brightness=exposure.brightness,
        direction=direction,
        # The nominal role, not the direction: calibration never moves a frame across the limit.
        bright_field=frame.variant == "",
    )


def check_limits(positions: Sequence[Position], hardware: Hardware, slide: Slide) -> None:
    """`UserError` when a position lies outside the stage's limits."""
    stage = hardware.stage
    for axis, limits in (("x_um", stage.x_um), ("y_um", stage.y_um)):
        values = [getattr(position, axis) for position in positions]
        low, high = min(values), max(values)
        if low < limits[0] or high > limits[1]:
            raise UserError(
                f"the region needs stage positions from {axis[0]} = {low:.0f} to {high:.0f} µm, "
                f"but the stage's limits are {limits[0]:g} to {limits[1]:g} µm.",
                file=slide.file,
                field=f"region.{axis}",
                hint=f"Choose a region inside the limits of {hardware.file.name}.",
            )


def check_camera(frames: Sequence[FrameRecord], hardware: Hardware, table: Path) -> None:
    """`UserError` when the camera cannot take a frame with its exposure or gain."""
    camera = hardware.camera
    for frame in frames:
        for field, value, (low, high) in (
            ("exposure_ms", frame.exposure_ms, camera.exposure_range_ms),
            ("gain", frame.gain, camera.gain_range),
        ):
            if not low <= value <= high:
                raise UserError(
                    f"the frame '{frame.label}' has {field} = {value:g}, and the camera offers "
                    f"{low:g} to {high:g}.",
                    file=table,
                    line=load_exposures(table).lines.get(frame.label),
                    field=field,
                    hint=f"Correct the table, or the camera's ranges in {hardware.file.name}.",
                )


def forecast(
    plan: PassPlan, hardware: Hardware, image_shape: tuple[int, int, int], bytes_per_value: int
) -> Forecast:
    """Time and disk of a plan; images before compression, with levels.

    Where the hardware file has trigger cables, readout is hidden behind the next exposure.
    """
    exposures_s = [frame.exposure_ms / 1000 for frame in plan.frames]
    light_s, readout_s = sum(exposures_s), hardware.camera.readout_ms / 1000
    if hardware.camera.trigger is not None and hardware.timing != "software":
        stack_s = sum(max(exposure + LED_STEP_S, readout_s) for exposure in exposures_s)
    else:
        stack_s = sum(exposure + max(LED_COMMAND_S, readout_s) for exposure in exposures_s)
    stage = hardware.stage
    travel_s, before = 0.0, None
    for position in plan.positions:
        here = (position.x_um, position.y_um)
        distance = math.dist(before, here) if before is not None else 0.0
        travel_s += distance / stage.speed_um_per_s + stage.settle_ms / 1000
        before = here
    count = len(plan.positions)
    size = frame_bytes(image_shape, bytes_per_value) * len(plan.frames) * count
    return Forecast(
        positions=count,
        frames=count * len(plan.frames),
        seconds=count * stack_s + travel_s,
        light_seconds=count * light_s,
        travel_seconds=travel_s,
        bytes=size,
    )
