"""A rectangular grid of points on the slide, at any place, scale and rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """Points at slide = origin + R(rotation) (column, row) grid, micrometres; y runs down.

    `origin_x_um`, `origin_y_um` is the slide position of grid point (0, 0); `shape` is (rows,
    columns).
    """

    origin_x_um: float
    origin_y_um: float
    grid_um: float
    rotation_deg: float
    shape: tuple[int, int]

    def to_grid(
        self, x_um: FloatArray | float, y_um: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        """Column and row (fractions allowed) of slide positions."""
        dx, dy = np.asarray(x_um) - self.origin_x_um, np.asarray(y_um) - self.origin_y_um
        cos, sin = self._turn()
        return (cos * dx + sin * dy) / self.grid_um, (cos * dy - sin * dx) / self.grid_um

    def to_slide(
        self, column: FloatArray | float, row: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        """Slide position (micrometres) of columns and rows."""
        across, down = np.asarray(column) * self.grid_um, np.asarray(row) * self.grid_um
        cos, sin = self._turn()
        return (
            self.origin_x_um + cos * across - sin * down,
            self.origin_y_um + sin * across + cos * down,
        )

    def bounds_um(self, margin_um: float) -> tuple[float, float, float, float]:
        """The upright rectangle of the slide around the view: x min, y min, x max, y max."""
        rows, columns = self.shape
        x, y = self.to_slide(
            np.array([0.0, columns, 0.0, columns]), np.array([0.0, 0.0, rows, rows])
        )
        return (
            float(x.min()) - margin_um,
            float(y.min()) - margin_um,
            float(x.max()) + margin_um,
            float(y.max()) + margin_um,
        )

    def _turn(self) -> tuple[float, float]:
        angle = math.radians(self.rotation_deg)
        return math.cos(angle), math.sin(angle)
