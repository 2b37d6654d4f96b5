"""Settings of the segmentation of white cells."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from plsctl.process.segmentation.chromatin import CHROMATIN_HUE


class HsvLimits(BaseModel):
    """Limits of hue (0-180), saturation and value (0-255) in OpenCV's units, both ends included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hue: tuple[int, int] = (110, 165)
    saturation: tuple[int, int] = (60, 255)
    value: tuple[int, int] = (0, 255)


LARGEST_PIXEL_UM = 3.75
"""Red cells are two of them wide."""


class SegmentationSettings(BaseModel):
    """How white cells are separated from everything else.

    `method` says how chromatin is found: pixel by pixel by limits in HSV space, or as the
    clusters of colours (`ek_means`) whose mean chromatin strength passes the limit.
    `limits` fixes the HSV limits; without them the image decides (`chromatin_strength`,
    `estimate_strength`, within `hue`, never below `least_strength`); `strength` fixes that. Lengths
    and areas are relative to a red cell, whose diameter is measured in the image unless
    `red_cell_px` (pixels) or `pixel_um` (micrometres a pixel) gives it. Lobes closer than
    twice `closing` make one nucleus, unless two of them have `lone_nucleus_area` each: those are
    two cells that touch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["hsv", "ek-means"] = "hsv"
    limits: HsvLimits | None = None
    flat_field: bool = True
    pixel_um: float | None = Field(default=None, gt=0, lt=LARGEST_PIXEL_UM)
    red_cell_px: float | None = Field(default=None, gt=2)
    hue: tuple[int, int] = CHROMATIN_HUE
    least_strength: float = Field(default=0.15, gt=0)
    strength: float | None = Field(default=None, gt=0)
    closing: float = Field(default=0.25, ge=0, le=2)
    nucleus_area: tuple[float, float] = (0.33, 12.0)
    lone_nucleus_area: float = Field(default=1.0, gt=0)
    least_cell_area: float = Field(default=0.5, ge=0)
