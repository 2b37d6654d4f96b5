"""Objects on a slide: their kinds, and the record of one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

CellType = Literal[
    "neutrophil",
    "lymphocyte",
    "monocyte",
    "eosinophil",
    "basophil",
    "red",
    "platelet",
    "smudge",
    "dust",
    "water",
    "precipitate",
]

WHITE_TYPES: Final[tuple[CellType, ...]] = (
    "neutrophil",
    "lymphocyte",
    "monocyte",
    "eosinophil",
    "basophil",
)

NATURAL_PROPORTIONS: Final = (0.615, 0.29, 0.06, 0.028, 0.007)
"""Within the ranges of papers/002 section 1.1.1, in the order of `WHITE_TYPES`."""

DIAMETERS_UM: Final[dict[CellType, tuple[float, float]]] = {
    "neutrophil": (12.0, 15.0),
    "lymphocyte": (7.0, 12.0),
    "monocyte": (16.0, 20.0),
    "eosinophil": (12.0, 16.0),
    "basophil": (10.0, 14.0),
    "red": (6.5, 8.5),
    "platelet": (2.2, 3.8),
    "smudge": (15.0, 21.0),
    "dust": (3.0, 12.0),
    "water": (5.0, 11.0),
    "precipitate": (4.0, 10.0),
}
"""Smallest and largest diameter of each kind in a dried smear."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell, or another thing on the slide, in slide coordinates.

    `lost` cells are washed off by staining; the others then lie at `shift_x_um`, `shift_y_um` from
    their old place. `shape` seeds everything about the looks of this one.
    """

    id: int
    type: CellType
    x_um: float
    y_um: float
    diameter_um: float
    angle_deg: float
    lost: bool
    shift_x_um: float
    shift_y_um: float
    shape: int

    @property
    def is_white(self) -> bool:
        """Whether it is an intact white cell."""
        return self.type in WHITE_TYPES

    def position(self, stained: bool) -> tuple[float, float]:
        """Its centre (micrometres) before or after staining."""
        if not stained:
            return self.x_um, self.y_um
        return self.x_um + self.shift_x_um, self.y_um + self.shift_y_um
