"""Scale bars: a round length in micrometres, drawn over a picture."""

from __future__ import annotations

LENGTHS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def bar_length_um(width_um: float) -> int:
    """The longest round length that takes at most 30 % of a picture of this width."""
    return max((n for n in LENGTHS_UM if n <= 0.3 * width_um), default=LENGTHS_UM[0])


def scale_bar(width_px: float, height_px: float, um_per_px: float, *, named: bool = True) -> str:
    """A bar at the lower right of a picture, as SVG in the picture's pixels.

    Parameters
    ----------
    named
        Write the length above it; crops are too small for that, and their captions say it.
    """
    length_um = bar_length_um(width_px * um_per_px)
    length = length_um / um_per_px
    thick = 0.007 * width_px if named else 0.03 * width_px
    edge = 0.025 * width_px if named else 0.05 * width_px
    left, base = width_px - length - edge, height_px - edge
    bar = (
        f'<rect class="bar" x="{left:.2f}" y="{base - thick:.2f}" width="{length:.2f}" '
        f'height="{thick:.2f}" stroke-width="{0.4 * thick:.2f}"/>'
    )
    if not named:
        return bar
    size = 0.024 * width_px
    return bar + (
        f'<text class="bar-text" x="{left + length / 2:.2f}" y="{base - 2 * thick:.2f}" '
        f'style="font-size:{size:.2f}px">{length_um} µm</text>'
    )
