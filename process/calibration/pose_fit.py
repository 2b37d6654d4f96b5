"""The pose of the whole array: from circles alone, and from directions that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares, minimize

from plsctl.acquire.leds.pose import ArrayPose
from plsctl.process.calibration.circles import CircleEdges
from plsctl.process.calibration.views import ArrayOptics

REACH = 0.3
"""How far from its place in the table an LED is looked for, as a share of the aperture."""

STEPS = 30
"""Places tried on the way there."""

TILT_DEG = 1.0
"""Tilt of an array that is usual; a tilt is told from a shift by the steep LEDs alone."""

FURTHEST_TURN_DEG = 9.0
FURTHEST_RISE = 0.14
"""As a share of the array's distance."""


@dataclass(frozen=True)
class PoseFit:
    """A pose, and how well the measured directions follow it.

    Parameters
    ----------
    pose
        Of the array.
    residual
        Measured less fitted direction cosines, shape (LED, 2); NaN where none was measured.
    """

    pose: ArrayPose
    residual: NDArray[np.float64]


def fit_pose(
    optics: ArrayOptics,
    directions: NDArray[np.float64],
    errors: NDArray[np.float64],
    with_tilt: bool = True,
) -> PoseFit:
    """The pose that explains directions best; single LEDs that do not fit have little weight.

    Parameters
    ----------
    directions
        Direction cosines in image axes, shape (LED, 2); NaN for LEDs that were not measured.
    errors
        Their standard deviations, shape (LED,).
    """
    known = np.isfinite(directions).all(axis=1) & np.isfinite(errors)
    wanted, weight = directions[known], 1 / errors[known, None]

    def off(values: NDArray[np.float64]) -> NDArray[np.float64]:
        lit = optics.in_image(ArrayPose(*values))[known]
        wrong = ((lit - wanted) * weight).ravel()
        return np.concatenate([wrong, values[4:] / TILT_DEG])

    start = np.zeros(6 if with_tilt else 4)
    found = least_squares(off, start, loss="soft_l1", f_scale=2.0, x_scale=1.0)
    pose = ArrayPose(*(float(value) for value in found.x))
    return PoseFit(pose, directions - optics.in_image(pose))


def search_pose(optics: ArrayOptics, edges: Mapping[int, CircleEdges]) -> tuple[ArrayPose, float]:
    """Shift, rise and turn under which most LEDs have circles where they should be.

    Parameters
    ----------
    edges
        Spectra of LEDs inside the aperture, by their place in the table.

    Returns
    -------
    The pose, and the mean step of the LEDs there, in standard deviations of all places tried.
    """
    leds = np.array(sorted(edges))
    table = optics.in_image(ArrayPose())[leds]
    step = REACH * optics.na / STEPS
    maps = np.stack(
        [_map(edges[int(led)], place, step) for led, place in zip(leds, table, strict=True)]
    )
    distance_mm = float(np.linalg.norm(optics.places_mm[leds], axis=1).mean())

    def mean_step(values: Sequence[float]) -> float:
        lit = optics.in_image(ArrayPose(*values))[leds]
        return float(np.mean(_at(maps, (lit - table) / step)))

    best, start = -np.inf, (0.0, 0.0, 0.0, 0.0)
    half = STEPS
    for rise in np.linspace(-FURTHEST_RISE, FURTHEST_RISE, 8 + 1) * distance_mm:
        for turn in np.linspace(-FURTHEST_TURN_DEG, FURTHEST_TURN_DEG, 12 + 1):
            turned = optics.in_image(ArrayPose(0, 0, rise, turn))[leds] - table
            # A shift moves all LEDs near the axis alike: add the maps up, each moved by its own.
            total = sum(
                np.roll(single, np.rint(-move[::-1] / step).astype(int), axis=(0, 1))
                for single, move in zip(maps, turned, strict=True)
            )
            assert isinstance(total, np.ndarray)
            inner = total[half // 4 : -(half // 4), half // 4 : -(half // 4)]
            if inner.max() > best:
                best = float(inner.max())
                row, column = np.unravel_index(int(np.argmax(inner)), inner.shape)
                moved = (np.array([column, row]) + half // 4 - half) * step
                x, y = optics.in_table(moved[None])[0] * distance_mm
                start = (float(x), float(y), float(rise), float(turn))
    first = np.array(start)
    corners = [first, *(first + np.eye(4) * (0.4, 0.4, 1.5, 1.0))]
    found = minimize(
        lambda values: -mean_step(values), first, method="Nelder-Mead",
        options={"initial_simplex": corners, "xatol": 1e-3, "fatol": 1e-4},
    )  # fmt: skip
    return ArrayPose(*(float(value) for value in found.x)), -float(found.fun)


def _map(edges: CircleEdges, place: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Steps across circles around a place, in standard deviations over all places, (y, x)."""
    along = np.arange(-STEPS, STEPS + 1) * step
    y, x = np.meshgrid(along, along, indexing="ij")
    height = edges.step(place + np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)
    return np.clip(in_deviations(height), -1, 6)


def in_deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values less their median, in robust standard deviations."""
    middle = float(np.median(values))
    spread = 1.48 * float(np.median(np.abs(values - middle)))
    return (values - middle) / (spread + 1e-9)


def _at(maps: NDArray[np.float64], moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each map at its own move (x, y) in steps, (LED,)."""
    place = [np.arange(len(maps)), moves[:, 1] + STEPS, moves[:, 0] + STEPS]
    return np.asarray(map_coordinates(maps, place, order=1, mode="constant", cval=-1.0))
