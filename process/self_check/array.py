"""Where the LED array stands, and LEDs that are dead or swapped, from the frames of a position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.leds.geometry import LedGeometry
from plsctl.acquire.leds.pose import ArrayPose, table_places
from plsctl.acquire.store.reader import PassReader
from plsctl.process.calibration.led_array import (
    ArrayEstimate,
    EstimateSettings,
    LedProblem,
    estimate_array,
)
from plsctl.process.calibration.pose_fit import fit_pose
from plsctl.process.calibration.views import ArrayOptics, LedViews
from plsctl.process.self_check.light import SingleLed

LEAST_BRIGHT = 5
"""Fewer LEDs in bright field do not tell how the array stands."""

MOST_PX = 800
"""Of larger images the middle is looked at."""

SETTINGS = EstimateSettings(side_px=0)
"""Small parts alone: exact to 0.15 mm, in half the time."""

MOVED = 0.019
"""Shift that is told, as a share of the aperture times the array's distance: 0.6 mm at 20x."""

RAISED = 0.0125
"""Rise that is told, as a share of the array's distance: 1 mm of 80 mm."""

TURNED_DEG = 0.6

ELSEWHERE = 0.07
"""A swapped LED whose direction is as it was calibrated is no news; as a share of the aperture."""

Finding = tuple[str, int, int]
"""Kind, LED, and the LED whose light it shows, or -1: the same at every position."""

MOVED_ARRAY: Finding = ("moved", -1, -1)


@dataclass(frozen=True)
class ArrayState:
    """An array as a position shows it, against how it is believed to stand.

    Parameters
    ----------
    position
        Where it was looked at.
    change
        Of the pose.
    problems
        Dead and swapped LEDs that were not so at calibration.
    """

    position: str
    optics: ArrayOptics
    estimate: ArrayEstimate
    change: ArrayPose
    problems: tuple[LedProblem, ...]

    @property
    def has_moved(self) -> bool:
        """Whether the array stands clearly elsewhere."""
        optics, change = self.optics, self.change
        distance_mm = float(np.linalg.norm(optics.places_mm, axis=1).mean())
        return (
            math.hypot(change.x_mm, change.y_mm) > MOVED * optics.na * distance_mm
            or abs(change.height_mm) > RAISED * distance_mm
            or abs(change.rotation_deg) > TURNED_DEG
        )

    @property
    def findings(self) -> frozenset[Finding]:
        """What is not as it is believed."""
        moved = [MOVED_ARRAY] if self.has_moved else []
        return frozenset([*moved, *(finding(problem) for problem in self.problems)])


def finding(problem: LedProblem) -> Finding:
    """What is wrong with an LED, however strongly it shows."""
    return problem.kind, problem.led, problem.other


def can_tell(leds: Sequence[SingleLed]) -> bool:
    """Whether frames under these LEDs show how the array stands."""
    return sum(led.bright for led in leds) >= LEAST_BRIGHT


def array_optics(
    reader: PassReader, leds: Sequence[SingleLed], geometry: LedGeometry
) -> ArrayOptics:
    """What is known of the array and the lens, for the LEDs of a pass."""
    attributes, places = reader.attributes, table_places(geometry)
    order = {led.led: place for place, led in enumerate(geometry.leds)}
    return ArrayOptics(
        places_mm=places[[order[led.led] for led in leds]],
        pixel_um=attributes.pixel_um,
        na=attributes.na,
        orientation=attributes.orientation,
        names=tuple(led.name for led in leds),
    )


def look_at_array(
    reader: PassReader, name: str, leds: Sequence[SingleLed], optics: ArrayOptics
) -> ArrayState:
    """The array as a position shows it.

    Raises
    ------
    CalibrationError
        Its images cannot tell.
    """
    width, height = reader.size_px(name)
    left, top = (max(0, (side - MOST_PX) // 2) for side in (width, height))
    box = (left, top, min(width, left + MOST_PX), min(height, top + MOST_PX))
    views = LedViews(
        images=np.stack([reader.windows(name, led.index, [box])[0] for led in leds]),
        light=np.array([led.light for led in leds]),
        black_level=reader.attributes.black_level * 255 / reader.attributes.full_scale,
    )
    found = estimate_array([views], optics, SETTINGS)
    known = np.array([led.lit_from for led in leds])
    return ArrayState(
        position=name,
        optics=optics,
        estimate=found,
        change=_change(found.pose, _known_pose(optics, known, leds)),
        problems=tuple(p for p in found.problems if _is_news(p, found, known, optics)),
    )


def _known_pose(
    optics: ArrayOptics, known: NDArray[np.float64], leds: Sequence[SingleLed]
) -> ArrayPose:
    """The pose in which the array is believed to stand: the table's, or the one calibrated."""
    if all(led.lit_from == led.direction for led in leds):
        return ArrayPose()
    x, y = optics.orientation.to_image(*known.T)
    return fit_pose(optics, np.stack([x, y], axis=1), np.full(len(leds), 0.01 * optics.na)).pose


def _change(now: ArrayPose, before: ArrayPose) -> ArrayPose:
    return ArrayPose(
        now.x_mm - before.x_mm,
        now.y_mm - before.y_mm,
        now.height_mm - before.height_mm,
        (now.rotation_deg - before.rotation_deg + 180) % 360 - 180,
    )


def _is_news(
    problem: LedProblem, found: ArrayEstimate, known: NDArray[np.float64], optics: ArrayOptics
) -> bool:
    away = math.dist(found.directions[problem.led], known[problem.led])
    return problem.kind == "dead" or away > ELSEWHERE * optics.na
