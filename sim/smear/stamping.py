"""Cells drawn in their own frame, placed on a view at any sub-pixel place and rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from plsctl.sim.smear.cell_maps import CellMaps
from plsctl.sim.smear.textures import MAP_PIXEL_UM

Image = NDArray[np.float32]

Place = tuple[float, float, float]
"""Column and row of a cell's centre in a view, and rotation of the view in its frame, degrees."""


@dataclass(frozen=True)
class Stamp:
    """A cell's maps as coefficients of cubic splines, float32 (y, x), without empty maps.

    `plain` and `stained` hold what the cell adds to each layer: thickness, index excess and three
    colours of absorbance.
    """

    plain: tuple[tuple[Image, ...], ...]
    stained: tuple[tuple[Image, ...], ...]

    @classmethod
    def of(cls, maps: CellMaps) -> Stamp:
        """The coefficients of a drawn cell."""
        phase = (_unless_empty(maps.thickness), _unless_empty(maps.index_excess))
        always = () if maps.always is None else _unless_empty(maps.always)
        colours = (_unless_empty(colour) + always for colour in maps.stained)
        return cls((*phase, always, always, always), (*phase, *colours))


def _unless_empty(image: Image) -> tuple[Image, ...]:
    return (spline_coefficients([image])[0],) if image.any() else ()


def add_stamp(coefficients: Image, target: Image, grid_um: float, where: Place) -> None:
    """Add one layer of a cell to an image in place.

    Parameters
    ----------
    coefficients
        Spline coefficients (y, x) of the cell, whose content lies within the map's inscribed disc.
    target
        The image (y, x), grid steps of `grid_um`.
    where
        Where the cell lies.
    """
    column, row, turn_deg = where
    half = (coefficients.shape[0] - 1) / 2
    reach = half * MAP_PIXEL_UM / grid_um
    top, bottom = max(0, math.ceil(row - reach)), min(target.shape[0], math.floor(row + reach) + 1)
    left = max(0, math.ceil(column - reach))
    right = min(target.shape[1], math.floor(column + reach) + 1)
    if top >= bottom or left >= right:
        return
    step, turn = grid_um / MAP_PIXEL_UM, math.radians(turn_deg)
    cos, sin = step * math.cos(turn), step * math.sin(turn)
    matrix = np.array([[cos, sin], [-sin, cos]])
    offset = half + matrix @ np.array([top - row, left - column])
    target[top:bottom, left:right] += ndimage.affine_transform(
        coefficients,
        matrix,
        offset,
        output_shape=(bottom - top, right - left),
        output=np.float32,
        order=3,
        prefilter=False,
    )


def spline_coefficients(layers: list[Image]) -> Image:
    """Coefficients (layer, y, x) of the cubic splines through maps, for `add_stamp`."""
    return np.stack([ndimage.spline_filter(layer, 3, output=np.float32) for layer in layers])
