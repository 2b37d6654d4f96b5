"""Images from which no LED array can be calibrated, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.pose import ArrayPose
from plsctl.process.calibration.circles import log_power
from plsctl.process.calibration.exchange import BLOCK_PX
from plsctl.process.calibration.views import ArrayOptics, LedViews

FEWEST = 4
"""LEDs inside the aperture without which nothing can be said."""

FULL = 0.995
MOST_FULL = 0.1
"""Share of an image that may be saturated."""

STRUCTURE = 0.01
"""Mean difference of neighbouring blocks of a bright-field image, relative to its level."""

LEAST_AGREEMENT = 0.5
SPREAD = 2.5
"""Circles of any other arrangement agree with an array by less, in standard deviations: the second
is divided by the root of the number of LEDs."""

ANOTHER = 1.12
"""The finest detail differs by this factor where another objective is meant."""

RING = 0.01
"""Width of a ring of the power spectrum, in cycles per pixel."""

ABOVE_NOISE = 1.5
REACHED = 0.96
"""Light fades towards 2 NA / wavelength: detail is seen up to this share of it."""

MOST_RESIDUAL = 0.012
"""Median of bright-field images: right ones leave .001 to .003, another pixel size .02."""

MOST_ODD = 1 / 3
"""Share of the LEDs that may be exchanged before another array is meant."""


class CalibrationError(UserError):
    """The images cannot tell where the LEDs are; `led` shows it best, by its place in the table."""

    def __init__(self, message: str, *, hint: str, led: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.led = led


def check_light(views: Sequence[LedViews], optics: ArrayOptics, lit: NDArray[np.int64]) -> None:
    """`CalibrationError` where most images are saturated, dark, or show bare glass."""
    inside = np.flatnonzero(np.hypot(*optics.in_image(ArrayPose()).T) < optics.na)
    if len(inside) < FEWEST:
        raise CalibrationError(
            f"only {len(inside)} LEDs of the table lie inside the aperture {optics.na:g}.",
            hint="Use a lower objective, or correct its na or the LED table.",
        )
    full = np.array([_saturated(views, led) for led in range(len(optics))])
    if np.mean(full > MOST_FULL) > MOST_ODD:
        worst = int(np.argmax(full))
        raise CalibrationError(
            f"the images are saturated: {100 * full[worst]:.0f} % of that under "
            f"{optics.name(worst)}, and {np.mean(full > MOST_FULL) * 100:.0f} % of the images by "
            "more than a tenth.",
            hint="Lower gain or light, and see that no other lamp is on.",
            led=worst,
        )
    bright = np.intersect1d(lit, inside)
    if len(bright) < max(FEWEST, len(inside) // 2):
        raise CalibrationError(
            f"only {len(bright)} of {len(inside)} LEDs inside the aperture give light.",
            hint="Check the array's supply and plug, and that nothing blocks the light.",
            led=int(inside[0]),
        )
    structure = [_structure(views, int(led)) for led in bright]
    if np.median(structure) < STRUCTURE:
        raise CalibrationError(
            "the images show bare glass: nothing on the slide scatters the light "
            f"(structure {100 * float(np.median(structure)):.1f} % of the level, "
            f"{100 * STRUCTURE:g} % are needed).",
            hint="Name a place with cells by --at X Y, or put in another slide.",
            led=int(bright[0]),
        )
    if len(lit) < (1 - MOST_ODD) * len(optics):
        dead = np.setdiff1d(np.arange(len(optics)), lit)
        raise CalibrationError(
            f"{len(dead)} of {len(optics)} LEDs give no light.",
            hint="Check the array's supply and plugs, and that the LED table is that of this "
            "array.",
            led=int(dead[0]),
        )


def check_inside(inside: NDArray[np.int64], bright: NDArray[np.bool_]) -> None:
    """`CalibrationError` where none of the LEDs in bright field by the table is bright."""
    if bright[inside].any():
        return
    raise CalibrationError(
        f"none of {len(inside)} LEDs that are bright field by the LED table gives bright field: it "
        "looks like the table of another array.",
        hint="Name the LED table of this array (led_array.geometry).",
        led=int(inside[0]),
    )


def check_circles(
    views: Sequence[LedViews],
    optics: ArrayOptics,
    bright: NDArray[np.bool_],
    agreement: float,
    count: int,
) -> None:
    """`CalibrationError` where the circles of `count` LEDs fit no pose of this array."""
    least = LEAST_AGREEMENT + SPREAD / count**0.5
    if agreement >= least:
        return
    check_objective(views, optics, bright)
    raise CalibrationError(
        "the circles of the bright-field LEDs fit no pose of the LED table: clearness "
        f"{agreement:.1f}, at least {least:.1f} is needed.",
        hint="Check that the table is that of this array, that the slide is in focus and that "
        "the array is moved by less than a tenth of its distance and turned by less than 9 deg.",
        led=int(np.flatnonzero(bright)[0]),
    )


def check_arrangement(
    views: Sequence[LedViews],
    optics: ArrayOptics,
    bright: NDArray[np.bool_],
    from_place: NDArray[np.int64],
    lit: NDArray[np.int64],
) -> None:
    """`CalibrationError` where more LEDs are elsewhere than exchanged plugs explain."""
    strange = lit[from_place[lit] != lit]
    if len(strange) <= MOST_ODD * len(lit):
        return
    check_objective(views, optics, bright)
    raise CalibrationError(
        f"{len(strange)} of {len(lit)} LEDs shine from elsewhere than the table says.",
        hint="Name the LED table of this array (led_array.geometry), or see whether whole "
        "plugs are exchanged or the array is turned round.",
        led=int(strange[0]),
    )


def typical_residual(
    bright: NDArray[np.bool_], leds: NDArray[np.int64], residual: NDArray[np.float64]
) -> float:
    """Relative residual of the bright-field images among those of `leds`: their median."""
    return float(np.median(residual[bright[leds]]))


def check_fit(
    views: Sequence[LedViews],
    optics: ArrayOptics,
    bright: NDArray[np.bool_],
    leds: NDArray[np.int64],
    residual: NDArray[np.float64],
) -> None:
    """`CalibrationError` where bright-field images, put together, contradict each other.

    `residual` is the relative residual of each of `leds`, shape (n,).
    """
    typical = typical_residual(bright, leds, residual)
    if typical <= MOST_RESIDUAL:
        return
    check_objective(views, optics, bright)
    raise CalibrationError(
        f"the bright-field images contradict each other: relative residual {typical:.3f}, and at "
        f"most {MOST_RESIDUAL:g} is usual.",
        hint="Check magnification and na of the objective in the hardware file, the camera's "
        "orientation, and that slide and focus stand still.",
        led=int(leds[bright[leds]][np.argmax(residual[bright[leds]])]),
    )


def check_objective(
    views: Sequence[LedViews], optics: ArrayOptics, bright: NDArray[np.bool_]
) -> None:
    """`CalibrationError` where the images are clearly those of another objective."""
    table = optics.in_image(ArrayPose())
    steepness = np.where(bright, np.hypot(*table.T), np.inf)
    led = int(np.argmin(steepness))
    ratio = finest_detail(views, led, optics)
    if 1 / ANOTHER < ratio < ANOTHER:
        return
    raise CalibrationError(
        f"the images are not those of an NA of {optics.na:g} and pixels of "
        f"{optics.pixel_um:.3g} µm: their finest detail is that of an NA of "
        f"{optics.na * ratio:.2f} with these pixels, or of pixels of {optics.pixel_um / ratio:.3g} "
        "µm with this NA.",
        hint="Check which objective is in the light path, and its magnification and na in the "
        "hardware file.",
        led=led,
    )


def finest_detail(views: Sequence[LedViews], led: int, optics: ArrayOptics) -> float:
    """The highest frequency of a bright-field image over 2 NA / wavelength, which it must be.

    In the colour of the longest wavelength; 1 where the pixels are too coarse to tell.
    """
    colour = int(np.argmax(optics.wavelengths_um))
    limit = 2 * optics.na / optics.wavelengths_um[colour] * optics.pixel_um
    power = np.exp(log_power([view.intensity(led, colour) for view in views]))
    height, width = power.shape
    y = (np.arange(height) - height // 2) / height
    x = (np.arange(width) - width // 2) / width
    radius = np.hypot(y[:, None], x)
    rings = np.minimum((radius / RING).astype(int), round(0.5 / RING))
    count = np.bincount(rings.ravel())
    profile = np.bincount(rings.ravel(), power.ravel()) / count
    # The corners lie beyond every circle: noise alone.
    floor = profile[-1]
    above = np.flatnonzero(profile[:-1] > ABOVE_NOISE * floor)
    if not above.size or above[-1] >= len(profile) - 3:
        return 1.0
    return float((above[-1] + 1) * RING / (REACHED * limit))


def _saturated(views: Sequence[LedViews], led: int) -> float:
    return float(np.mean([np.mean(v.images[led] >= FULL * v.full_scale) for v in views]))


def _structure(views: Sequence[LedViews], led: int) -> float:
    """Mean difference of neighbouring blocks over the level of an image."""
    found = []
    for view in views:
        grey = (view.images[led].astype(np.float32) - np.float32(view.black_level)).mean(axis=-1)
        height, width = (n // BLOCK_PX * BLOCK_PX for n in grey.shape)
        shape = (height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
        blocks = grey[:height, :width].reshape(shape).mean(axis=(1, 3))
        found.append(np.abs(np.diff(blocks, axis=1)).mean() / max(float(grey.mean()), 1e-3))
    return float(np.max(found))
