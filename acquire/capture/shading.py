"""Whether each bright-field LED shades the slopes of the sample as its direction lets expect.

Under a slanting LED a thin sample looks lit from the side: its image differs from the mean over
all LEDs by the slope of its optical thickness along the LED's direction. The slopes follow from
all other frames, so each frame can be asked from where it was lit (differential phase contrast:
Tian and Waller, Optics Express 23, 11394, 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import CameraOrientation

BIN_PX = 4
"""Images are looked at in blocks of so many pixels: shading spans whole cell edges."""

FEWEST = 5
"""With fewer frames the slopes cannot be separated from an error in one frame."""

SEEN = 0.45
"""Least median correlation with the expected shading at which the check is applied."""

TURNED_DEG = 35.0
"""A frame lit from farther off its LED's azimuth was lit by another LED."""

STRONGER = 1.6
"""LEDs of one angle shade equally; a frame stronger or weaker than those by this factor was lit
from another angle. Out of focus the angles shade differently, each for itself: so only LEDs of one
angle are compared."""

SAME_ANGLE = 0.1
"""Direction cosines of LEDs of one angle differ by this share at most."""

LEAST_AT_ANGLE = 3
"""With only two LEDs at an angle it is unknown which of them is wrong."""

MOST_WRONG = 1 / 3
"""If more frames look wrong, the model does not hold: the sample is far out of focus."""


@dataclass(frozen=True)
class Shading:
    """Apparent direction of a frame's light: azimuth relative to its LED, and strength."""

    turned_deg: float
    strength: float
    correlation: float


def blocks(image: NDArray[np.uint8 | np.uint16]) -> NDArray[np.float32]:
    """A frame (y, x, rgb) or (y, x), binned, grey and relative to its mean, shape (pixels,)."""
    height, width = image.shape[0] // BIN_PX, image.shape[1] // BIN_PX
    whole = image[: height * BIN_PX, : width * BIN_PX]
    small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = small.mean(axis=-1) if small.ndim == 3 else small
    return np.asarray(grey / max(float(grey.mean()), 1e-6), dtype=np.float32).ravel()


def find_shading(
    images: Sequence[NDArray[np.float32]], directions: NDArray[np.float64]
) -> list[Shading]:
    """From where each frame was lit.

    Parameters
    ----------
    images
        Frames as `blocks` gives them, all of one length.
    directions
        Direction cosines of their LEDs, shape (frames, 2), in the axes of the image.
    """
    stack = np.stack(images)
    found = []
    for index, direction in enumerate(directions):
        others = np.arange(len(stack)) != index
        model = np.column_stack([np.ones(others.sum()), directions[others]])
        fitted = np.linalg.pinv(model).astype(np.float32) @ stack[others]
        slopes, shade = fitted[1:], stack[index] - fitted[0]
        moments = (slopes @ slopes.T).astype(np.float64) + 1e-12 * np.eye(2)
        seen = np.linalg.solve(moments, (slopes @ shade).astype(np.float64))
        turned = np.arctan2(seen[1], seen[0]) - np.arctan2(direction[1], direction[0])
        expected = direction.astype(np.float32) @ slopes
        length = float(np.linalg.norm(shade) * np.linalg.norm(expected))
        found.append(
            Shading(
                turned_deg=float(np.degrees((turned + np.pi) % (2 * np.pi) - np.pi)),
                strength=float(np.hypot(*seen) / np.hypot(*direction)),
                correlation=float(shade @ expected) / length if length else 0.0,
            )
        )
    return found


def wrong_shading(
    images: Mapping[int, NDArray[np.float32]],
    directions: Mapping[int, tuple[float, float]],
    orientation: CameraOrientation,
) -> dict[int, str]:
    """Why frames were lit wrongly, by index; empty where no shading is visible.

    Parameters
    ----------
    images, directions
        By the frame's index: `blocks` of it, and its LED's direction cosines in the array's axes.
    orientation
        Of the camera against the axes of the array.
    """
    indices = [index for index in images if np.hypot(*directions[index]) > 0]
    if len(indices) < FEWEST:
        return {}
    turned = np.array([orientation.to_image(*directions[index]) for index in indices])
    if np.linalg.matrix_rank(turned, tol=0.02) < 2:
        return {}
    sines = np.hypot(turned[:, 0], turned[:, 1])
    left = list(range(len(indices)))
    wrong: dict[int, str] = {}
    # One wrong frame makes others look wrong: the worst is set aside, and the rest asked again.
    while len(left) >= FEWEST:
        found = find_shading([images[indices[place]] for place in left], turned[left])
        worst = max(range(len(left)), key=lambda place: _departure(place, found, sines[left]))
        reason = _reason(worst, found, sines[left])
        if not reason:
            # What is left must follow the model, or nothing can be said of the others.
            return wrong if _shading_is_seen(found, sines[left]) else {}
        wrong[indices[left.pop(worst)]] = reason
        if len(wrong) > MOST_WRONG * len(indices):
            break
    return {}


def _shading_is_seen(found: Sequence[Shading], sines: NDArray[np.float64]) -> bool:
    """Whether shading is seen and follows the model: it does not far out of focus."""
    if np.median([shading.correlation for shading in found]) < SEEN:
        return False
    strengths = []
    for sine in sines:
        same_angle = _at_same_angle(sine, found, sines)
        if len(same_angle) >= LEAST_AT_ANGLE:
            if abs(_middle_turn(same_angle)) > TURNED_DEG:
                return False
            strengths.append(float(np.median([shading.strength for shading in same_angle])))
    return not strengths or max(strengths) <= STRONGER * max(min(strengths), 1e-9)


def _at_same_angle(
    sine: float, found: Sequence[Shading], sines: NDArray[np.float64]
) -> list[Shading]:
    """The shadings of the LEDs at the same angle."""
    near = np.abs(sines - sine) <= SAME_ANGLE * sine
    return [shading for shading, is_near in zip(found, near, strict=True) if is_near]


def _departure(place: int, found: Sequence[Shading], sines: NDArray[np.float64]) -> float:
    """How far a frame departs from the frames at the same angle; 1 is the limit."""
    same_angle = _at_same_angle(float(sines[place]), found, sines)
    if len(same_angle) < LEAST_AT_ANGLE:
        return 0.0
    usual = max(float(np.median([shading.strength for shading in same_angle])), 1e-9)
    ratio = max(found[place].strength, 1e-9) / usual
    off_deg = _turn(found[place].turned_deg - _middle_turn(same_angle))
    return max(abs(off_deg) / TURNED_DEG, abs(float(np.log(ratio))) / float(np.log(STRONGER)))


def _reason(place: int, found: Sequence[Shading], sines: NDArray[np.float64]) -> str:
    if _departure(place, found, sines) <= 1:
        return ""
    same_angle = _at_same_angle(float(sines[place]), found, sines)
    off_deg = abs(_turn(found[place].turned_deg - _middle_turn(same_angle)))
    if off_deg > TURNED_DEG:
        return f"was lit from a direction {off_deg:.0f} deg off its LED"
    return "was lit from another angle than its LED's"


def _turn(angle_deg: float) -> float:
    """The same angle between -180 and 180 degrees."""
    return (angle_deg + 180) % 360 - 180


def _middle_turn(shadings: Sequence[Shading]) -> float:
    """The angle with the least total distance to the others: a median on the circle."""
    turns = [shading.turned_deg for shading in shadings]
    ways = [sum(abs(_turn(one - other)) for other in turns) for one in turns]
    return turns[int(np.argmin(ways))]
