"""Outlines of cells and nuclei as signed depths: positive inside, in micrometres from the edge."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from plsctl.sim.smear.red_cells import smooth_step
from plsctl.sim.smear.textures import MAP_PIXEL_UM

Image = NDArray[np.float32]
Point = tuple[float, float]


class Canvas:
    """The square map in which one cell is drawn, the cell's centre in its middle.

    `x`, `y` are micrometres from the centre; `size` is odd.
    """

    def __init__(self, reach_um: float) -> None:
        half = math.ceil(reach_um / MAP_PIXEL_UM)
        self.size = 2 * half + 1
        axis = np.arange(-half, half + 1, dtype=np.float32) * np.float32(MAP_PIXEL_UM)
        self.x = np.broadcast_to(axis[None, :], (self.size, self.size))
        self.y = np.broadcast_to(axis[:, None], (self.size, self.size))

    def round(self, rng: np.random.Generator, radius_um: float, roughness: float) -> Image:
        """Depth inside a disc whose radius swings by about `roughness` (a share of it)."""
        angle = np.arctan2(self.y, self.x)
        outline = np.ones_like(angle)
        for order in range(2, 7):
            swing, phase = rng.normal(0, roughness / order), rng.uniform(0, 2 * math.pi)
            outline += np.float32(swing * 2) * np.cos(order * angle + np.float32(phase))
        return np.float32(radius_um) * outline - np.hypot(self.x, self.y)

    def capsule(self, start: Point, end: Point, radius_um: float) -> Image:
        """Depth inside everything closer than `radius_um` to a line (or a point)."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        x, y = self.x - np.float32(start[0]), self.y - np.float32(start[1])
        length = max(dx * dx + dy * dy, 1e-9)
        along = np.clip((x * np.float32(dx) + y * np.float32(dy)) / np.float32(length), 0, 1)
        away = np.hypot(x - along * np.float32(dx), y - along * np.float32(dy))
        return np.float32(radius_um) - away


def join(depths: list[Image], blend_um: float) -> Image:
    """Depth inside the union of shapes, its notches rounded over about `blend_um`."""
    top = np.maximum.reduce(depths)
    total = np.zeros_like(top)
    for depth in depths:
        total += np.exp((depth - top) / np.float32(blend_um))
    joined: Image = top + np.float32(blend_um) * np.log(total)
    return joined


def fill(depth: Image, edge_um: float) -> Image:
    """1 inside, 0 outside, rising over `edge_um` about the outline."""
    return smooth_step(depth / np.float32(edge_um) + np.float32(0.5))


def nucleus(canvas: Canvas, rng: np.random.Generator, kind: str, radius_um: float) -> Image:
    """Depth inside the nucleus of a white cell of radius `radius_um`.

    Shapes as in papers/002 section 1.1.1: lobes on strands for granulocytes, a disc for
    lymphocytes, a bean for monocytes.
    """
    if kind == "lymphocyte":
        middle = tuple(rng.normal(0, 0.05 * radius_um, 2))
        disc = canvas.capsule((middle[0], middle[1]), (middle[0], middle[1]), 0.83 * radius_um)
        return disc + _dent(canvas, rng, radius_um, 0.12)
    if kind == "monocyte":
        return _bean(canvas, rng, radius_um)
    return _lobes(canvas, rng, kind, radius_um)


def _dent(canvas: Canvas, rng: np.random.Generator, radius_um: float, depth: float) -> Image:
    """A smooth notch pressed into one side, as depth to add (negative)."""
    angle = rng.uniform(0, 2 * math.pi)
    x = canvas.x - np.float32(radius_um * 0.95 * math.cos(angle))
    y = canvas.y - np.float32(radius_um * 0.95 * math.sin(angle))
    size = np.float32(0.35 * radius_um)
    dent: Image = np.float32(-depth * radius_um) * np.exp(-(x * x + y * y) / (size * size))
    return dent


def _bean(canvas: Canvas, rng: np.random.Generator, radius_um: float) -> Image:
    span = rng.uniform(2.2, 4.2)
    bend, thickness = rng.uniform(0.38, 0.48) * radius_um, rng.uniform(0.29, 0.35) * radius_um
    turn = rng.uniform(0, 2 * math.pi)
    angles = turn + span * np.linspace(-0.5, 0.5, 6)
    shift = 0.35 * bend
    points = [
        (
            float(bend * math.cos(a) - shift * math.cos(turn)),
            float(bend * math.sin(a) - shift * math.sin(turn)),
        )
        for a in angles
    ]
    parts = [
        canvas.capsule(a, b, thickness * float(rng.uniform(0.9, 1.08))) for a, b in pairwise(points)
    ]
    return join(parts, 0.15 * radius_um)


def _lobes(canvas: Canvas, rng: np.random.Generator, kind: str, radius_um: float) -> Image:
    if kind == "neutrophil":
        count = int(rng.choice((2, 3, 4, 5), p=(0.12, 0.42, 0.34, 0.12)))
        size = radius_um * {2: 0.37, 3: 0.315, 4: 0.275, 5: 0.245}[count]
        span = {2: 1.9, 3: 3.2, 4: 4.3, 5: 5.0}[count] * rng.uniform(0.85, 1.1)
        bend = 0.47 * radius_um
    elif kind == "eosinophil":
        count = 2 if rng.random() < 0.85 else 3
        size, span = radius_um * (0.36 if count == 2 else 0.30), rng.uniform(2.0, 2.8)
        bend = 0.46 * radius_um
    else:  # Basophils: two or three broad lobes, hardly apart.
        count, size, span = int(rng.integers(2, 4)), 0.36 * radius_um, rng.uniform(1.7, 2.8)
        bend = 0.38 * radius_um
    turn = rng.uniform(0, 2 * math.pi)
    parts, before = [], None
    for angle in turn + span * np.linspace(-0.5, 0.5, count):
        away = bend * rng.uniform(0.85, 1.15)
        middle = (away * math.cos(angle), away * math.sin(angle))
        # Each lobe is a little longer than wide, lying along the bend or across it.
        lean = angle + math.pi / 2 + rng.normal(0, 0.6)
        half = size * rng.uniform(0.1, 0.5)
        dx, dy = half * math.cos(lean), half * math.sin(lean)
        start, end = (middle[0] - dx, middle[1] - dy), (middle[0] + dx, middle[1] + dy)
        parts.append(canvas.capsule(start, end, size * float(rng.uniform(0.85, 1.1))))
        if before is not None:
            parts.append(canvas.capsule(before, middle, float(rng.uniform(0.3, 0.55))))
        before = middle
    return join(parts, 0.25)
