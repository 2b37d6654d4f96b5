"""Pairs of frames with the same relation of their LEDs, and what their statistics share.

Cells lie turned at random, so two LEDs see the same statistics as two others at the same angles
and the same difference of azimuth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD
from plsctl.acquire.store.records import FrameRecord

Matrix = NDArray[np.float64]

Kind = tuple[str, int, str]
"""Pattern (empty for one LED), ring, and variant and colour."""

SAME_ANGLE_DEG = 1.5
LEAST_RING = 3
"""Least number of frames whose median one outlier cannot move."""

AZIMUTH_STEP_DEG = 12.0
"""Pairs of LEDs whose angles and difference of azimuth agree to this belong to one class."""


def shared_correlation(correlation: Matrix, frames: Sequence[FrameRecord]) -> Matrix:
    """The correlation of frames, with its median over all pairs of LEDs with the same relation.

    Parameters
    ----------
    correlation
        Of the frames and of the bright field's slopes along x and y, (image, image).
    frames
        With the directions of their LEDs.

    Returns
    -------
    The median over the pairs of each class, made a correlation matrix again; (image, image).
    """
    shared = correlation.copy()
    for pairs in _pair_classes(frames):
        one, other = pairs.T
        shared[one, other] = shared[other, one] = np.median(correlation[one, other])
    count = len(frames)
    towards, kinds = _geometry(frames)
    along = (correlation[:count, count:] * towards).sum(axis=1)
    for kind in {kind for kind in kinds if not _is_lopsided(kind)}:
        same_kind = np.array([other == kind for other in kinds])
        # Shading follows the LED: as strong for all of a ring, along each one's direction.
        slopes = np.median(along[same_kind]) * towards[same_kind]
        shared[:count][same_kind, count:] = slopes
        shared[count:, :count][:, same_kind] = slopes.T
    values, vectors = np.linalg.eigh(shared)
    positive: Matrix = (vectors * np.maximum(values, 1e-4)) @ vectors.T
    return positive


def ring_medians(values: Matrix, frames: Sequence[FrameRecord]) -> Matrix:
    """For each frame the median over the frames of its kind, (frame,)."""
    kinds = _geometry(frames)[1]
    by_kind = {
        kind: float(np.median([value for value, other in zip(values, kinds, strict=True)
                               if other == kind]))
        for kind in set(kinds)
    }  # fmt: skip
    return np.array([by_kind[kind] for kind in kinds])


def without_defocus(shifts: Matrix, frames: Sequence[FrameRecord]) -> Matrix:
    """Shifts of frames without the part that all LEDs of a ring have in common.

    Out of focus every frame moves towards or away from its LED (papers/000), all those of a ring
    by as much, and so does what is left of that beside its prediction. A frame that was moved does
    it alone: the median over its ring does not follow it, if there are three or more.

    Parameters
    ----------
    shifts
        (frame, xy), pixels; the camera may be turned against the LEDs.
    """
    towards, kinds = _geometry(frames)
    own = shifts[:, 0] + 1j * shifts[:, 1]
    led = towards[:, 0] + 1j * towards[:, 1]
    for kind in set(kinds):
        same_ring = np.array(
            [other == kind and abs(one) > 0 for one, other in zip(led, kinds, strict=True)]
        )
        if np.count_nonzero(same_ring) >= LEAST_RING:
            along = own[same_ring] * led[same_ring].conj()
            own[same_ring] -= (np.median(along.real) + 1j * np.median(along.imag)) * led[same_ring]
    return np.stack([own.real, own.imag], axis=1)


def _pair_classes(frames: Sequence[FrameRecord]) -> list[NDArray[np.int64]]:
    """Classes of frame pairs with the same relation of their LEDs; arrays of shape (pair, 2)."""
    towards, kinds = _geometry(frames)
    azimuths = np.degrees(np.arctan2(towards[:, 1], towards[:, 0]))
    classes: defaultdict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    for one in range(len(frames)):
        for other in range(one + 1, len(frames)):
            apart = abs((azimuths[one] - azimuths[other] + 180) % 360 - 180)
            if BRIGHTFIELD in (kinds[one][0], kinds[other][0]):  # it has no azimuth
                apart = 0.0
            key = (*sorted((kinds[one], kinds[other])), round(apart / AZIMUTH_STEP_DEG))
            if _is_lopsided(kinds[one]) or _is_lopsided(kinds[other]):
                key = (one, other)
            classes[key].append((one, other))
    return [np.array(pairs, dtype=np.int64) for pairs in classes.values()]


def _is_lopsided(kind: Kind) -> bool:
    """Whether a frame is lit by a pattern that may lie to one side: it is like no other frame."""
    return kind[0] not in ("", BRIGHTFIELD)


def _geometry(frames: Sequence[FrameRecord]) -> tuple[Matrix, list[Kind]]:
    """Unit vectors towards the LEDs (frame, xy), and the kinds of the frames.

    Frames of one kind are taken alike under LEDs at one angle. A pattern has no direction: (0, 0).
    """
    directions = np.array([frame.direction or (0.0, 0.0) for frame in frames])
    sines = np.hypot(*directions.T)
    ring = _rings(np.degrees(np.arcsin(np.clip(sines, 0, 1))))
    kinds = [
        (
            frame.led if frame.direction is None else "",
            int(ring[index]),
            frame.variant + frame.colour,
        )
        for index, frame in enumerate(frames)
    ]
    return directions / np.maximum(sines, 1e-9)[:, None], kinds


def _rings(angles: Matrix) -> NDArray[np.int64]:
    """The number of the ring each LED belongs to, from the axis outwards."""
    order = np.argsort(angles, kind="stable")
    steps = np.diff(angles[order], prepend=angles[order[:1]]) > SAME_ANGLE_DEG
    ring = np.empty(len(angles), dtype=np.int64)
    ring[order] = np.cumsum(steps)
    return ring
