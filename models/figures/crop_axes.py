"""Crops in figures: without ticks, with a scale bar."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from plsctl.process.pages.scale_bar import bar_length_um


def draw_bar(axis: Axes, side_px: int, pixel_um: float, *, left_px: float = 0) -> None:
    """Draw a scale bar at the lower right of a crop that an axis shows.

    Parameters
    ----------
    side_px
        Side of the crop.
    left_px
        Where the crop begins, of several beside each other.
    """
    length = bar_length_um(side_px * pixel_um) / pixel_um
    place = (left_px + 0.95 * side_px - length, 0.91 * side_px)
    bar = Rectangle(place, length, 0.035 * side_px, facecolor="black", edgecolor="white", lw=0.4)
    axis.add_patch(bar)


def bar_text(side_px: int, pixel_um: float) -> str:
    """What the bars stand for."""
    return f"bars: {bar_length_um(side_px * pixel_um)} µm"
