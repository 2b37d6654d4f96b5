"""What a simulated blood smear is like."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from plsctl.acquire.files.settings import Settings


class SmearSettings(Settings):
    """Densities, proportions and accidents of one slide; densities hold in the monolayer."""

    seed: int = Field(default=1, ge=0)
    """Which smear: another number gives another slide."""
    white_cells_per_mm2: float = Field(default=9.0, ge=0, le=600)
    """9 is natural (7 per nl against 5 million red cells); 125 puts about 25 into a 20x field."""
    proportions: Literal["natural", "balanced"] = "natural"
    """Shares of the five types of white cell (papers/002 section 1.1.1), or a fifth each."""
    red_cells_per_mm2: float = Field(default=6500.0, ge=0, le=9000)
    """Red cells in the monolayer."""
    monolayer_x_um: tuple[float, float] = (5_000.0, 25_000.0)
    """The thick end lies at smaller x, the thin end at larger x."""
    smear_y_um: tuple[float, float] = (300.0, 24_700.0)
    """First and last y of the smear."""
    bare_um: tuple[tuple[float, float, float, float], ...] = ()
    """Rectangles of bare glass within the smear: x from, x to, y from, y to. Cells are left out by
    tiles of 48 um."""
    stain_variation: float = Field(default=1.0, ge=0, le=2)
    """How far strength and tint of the stain differ between slides and cells."""
    platelets_per_red_cell: float = Field(default=0.05, ge=0, le=0.3)
    """Platelets for each red cell."""
    smudge_per_white_cell: float = Field(default=0.03, ge=0, le=1)
    """Smudge cells for each white cell."""
    dust_per_mm2: float = Field(default=4.0, ge=0, le=200)
    """Dust on the slide."""
    water_per_mm2: float = Field(default=6.0, ge=0, le=200)
    """Water marks."""
    precipitate_per_mm2: float = Field(default=6.0, ge=0, le=200)
    """Precipitate that staining leaves."""
    lost_fraction: float = Field(default=0.01, ge=0, le=1)
    """Share of cells that staining washes off."""
    staining_displacement_um: float = Field(default=0.3, ge=0, le=5)
    """Mean distance by which staining moves a cell."""

    @model_validator(mode="after")
    def _in_order(self) -> SmearSettings:
        for name in ("monolayer_x_um", "smear_y_um"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must run from smaller to larger, not {low} to {high}")
        return self
