"""What a pass will do: positions, frames, and a forecast of time and disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import read_yaml
from plsctl.acquire.leds.geometry import LedGeometry
from plsctl.acquire.plans.exposures import Exposure, ExposureTable, load_exposures
from plsctl.acquire.plans.positions import Position
from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD, Frame, LitFrame
from plsctl.acquire.plans.recipes import Recipe, load_recipe
from plsctl.acquire.plans.slide import Slide
from plsctl.acquire.store.records import FrameRecord, PassName
from plsctl.acquire.store.writer import frame_bytes

LED_COMMAND_S = 0.0015
"""Serial round trip of one LED command (docs/led-arrays.md)."""

LED_STEP_S = 0.0054
"""Time an array needs to show the next pattern of a sequence (Illuminate 2.32)."""

NARROWEST_SHARE = 0.05
"""A region is at least so many fields wide."""


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
    recipe: Recipe | str,
    exposures: ExposureTable,
    geometry: LedGeometry,
    bright_field_na: float,
    measured: Mapping[int, tuple[float, float]] = MappingProxyType({}),
) -> tuple[FrameRecord, ...]:
    """The frames of a recipe with their LEDs and exposures; errors name the missing LED.

    `measured` are direction cosines by LED number; what a frame is follows from the table alone.
    """
    if isinstance(recipe, str):
        recipe = load_recipe(recipe)
    return tuple(
        _record(lit, _exposure(lit, exposures, recipe), bright_field_na, measured)
        for lit in recipe.light(geometry, bright_field_na)
    )


def _exposure(lit: LitFrame, exposures: ExposureTable, recipe: Recipe) -> Exposure:
    """The table's row of the frame's name, or, for a renamed LED, that of the LED."""
    frame = lit.frame
    if frame not in exposures.rows and len(lit.leds) == 1 and lit.colour == "white":
        plain = Frame(lit.leds[0].name, frame.variant)
        if plain in exposures.rows:
            return exposures.rows[plain]
    return exposures.exposure(frame, recipe)


def _record(
    lit: LitFrame,
    exposure: Exposure,
    bright_field_na: float,
    measured: Mapping[int, tuple[float, float]],
) -> FrameRecord:
    frame, is_single = lit.frame, len(lit.leds) == 1 and lit.frame.led != BRIGHTFIELD
    return FrameRecord(
        label=frame.label,
        led=frame.led,
        variant=frame.variant,
        leds=tuple(led.led for led in lit.leds),
        exposure_ms=exposure.exposure_ms,
        gain=exposure.gain,
        brightness=exposure.brightness * lit.weight,
        direction=lit.leds[0].direction if is_single else None,
        bright_field=lit.is_bright_field(bright_field_na),
        colour=lit.colour,
        measured_direction=measured.get(lit.leds[0].led) if is_single else None,
    )


def check_region(slide: Slide, field_um: tuple[float, float]) -> None:
    """`UserError` for a region that is smaller than one field (width, height in micrometres).

    A strip may be narrower than a field, but not by so much that millimetres must be meant.
    """
    region = slide.region
    sides = [high - low for low, high in (region.x_um, region.y_um)]
    shares = [side / field for side, field in zip(sides, field_um, strict=True)]
    if max(shares) >= 1 - 1e-6 and min(shares) >= NARROWEST_SHARE:
        return
    axis = "x_um" if shares[0] <= shares[1] else "y_um"
    low, high = getattr(region, axis)
    lines = read_yaml(slide.file)[1] if slide.file.is_file() else {}
    raise UserError(
        f"{axis} = [{low:g}, {high:g}]: the region is {sides[0]:g} x {sides[1]:g} µm, less than "
        f"one image, which shows {field_um[0]:.0f} x {field_um[1]:.0f} µm.",
        file=slide.file,
        line=lines.get(("region", axis)),
        field=f"region.{axis}",
        hint="Write micrometres, not millimetres; a region for one image is as large as that.",
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
    """`UserError` when camera or LED array cannot take a frame as the table says."""
    camera = hardware.camera
    for frame in frames:
        hardware.led_array.check_light(len(frame.leds), frame.brightness)
        gains = camera.gain_range if camera.gain_property is not None else (1.0, 1.0)
        for field, value, (low, high) in (
            ("exposure_ms", frame.exposure_ms, camera.exposure_range_ms),
            ("gain", frame.gain, gains),
        ):
            if not low <= value <= high:
                raise UserError(
                    f"the frame '{frame.label}' has {field} = {value:g}, and the camera offers "
                    f"{low:g} to {high:g}.",
                    file=table,
                    line=load_exposures(table).lines.get(frame.label),
                    field=field,
                    hint="Correct the table, or the camera's ranges (and `gain_property`) in "
                    f"{hardware.file.name}.",
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
