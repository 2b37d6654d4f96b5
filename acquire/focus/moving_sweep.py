"""A sweep during one slow move: images are taken while z moves, each with the height it shows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.focus.sweep import MAX_EXTENSIONS, is_peak, no_focus

Sample = tuple[float, float]
"""Height, um, and sharpness there."""

LEAST_SAMPLES = 5
"""With fewer the drive does not tell where it is on its way, or it was not slow."""

STANDS_SHARE = 0.1
"""A drive that has moved less than this share of a step since the image before stands still."""

STILL_IMAGES = 3
"""So many images of a drive that stands still end a move: it may take a while to start."""


SURE = 5.0
"""A peak exceeds the ends by so many standard deviations of what sharpness scatters."""

PEAK, LEAST_AWAY = 4, 8
"""So many images on either side of the sharpest one belong to the peak, and so many others tell how
sharpness scatters."""


def look_while_moving(
    microscope: Microscope,
    expose: Callable[[], None],
    sharpness: Callable[[], float],
    low_um: float,
    high_um: float,
    step_um: float,
) -> list[Sample]:
    """Heights and sharpness over one move from low to high; only the first where it tells none.

    The height of an image is that of the middle of its exposure, from where the drive says it is
    before and after.

    Parameters
    ----------
    expose, sharpness
        Expose an image; read it out and say how sharp it is.
    step_um
        How far z moves from one image to the next: this, and how long an image takes, set the
        speed.
    """
    microscope.move_z(low_um)
    began_s = microscope.clock.now()
    expose()
    samples = [(low_um, sharpness())]
    um_per_s = step_um / max(microscope.clock.now() - began_s, 1e-3)
    last_um, still, least_um = low_um, 0, STANDS_SHARE * step_um
    with microscope.z_on_its_way(high_um, um_per_s):
        while still < STILL_IMAGES and last_um < high_um - least_um:
            before_um = microscope.z_um
            expose()
            after_um = microscope.z_um
            value = sharpness()
            if before_um - last_um < least_um:
                still += 1
                continue
            still = 0
            samples.append(((before_um + after_um) / 2, value))
            last_um = before_um
    return samples


def moving_sweep(
    look: Callable[[float, float], list[Sample]],
    centre_um: float,
    half_range_um: float,
    limits_um: tuple[float, float],
) -> float | None:
    """The height of greatest sharpness near `centre_um`; None where moves tell nothing.

    A peak at the end of the range moves the range, as far as the limits allow (see `sweep`).

    Parameters
    ----------
    look
        Samples of a move from a lower to a higher height.

    Raises
    ------
    NoFocus
        No peak: nothing to focus on, or focus lies elsewhere.
    """
    samples: list[Sample] = []
    middle_um = centre_um
    low, high = limits_um
    for _ in range(MAX_EXTENSIONS):
        seen = look(max(low, middle_um - half_range_um), min(high, middle_um + half_range_um))
        if len(seen) < LEAST_SAMPLES:
            return None
        samples = sorted([*samples, *seen])
        heights, values = zip(*samples, strict=True)
        best = int(np.argmax(values))
        if 0 < best < len(samples) - 1:
            break
        middle_um = heights[best]
    if not (is_peak(values, best) and _stands_out(np.array(values), best)):
        raise no_focus(centre_um, half_range_um, heights[0], heights[-1], limits_um)
    around = slice(best - 1, best + 2)
    off = np.array(heights[around]) - heights[best]
    bend, slope, _ = np.polyfit(off, values[around], 2)
    return float(heights[best] - slope / (2 * bend)) if bend < 0 else float(heights[best])


def _stands_out(values: NDArray[np.float64], best: int) -> bool:
    """Whether a peak exceeds the ends by more than sharpness scatters from image to image.

    Of many images without focus the sharpest one always exceeds the ends. What scatters is told by
    the images away from the peak; few images cannot tell it, nor mislead so easily.
    """
    away = np.concatenate([values[: max(0, best - PEAK)], values[best + PEAK + 1 :]])
    if len(away) < LEAST_AWAY:
        return True
    bends = away[1:-1] - (away[:-2] + away[2:]) / 2
    scatter = float(np.median(np.abs(bends))) / (0.6745 * math.sqrt(1.5))
    return bool(values[best] - max(values[0], values[-1]) > SURE * scatter)
