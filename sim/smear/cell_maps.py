"""Single cells drawn in their own frame: thickness, index, stain, masks of nucleus and cell.

What the stain will show is in the phase already. Where chromatin is dense it is a little thicker,
and its grain, finer than the 20x bright-field image resolves, is much stronger: the steep LEDs see
how dark the stain will be. In the same way the cytoplasm's ribosomes (blue), and the granules of
each type, have grain of their own size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from plsctl.sim.smear.cells import CellType
from plsctl.sim.smear.outlines import Canvas, Image, fill, nucleus
from plsctl.sim.smear.stains import Stain
from plsctl.sim.smear.textures import MAP_PIXEL_UM, Textures

CYTOPLASM_EXCESS, CHROMATIN_EXCESS = -0.015, 0.015
"""Refractive index less 1.55."""

MARGIN_UM = 0.5


@dataclass(frozen=True)
class CellMaps:
    """Maps of one cell with pixels of `MAP_PIXEL_UM`, its centre in the middle; (y, x) float32.

    `stained` (3, y, x) is absorbance that the stain brings, `always` absorbance (the same in all
    colours) that is there before. `nucleus` and `body` run from 0 to 1.
    """

    thickness: Image
    index_excess: Image
    stained: Image
    always: Image | None
    nucleus: Image
    body: Image


@dataclass(frozen=True)
class _White:
    """How a type of white cell is built; lengths in micrometres, amounts relative."""

    cytoplasm_um: float
    nucleus_um: float
    edge_um: float
    clumps: float
    chromatin_grain_um: float
    chromatin: float
    azure: float
    eosin: float
    roughness: float
    granule_spacing_um: float
    granule_radius_um: float
    granule_um: float
    granule_excess: float
    granule_share: float


_WHITE: Final[dict[CellType, _White]] = {
    "neutrophil": _White(
        0.42, 0.48, 1.8, 0.30, 0.016, 1.00, 0.06, 0.85, 0.05, 0.62, 0.17, 0.07, 0.03, 0.9
    ),
    "lymphocyte": _White(
        0.36, 0.55, 1.6, 0.26, 0.013, 1.05, 1.00, 0.05, 0.04, 2.50, 0.25, 0.08, 0.03, 0.2
    ),
    "monocyte": _White(
        0.40, 0.40, 2.2, 0.24, 0.010, 0.80, 0.46, 0.40, 0.08, 0.80, 0.16, 0.05, 0.03, 0.6
    ),
    "eosinophil": _White(
        0.36, 0.45, 1.8, 0.26, 0.014, 0.95, 0.05, 0.35, 0.05, 0.98, 0.36, 0.40, 0.08, 1.0
    ),
    "basophil": _White(
        0.38, 0.40, 1.8, 0.15, 0.009, 0.80, 0.20, 0.25, 0.05, 1.25, 0.40, 0.36, 0.06, 0.8
    ),
}


def draw_cell(
    kind: CellType,
    shape: int,
    diameter_um: float,
    stain: Stain,
    variation: float,
    textures: Textures,
) -> CellMaps:
    """The maps of a cell or thing of any kind but a red cell.

    `shape` seeds all its looks; `variation` is how much stain differs between cells (0 to 2).
    """
    rng = np.random.default_rng((shape, 0xCE11))
    radius = diameter_um / 2
    if kind in _WHITE:
        return _white(kind, rng, radius, stain, variation, textures)
    if kind == "platelet":
        return _platelet(rng, radius, stain, textures)
    if kind == "smudge":
        return _smudge(rng, radius, stain, variation, textures)
    if kind == "dust":
        return _dust(rng, radius, textures)
    if kind == "water":
        return _water(rng, radius)
    return _precipitate(rng, radius, stain)


def _white(
    kind: CellType,
    rng: np.random.Generator,
    radius: float,
    stain: Stain,
    variation: float,
    textures: Textures,
) -> CellMaps:
    look = _WHITE[kind]
    canvas = Canvas(radius * (1 + 4 * look.roughness) + look.edge_um / 2 + MARGIN_UM)
    depth = canvas.round(rng, radius, look.roughness)
    body = fill(depth, look.edge_um)
    core = fill(nucleus(canvas, rng, kind, radius), 1.2) * fill(depth - np.float32(0.6), 0.9)
    coarse = textures.crop("coarse", rng, canvas.size)
    fine = textures.crop("fine", rng, canvas.size)

    uptake, blue, pink = np.exp(0.12 * variation * rng.standard_normal(3))
    dense = core * np.clip(1 + np.float32(look.clumps) * coarse, 0.3, 1.8) * np.float32(uptake)
    chromatin_um = np.float32(look.nucleus_um) * core * (1 + np.float32(0.3 * look.clumps) * coarse)
    chromatin_um += np.float32(look.chromatin_grain_um) * dense**2 * fine

    # As in red cells, plasma dried about its foot makes the cell's edge softer than its colour's.
    bare = fill(depth, 0.7) * (1 - np.float32(0.75) * core)
    grain = textures.crop("fine", rng, canvas.size)
    ribosomes = np.float32(look.azure * blue) * bare
    flow = 1 + np.float32(0.12) * textures.crop("coarse", rng, canvas.size)
    cytoplasm_um = np.float32(look.cytoplasm_um) * body * (1 - np.float32(0.35) * core)
    cytoplasm_um += np.float32(0.007) * ribosomes * flow * grain

    over = 0.75 if kind == "basophil" else 0.12
    room = fill(depth - np.float32(0.9), 0.9) * (1 - np.float32(1 - over) * core)
    granules = _granules(canvas, rng, look, room)
    granules_um = np.float32(look.granule_um) * granules

    absorbance = _mix(stain.chromatin, np.float32(look.chromatin) * dense * (1 + 0.08 * fine))
    absorbance += _mix(stain.azure, ribosomes * flow * (1 + np.float32(0.06) * grain))
    absorbance += _mix(stain.eosin, np.float32(look.eosin * pink) * bare * flow)
    absorbance += _mix(_granule_colour(kind, stain), granules)
    excess = np.float32(CYTOPLASM_EXCESS) * cytoplasm_um
    excess += np.float32(CHROMATIN_EXCESS) * chromatin_um
    excess += np.float32(look.granule_excess) * granules_um
    thickness = cytoplasm_um + chromatin_um + granules_um
    return CellMaps(thickness, excess, absorbance, None, core, body)


def _granule_colour(kind: str, stain: Stain) -> NDArray[np.float32]:
    if kind == "eosinophil":
        return stain.eosinophil_granule
    if kind == "basophil":
        return stain.basophil_granule
    # Specific granules of neutrophils are pale lilac, azurophilic ones of the others purple.
    return (0.16 if kind == "neutrophil" else 0.3) * stain.platelet


def _granules(canvas: Canvas, rng: np.random.Generator, look: _White, room: Image) -> Image:
    """Granules from 0 to 1 on a loose hexagonal packing, where there is room."""
    spacing = look.granule_spacing_um
    count = math.ceil(canvas.size * MAP_PIXEL_UM / spacing) + 2
    rows, columns = np.mgrid[0 : int(count * 1.16) + 1, 0:count].reshape(2, -1)
    places = np.stack([rows * math.sqrt(0.75), columns + 0.5 * (rows % 2)])
    places = (places + rng.normal(0, 0.2, places.shape)) * spacing / MAP_PIXEL_UM
    return _dots(canvas, rng, places - spacing, look.granule_radius_um, room, look.granule_share)


def _dots(
    canvas: Canvas,
    rng: np.random.Generator,
    places: NDArray[np.float64],
    radius_um: float,
    room: Image,
    share: float,
) -> Image:
    """Soft discs at (row, column) places, each there with probability `share` times `room`."""
    pixels = np.rint(places).astype(np.int64)
    pixels = pixels[:, ((pixels >= 0) & (pixels < canvas.size)).all(axis=0)]
    pixels = pixels[:, rng.random(pixels.shape[1]) < share * room[pixels[0], pixels[1]]]
    marks = np.zeros((canvas.size, canvas.size), np.float32)
    np.add.at(marks, (pixels[0], pixels[1]), rng.uniform(0.8, 1.2, pixels.shape[1]))
    sigma = radius_um / MAP_PIXEL_UM / 1.18
    marks = ndimage.gaussian_filter(marks, sigma, truncate=4) * np.float32(2 * math.pi * sigma**2)
    dots: Image = 1 - np.exp(-np.float32(1.2) * marks * room)
    return dots


def _mix(colour: NDArray[np.float32], amount: Image) -> Image:
    product: Image = colour.astype(np.float32)[:, None, None] * amount.astype(np.float32)
    return product


def _platelet(
    rng: np.random.Generator, radius: float, stain: Stain, textures: Textures
) -> CellMaps:
    canvas = Canvas(radius * 1.6 + 0.5 + MARGIN_UM)
    depth = canvas.round(rng, radius, 0.12)
    body = fill(depth, 1.2)
    fine = textures.crop("fine", rng, canvas.size)
    middle = fill(depth - np.float32(0.4 * radius), 1.0)
    thickness = np.float32(0.4) * body + np.float32(0.012) * middle * fine
    amount = (np.float32(0.35) * body + np.float32(0.65) * middle) * (1 + np.float32(0.15) * fine)
    stained = _mix(stain.platelet, amount * np.float32(np.exp(rng.normal(0, 0.15))))
    return CellMaps(thickness, thickness * 0, stained, None, body * 0, body)


def _smudge(
    rng: np.random.Generator, radius: float, stain: Stain, variation: float, textures: Textures
) -> CellMaps:
    canvas = Canvas(radius * 1.9 + 1.5 + MARGIN_UM)
    body = fill(canvas.round(rng, radius, 0.16), 3.0)
    coarse = textures.crop("coarse", rng, canvas.size)
    fine = textures.crop("fine", rng, canvas.size)
    dense = body * np.clip(1 + np.float32(0.35) * coarse, 0.2, 2)
    thickness = np.float32(0.28) * body * (1 + np.float32(0.12) * coarse)
    thickness += np.float32(0.008) * dense * fine
    stained = _mix(
        stain.chromatin, np.float32(0.5 * np.exp(0.15 * variation * rng.normal())) * dense
    )
    return CellMaps(thickness, np.float32(CHROMATIN_EXCESS) * thickness, stained, None, body, body)


def _dust(rng: np.random.Generator, radius: float, textures: Textures) -> CellMaps:
    canvas = Canvas(radius * 2.2 + 0.8 + MARGIN_UM)
    body = fill(canvas.round(rng, radius, 0.22), 1.6)
    coarse = textures.crop("coarse", rng, canvas.size)
    always = body * np.float32(rng.uniform(1.0, 2.2)) * np.clip(1 + np.float32(0.2) * coarse, 0, 2)
    thickness = np.float32(0.5) * body * (1 + np.float32(0.2) * coarse)
    none = np.zeros((3, canvas.size, canvas.size), np.float32)
    return CellMaps(thickness, thickness * 0, none, always, body * 0, body)


def _water(rng: np.random.Generator, radius: float) -> CellMaps:
    """Rims of dried water in the film: ridges of phase, without colour."""
    canvas = Canvas(radius + 3.5)
    thickness = np.zeros((canvas.size, canvas.size), np.float32)
    body = np.zeros_like(thickness)
    for _ in range(int(rng.integers(3, 8))):
        angle, away = rng.uniform(0, 2 * math.pi), radius * math.sqrt(rng.random()) * 0.75
        size, height = rng.uniform(0.5, 1.6), rng.uniform(0.2, 0.45)
        x = canvas.x - np.float32(away * math.cos(angle))
        y = canvas.y - np.float32(away * math.sin(angle))
        distance = np.hypot(x, y)
        # The ridge's square root vanishes at the bubble's middle: no kink there.
        ring = (np.sqrt(distance**2 + np.float32(0.04)) - np.float32(size)) / np.float32(0.42)
        thickness += np.float32(height) * np.exp(-(ring**2))
        body = np.maximum(body, fill(np.float32(size + 0.5) - distance, 0.8))
    thickness *= fill(np.float32(radius + 1.8) - np.hypot(canvas.x, canvas.y), 2.0)
    none = np.zeros((3, canvas.size, canvas.size), np.float32)
    return CellMaps(thickness, np.float32(-0.15) * thickness, none, None, body * 0, body)


def _precipitate(rng: np.random.Generator, radius: float, stain: Stain) -> CellMaps:
    canvas = Canvas(radius + 1.5)
    room = fill(np.float32(radius) - np.hypot(canvas.x, canvas.y), 1.0)
    middle = canvas.size / 2
    places = rng.normal(middle, 0.45 * radius / MAP_PIXEL_UM, (2, int(rng.integers(12, 60))))
    dots = _dots(canvas, rng, places, float(rng.uniform(0.25, 0.4)), room, 1.0)
    nothing = np.zeros((canvas.size, canvas.size), np.float32)
    return CellMaps(nothing, nothing, _mix(stain.precipitate, dots), None, nothing, dots)
