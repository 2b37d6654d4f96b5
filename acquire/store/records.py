"""The records of a scan on disk: passes, positions, frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from plsctl.acquire.coordinates import CameraOrientation, ImageAxes
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.mistakes import mistake_in_data
from plsctl.acquire.leds.array import Colour

PassName = Literal["unstained", "stained", "highres"]
PASSES: tuple[PassName, ...] = ("unstained", "stained", "highres")

Box = tuple[int, int, int, int]


class FrameRecord(BaseModel):
    """One frame of a pass's recipe and how it is taken."""

    model_config = ConfigDict(frozen=True)

    label: str
    led: str
    variant: str
    leds: tuple[int, ...]
    exposure_ms: float
    gain: float
    brightness: float
    direction: tuple[float, float] | None
    """Direction cosines of a single LED by the table; None for a pattern."""
    bright_field: bool
    """Whether direct light enters the objective."""
    colour: Colour = "white"
    """What coloured LEDs shine in."""
    measured_direction: tuple[float, float] | None = None
    """Its direction cosines as `plsctl calibrate leds` measured them; None where it has not."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What was written before there were colours and measured directions must not differ.
        found: dict[str, Any] = handler(self)
        usual = (("colour", "white"), ("measured_direction", None))
        return {name: value for name, value in found.items() if (name, value) not in usual}

    @property
    def lit_from(self) -> tuple[float, float] | None:
        """Direction cosines of a single LED: as measured, or else by the table."""
        return self.measured_direction or self.direction

    @property
    def light(self) -> float:
        """Exposure (ms) x gain x brightness: what the signal above black is proportional to."""
        return self.exposure_ms * self.gain * self.brightness


class PassAttributes(BaseModel):
    """What holds for all images of a pass."""

    model_config = ConfigDict(frozen=True)

    format: str = "plsctl-pass"
    version: int = 1
    slide: str
    patient: str | None
    stain: str
    pass_name: str
    recipe: str
    objective: str
    magnification: float
    na: float
    pixel_um: float
    camera_rotation_deg: float
    camera_mirrored: bool = False
    bayer: str | None
    bit_depth: int
    black_level: float
    full_scale: int
    frames: tuple[FrameRecord, ...]
    settings_hash: str
    finished: bool = False
    flat_field: str | None = None
    """The surface of glass in bright field where it was calibrated
    (`acquire.devices.calibration_kinds.FlatSurface`)."""

    @property
    def orientation(self) -> CameraOrientation:
        """Of the camera against the axes of stage and LED array."""
        return CameraOrientation(self.camera_rotation_deg, self.camera_mirrored)

    def stage_axes(self, place: PositionRecord, size_px: tuple[int, int]) -> ImageAxes:
        """Pixels of a position's images (width, height), and micrometres of the stage."""
        return ImageAxes((place.x_um, place.y_um), size_px, self.pixel_um, self.orientation)

    def slide_axes(
        self, place: PositionRecord, size_px: tuple[int, int], slide_rotation_deg: float = 0.0
    ) -> ImageAxes:
        """Pixels of a position's images (width, height), and micrometres of the slide.

        `slide_rotation_deg` is how the slide lay on the stage: turned since the unstained pass.
        """
        centre_um = (place.slide_x_um, place.slide_y_um)
        orientation = self.orientation.on_slide(slide_rotation_deg)
        return ImageAxes(centre_um, size_px, self.pixel_um, orientation)


def parse_pass(content: object, file: Path) -> PassAttributes:
    """The attributes that stand in a pass's files.

    Raises
    ------
    UserError
        One is missing or has a wrong value.
    """
    try:
        return PassAttributes.model_validate(content)
    except ValidationError as error:
        field, mistake = mistake_in_data(error)
        raise UserError(
            f"the pass cannot be read: {mistake}.",
            file=file,
            field=field,
            hint="Take its zarr.json from a copy, or take the pass again with --fresh.",
        ) from None


@dataclass(frozen=True)
class PositionRecord:
    """A finished position: its well, and where the image's centre lay, in micrometres.

    `x_um, y_um, z_um` is where the stage was sent; `slide_x_um, slide_y_um` the same point in
    the slide's frame: the stage's frame while the slide was scanned unstained.
    """

    name: str
    row: int
    column: int
    x_um: float
    y_um: float
    z_um: float
    slide_x_um: float
    slide_y_um: float
