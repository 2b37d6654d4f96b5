"""Cells drawn in their own frame, placed on a view at any sub-pixel place and rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from plsctl.sim.cell_maps import CellMaps
from plsctl.sim.textures import MAP_PIXEL_UM

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Stamp:
    """A cell's maps as coefficients of cubic splines, float32 (layer, y, x).

    `phase` holds thickness and index excess, `stained` three colours.
    """

    phase: Image
    stained: Image
    always: Image | None

    @classmethod
    def of(cls, maps: CellMaps) -> Stamp:
        """The coefficients of a drawn cell."""
        return cls(
            phase=spline_coefficients([maps.thickness, maps.index_excess]),
            stained=spline_coefficients(list(maps.stained)),
            always=None if maps.always is None else spline_coefficients([maps.always])[0],
        )


def add_stamp(
    coefficients: Image, target: Image, grid_um: float, where: tuple[float, float, float]
) -> None:
    """Add one layer of a cell to an image in place.

    Parameters
    ----------
    coefficients
        Spline coefficients (y, x) of the cell, whose content lies within the map's inscribed disc.
    target
        The image (y, x), grid steps of `grid_um`.
    where
        Column and row of the cell's centre, and rotation of the view in the cell's frame, degrees.
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
