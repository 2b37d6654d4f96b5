"""Red cells drawn straight onto a view: biconcave discs from a formula, many at a time.

Nothing is interpolated, so a view moved by any fraction of a grid step shows the shifted cells.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from plsctl.sim.smear.view import View

EDGE_UM = 2.65
"""Width over which the edge falls to the glass, for a cell 1 um high.

A slope of about 0.5 in air bends light by 0.3: enough for dark rims at NA 0.4, too little to bring
the light of the steepest LEDs into the pupil, so that the dark field falls 350 times to 57 degrees.
"""

FOOT = 0.3
"""Share of the edge that lies outside the cell's nominal outline."""

PIGMENT_EDGE_UM = 0.6
"""Haemoglobin ends more sharply than the height, which plasma dried about the foot smooths."""

ROUNDING = 0.3
"""Share of the edge's width taken by each of its rounded ends."""

REACH = 1.16
"""No cell reaches further from its centre than this many radii plus the foot of its edge."""

BATCH_POINTS = 150_000

Image = NDArray[np.float32]
FloatArray = NDArray[np.float64]
Records = NDArray[np.void]


def draw_red_cells(
    cells: Records, view: View, stained: bool, thickness: Image, dose: Image, pool: Executor
) -> None:
    """Add red cells to a view.

    Parameters
    ----------
    cells
        Records of `plsctl.sim.smear.placing.RED`.
    view
        The grid of points.
    stained
        Draw cells at their place after staining, without those that were lost.
    thickness, dose
        Added to in place, (y, x): height in micrometres, and amount of haemoglobin, which takes
        the eosin: about 1 in a cell 1 um high.
    pool
        Where cells are drawn.
    """
    if stained:
        cells = cells[cells["lost"] == 0]
    if len(cells) == 0:
        return
    x = cells["x_um"] + (cells["shift_x_um"] if stained else 0)
    y = cells["y_um"] + (cells["shift_y_um"] if stained else 0)
    column, row = view.to_grid(x, y)
    reach_um = REACH * float(cells["diameter_um"].max()) / 2 + 1.2 * FOOT * EDGE_UM
    size = 2 + 2 * math.ceil(reach_um / view.grid_um)
    left = np.floor(column).astype(np.int64) - size // 2 + 1
    top = np.floor(row).astype(np.int64) - size // 2 + 1
    height, width = view.shape
    seen = np.flatnonzero((left > -size) & (left < width) & (top > -size) & (top < height))
    batch = max(1, BATCH_POINTS // size**2)
    parts = [seen[start : start + batch] for start in range(0, len(seen), batch)]

    def draw(part: NDArray[np.int64]) -> tuple[Image, Image]:
        offsets = (left[part] - column[part], top[part] - row[part])
        return _CellFrame(cells[part], *offsets, size, view).draw()

    for part, (heights, doses) in zip(parts, pool.map(draw, parts), strict=True):
        for stamp, pigment, x0, y0 in zip(heights, doses, left[part], top[part], strict=True):
            source = (slice(max(0, -y0), height - y0), slice(max(0, -x0), width - x0))
            target = (slice(max(0, y0), y0 + size), slice(max(0, x0), x0 + size))
            thickness[target] += stamp[source]
            dose[target] += pigment[source]


class _CellFrame:
    """Patches of the view, each in its red cell's own frame; arrays (cell, y, x).

    `u`, `v` are positions in the cell's radii along and across its longer axis.
    """

    def __init__(
        self, cells: Records, offset_x: FloatArray, offset_y: FloatArray, size: int, view: View
    ) -> None:
        self.cells = cells
        self.radius_um = cells["diameter_um"] / 2
        turn = np.radians(view.rotation_deg - cells["angle_deg"])
        scale = view.grid_um / self.radius_um
        cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
        across = offset_x[:, None] + np.arange(size)
        down = offset_y[:, None] + np.arange(size)
        self.u = _plane(cos[:, None] * across, -sin[:, None] * down)
        self.v = _plane(sin[:, None] * across, cos[:, None] * down)

    def draw(self) -> tuple[Image, Image]:
        """Heights and doses."""
        depth = self._depth_um()
        dose = smooth_step(depth / np.float32(PIGMENT_EDGE_UM) + np.float32(0.25))
        # A higher cell has a wider edge, so that its slope, which bends the light, stays the same.
        depth /= np.float32(EDGE_UM) * self._each("height_um")
        depth += np.float32(FOOT)
        height = _ramp(depth)
        hollow = self._hollow()
        height *= hollow
        # The dry hollow is shallower than the living one, which the haemoglobin remembers.
        dose *= hollow
        dose *= hollow
        dose *= self._each("dose")
        return height, dose

    def _depth_um(self) -> Image:
        """How far inside the outline: a circle with second and third harmonics."""
        away = self.u * self.u
        away += self.v * self.v
        np.sqrt(away, out=away)
        nearest = np.maximum(away, np.float32(1e-3))
        c, s = self.u / nearest, self.v / nearest
        cc = c * c
        # cos 2a = 2 cc - 1; cos 3a = c (4 cc - 3); sin 3a = s (4 cc - 1).
        outline: Image = self._each("oval") * (2 * cc - 1) + 1
        cc *= 4
        outline += self._each("skew_cos") * c * (cc - 3)
        outline += self._each("skew_sin") * s * (cc - 1)
        outline -= away
        outline *= _single(self.radius_um)[:, None, None]
        return outline

    def _hollow(self) -> Image:
        """Height of the cell's inside, hollowed in the middle from both faces."""
        x = self.u - self._each("dimple_x")
        y = self.v - self._each("dimple_y")
        x *= x
        y *= y
        x += y
        x /= -(self._each("dimple_width") ** 2)
        np.exp(x, out=x)
        x *= -self._each("dimple")
        x += 1
        x *= self._each("height_um")
        return x

    def _each(self, name: str) -> Image:
        values: Image = _single(self.cells[name])[:, None, None]
        return values


def _ramp(t: Image) -> Image:
    """0 below 0, 1 above 1, and between them straight but for rounded ends: the gentlest slope."""
    t *= np.float32(1 / ROUNDING)
    foot = _bend(t)
    t -= np.float32(1 / ROUNDING - 1)
    foot -= _bend(t)
    foot *= np.float32(ROUNDING / (1 - ROUNDING))
    return foot


def _bend(t: Image) -> Image:
    """0 below 0 and t - 1/2 above 1, bent smoothly (three derivatives) in between."""
    inside = np.clip(t, 0, 1)
    bend = inside - 3
    bend *= inside
    bend += np.float32(2.5)
    inside *= inside
    inside *= inside
    bend *= inside
    bend += np.maximum(t - 1, 0)
    return bend


def smooth_step(t: Image) -> Image:
    """0 below 0, 1 above 1, and between them a rise with three continuous derivatives."""
    t = np.clip(t, 0, 1)
    rise = t * np.float32(-20)
    rise += 70
    rise *= t
    rise -= 84
    rise *= t
    rise += 35
    t *= t
    t *= t
    rise *= t
    return rise


def _plane(along_x: FloatArray, along_y: FloatArray) -> Image:
    plane: Image = _single(along_x)[:, None, :] + _single(along_y)[:, :, None]
    return plane


def _single(values: FloatArray) -> Image:
    return values.astype(np.float32)
