"""Red cells drawn straight onto a view: biconcave discs from a formula, many at a time.

Nothing is interpolated, so a view moved by any fraction of a grid step shows the shifted cells.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from plsctl.sim.view import View

EDGE_UM = 1.5
"""Width over which the edge falls to the glass, for a cell 1 um high."""

REACH = 1.16
"""No cell reaches further from its centre than this many radii plus half its edge."""

BATCH_POINTS = 150_000

Image = NDArray[np.float32]


def draw_red_cells(
    cells: NDArray[np.void], view: View, stained: bool, thickness: Image, dose: Image
) -> None:
    """Add red cells to a view.

    Parameters
    ----------
    cells
        Records of `plsctl.sim.placing.RED`.
    view
        The grid of points.
    stained
        Draw cells at their place after staining, without those that were lost.
    thickness, dose
        Added to in place, (y, x): height in micrometres, and height times how richly the cell holds
        haemoglobin and takes eosin.
    """
    if stained:
        cells = cells[cells["lost"] == 0]
    if len(cells) == 0:
        return
    x = cells["x_um"] + (cells["shift_x_um"] if stained else 0)
    y = cells["y_um"] + (cells["shift_y_um"] if stained else 0)
    column, row = view.to_grid(x, y)
    size = 2 + 2 * math.ceil(
        (REACH * float(cells["diameter_um"].max()) / 2 + EDGE_UM) / view.grid_um
    )
    left = np.floor(column).astype(np.int64) - size // 2 + 1
    top = np.floor(row).astype(np.int64) - size // 2 + 1
    height, width = view.shape
    seen = (left > -size) & (left < width) & (top > -size) & (top < height)
    cells, column, row, left, top = (a[seen] for a in (cells, column, row, left, top))
    batch = max(1, BATCH_POINTS // size**2)
    for start in range(0, len(cells), batch):
        part = slice(start, start + batch)
        offset_x = left[part] - column[part]
        offset_y = top[part] - row[part]
        stamps = _stamps(cells[part], offset_x, offset_y, size, view)
        for stamp, x0, y0, richness in zip(
            stamps, left[part], top[part], cells["dose"][part], strict=True
        ):
            x1, y1 = max(0, -x0), max(0, -y0)
            piece = stamp[y1 : height - y0, x1 : width - x0]
            target = (slice(y0 + y1, y0 + size), slice(x0 + x1, x0 + size))
            thickness[target] += piece
            dose[target] += piece * np.float32(richness)


def _stamps(
    cells: NDArray[np.void],
    offset_x: NDArray[np.float64],
    offset_y: NDArray[np.float64],
    size: int,
    view: View,
) -> Image:
    """Heights (cell, y, x) on patches whose corner lies at the offset (grid steps) from the cell."""
    turn = np.radians(view.rotation_deg - cells["angle_deg"])
    radius = cells["diameter_um"] / 2
    scale = view.grid_um / radius
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    across = offset_x[:, None] + np.arange(size)
    down = offset_y[:, None] + np.arange(size)

    def plane(a: NDArray[np.float64], b: NDArray[np.float64]) -> Image:
        return _single(a[:, None] * across)[:, None, :] + _single(b[:, None] * down)[:, :, None]

    def each(name: str) -> Image:
        return _single(cells[name])[:, None, None]

    # Position in the cell's own frame, in radii.
    u, v = plane(cos, -sin), plane(sin, cos)
    square = u * u
    square += v * v
    away = np.sqrt(square)
    c = u / np.maximum(away, np.float32(1e-3))
    s = v / np.maximum(away, np.float32(1e-3))
    cc = c * c
    # cos 2a = 2 cc - 1; cos 3a = c (4 cc - 3); sin 3a = s (4 cc - 1).
    outline = each("oval") * (2 * cc - 1) + 1
    cc *= 4
    outline += each("skew_cos") * c * (cc - 3)
    outline += each("skew_sin") * s * (cc - 1)
    # A higher cell has a wider edge, so that its slope, which bends the light, stays the same.
    width = _single(EDGE_UM * cells["height_um"] / radius)[:, None, None]
    outline -= away
    outline /= width
    outline += np.float32(0.5)
    edge = smooth_step(outline)
    u -= each("dimple_x")
    v -= each("dimple_y")
    u *= u
    v *= v
    u += v
    u /= -(each("dimple_width") ** 2)
    dimple = np.exp(u, out=u)
    dimple *= -each("dimple")
    dimple += 1
    edge *= dimple
    edge *= each("height_um")
    return edge


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


def _single(values: NDArray[np.float64]) -> Image:
    return values.astype(np.float32)
