"""How samples are cut, and which matches are trusted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from plsctl.acquire.plans.crops import CROP_PX
from plsctl.process.matching.fine_alignment import REACH_UM
from plsctl.process.matching.highres import Method


class BuildSettings(BaseModel):
    """How samples are cut and which matches are trusted.

    A match is dropped when its score is too low or its second-best place scores nearly as high.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_px: int = Field(default=CROP_PX, ge=16, multiple_of=2)
    margin_px: int = Field(default=0, ge=0)
    reach_um: float = Field(default=REACH_UM, gt=0)
    highres_method: Method = "colour"
    highres_reach_um: float = Field(default=9.0, gt=0)
    least_similarity: float = 0.3
    least_highres_score: float = 0.4
    most_second_ratio: float = 0.92
