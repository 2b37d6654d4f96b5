"""Typed metadata of a data set: its attributes, and the images of its stacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.mistakes import mistake_in_data
from plsctl.acquire.leds.array import Colour
from plsctl.acquire.store.records import FrameRecord


class DatasetFrame(BaseModel):
    """One image of a stack; data sets from elsewhere may give its label only.

    Numbers may stand as text. Writing it gives back only what was said.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    label: str
    led: str | None = None
    variant: str = ""
    leds: tuple[int, ...] = ()
    exposure_ms: float | None = None
    gain: float | None = None
    brightness: float | None = None
    direction: tuple[float, float] | None = None
    """Direction cosines of a single LED, in the axes of the array; None for a pattern."""
    bright_field: bool | None = None
    colour: Colour = "white"
    measured_direction: tuple[float, float] | None = None
    """The same as measured, where it was."""

    @classmethod
    def of(cls, frame: FrameLike) -> DatasetFrame:
        """The frame of a scan, or a mapping with these fields, as an image of a data set."""
        if isinstance(frame, DatasetFrame):
            return frame
        return cls.model_validate(frame.model_dump() if isinstance(frame, BaseModel) else frame)

    def record(self) -> FrameRecord:
        """As a frame of a scan: exposure, gain and brightness that are not known stand as 1."""
        return FrameRecord(
            label=self.label,
            led=self.led or self.label,
            variant=self.variant,
            leds=self.leds,
            exposure_ms=1.0 if self.exposure_ms is None else self.exposure_ms,
            gain=1.0 if self.gain is None else self.gain,
            brightness=1.0 if self.brightness is None else self.brightness,
            direction=self.direction,
            bright_field=bool(self.bright_field),
            colour=self.colour,
            measured_direction=self.measured_direction,
        )

    @property
    def light(self) -> float | None:
        """Exposure x gain x brightness; None where one of them is not known, or is 0."""
        if None in (self.exposure_ms, self.gain, self.brightness):
            return None
        return self.record().light or None

    @model_serializer(mode="wrap")
    def _as_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: v for name, v in handler(self).items() if name in self.model_fields_set}


FrameLike = FrameRecord | DatasetFrame | Mapping[str, object]


class DatasetAttributes(BaseModel):
    """Attributes of all samples of a data set."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: str
    version: int
    axes: tuple[str, ...]
    recipe: str
    frames: tuple[DatasetFrame, ...]
    """In the order of the image axis."""
    targets: tuple[str, ...]
    pixel_um: float
    crop_px: int
    """Side of the targets, and of the stacks without their margin."""
    margin_px: int = 0
    slides: tuple[str, ...] = ()
    black_level: float | None = None
    full_scale: int | None = None
    """In counts of the stacks, as the black level; 255 where a data set does not give it."""
    camera_rotation_deg: float = 0.0
    camera_mirrored: bool = False
    highres_scales: tuple[dict[str, float], ...] = ()
    """Of each scan with a 100x pass: `HighresScale`."""
    quality: dict[str, Any] | None = None
    sources: tuple[dict[str, Any], ...] | None = None
    """The data sets that this one was merged from."""

    @property
    def orientation(self) -> CameraOrientation:
        """Of the camera against the axes of the LED array."""
        return CameraOrientation(self.camera_rotation_deg, self.camera_mirrored)

    @property
    def black(self) -> float:
        """The black level in counts; 0 where it is not known."""
        return self.black_level or 0.0

    @property
    def white(self) -> int:
        """The full scale in counts."""
        return 255 if self.full_scale is None else self.full_scale


def parse_attributes(content: Mapping[str, object], file: Path) -> DatasetAttributes:
    """The attributes that stand in a file.

    Raises
    ------
    UserError
        One is missing or has a wrong value.
    """
    try:
        return DatasetAttributes.model_validate(content)
    except ValidationError as error:
        field, mistake = mistake_in_data(error)
        raise UserError(
            f"the data set cannot be read: {mistake}.",
            file=str(file),
            field=field,
            hint="Take it from a copy, or build it again.",
        ) from None
