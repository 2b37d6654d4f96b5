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

from plsctl.acquire.protocols import rotate

BIN_PX = 4
"""Images are looked at in blocks of so many pixels: shading spans whole cell edges."""

FEWEST = 5
"""Fewer frames do not tell slopes from what is wrong with one of them."""

SEEN = 0.3
"""Median correlation of the frames with their expected shading from which on they can judge."""

TURNED_DEG = 45.0
"""A frame lit from farther off its LED's azimuth was lit by another LED."""

WEAKER, STRONGER = 0.55, 1.6
"""The shading grows with the LED's angle; a frame outside this range of the median was lit from
another angle. Defocus by 2 um leaves it between 0.65 and 1.05."""


@dataclass(frozen=True)
class Shading:
    """From where a frame was lit, as it looks: azimuth off the LED's own, and strength."""

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
    camera_rotation_deg: float,
) -> dict[int, str]:
    """Why frames cannot be what they should be, by their index; empty where shading is not seen.

    Parameters
    ----------
    images, directions
        By the frame's index: `blocks` of it, and its LED's direction cosines in the array's axes.
    """
    indices = [index for index in images if np.hypot(*directions[index]) > 0]
    if len(indices) < FEWEST:
        return {}
    turned = np.array([rotate(*directions[index], -camera_rotation_deg) for index in indices])
    if np.linalg.matrix_rank(turned, tol=0.02) < 2:
        return {}
    found = find_shading([images[index] for index in indices], turned)
    if np.median([shading.correlation for shading in found]) < SEEN:
        return {}
    usual = float(np.median([shading.strength for shading in found]))
    wrong = {}
    for index, shading in zip(indices, found, strict=True):
        if abs(shading.turned_deg) > TURNED_DEG:
            wrong[index] = f"was lit from a direction {abs(shading.turned_deg):.0f} deg off its LED"
        elif not WEAKER < shading.strength / usual < STRONGER:
            wrong[index] = "was lit from another angle than its LED's"
    return wrong
