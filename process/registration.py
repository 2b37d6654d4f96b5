"""Where a slide lies after it was taken out, stained and put back.

Fields taken at the same commanded stage positions before and after show the same cells, shifted and
turned. Each pair of fields is matched by its edges as a whole and then tile by tile; a rigid motion
through all tiles gives shift and rotation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from plsctl.acquire.errors import UserError
from plsctl.acquire.protocols import FieldPair, SlideTransform
from plsctl.process.matching import (
    Match,
    best_place,
    correlate,
    edge_image,
    grey_image,
    soft_edges,
)

_WORKING_UM = 1.0  # edges are correlated as a whole in pixels of about this size
_TILES = (2, 3)  # rows and columns of tiles of a field
_TILE_REACH_UM = 12.0
_LEAST_BASE_UM = 40.0  # nearer places say nothing about rotation
_MOST_ROTATION_DEG = 5.0


@dataclass(frozen=True)
class CoarseRegistrar:
    """Finds shift and rotation of a returned slide from pairs of fields.

    Parameters
    ----------
    search_um
        Largest shift that is looked for, in micrometres.
    agreement_um
        How far a tile may lie from the rigid motion that the others agree on.
    most_second_ratio
        A pair whose second-best place comes nearer than this to the best is not used.
    """

    search_um: float = 120.0
    agreement_um: float = 3.0
    most_second_ratio: float = 0.7

    def register(
        self, pairs: Sequence[FieldPair], pixel_um: float, camera_rotation_deg: float
    ) -> SlideTransform:
        """Shift and rotation from pairs of fields.

        Parameters
        ----------
        pairs
            Bright-field images, (y, x, rgb), at the same commanded positions.
        pixel_um
            Size of a pixel in the sample, micrometres.
        camera_rotation_deg
            Rotation of the camera against the stage axes.

        Returns
        -------
        The motion of the slide about the mean of the positions.

        Raises
        ------
        UserError
            When no pair can be matched, or the pairs disagree.
        """
        if not pairs:
            raise UserError("No fields were given to find the slide by.")
        places, shifts = self._measure(pairs, pixel_um, camera_rotation_deg)
        centre = np.array([[p.x_um, p.y_um] for p in pairs]).mean(axis=0)
        shift, angle, kept = _fit_rigid(places - centre, shifts, self.agreement_um)
        if kept.sum() < max(2, 0.5 * len(kept)):
            raise UserError(
                f"Only {int(kept.sum())} of {len(kept)} parts of the fields agree on where the "
                f"returned slide lies (within {self.agreement_um:g} um).",
                hint="Check that it is the same slide, lying as before, and in focus.",
            )
        return SlideTransform(
            float(centre[0]), float(centre[1]), float(shift[0]), float(shift[1]), angle
        )

    def _measure(
        self, pairs: Sequence[FieldPair], pixel_um: float, camera_rotation_deg: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places on the slide and how far each moved, both (n, 2) in micrometres of the stage."""
        turn = _rotation(camera_rotation_deg)
        places: list[NDArray[np.float64]] = []
        shifts: list[NDArray[np.float64]] = []
        for pair in pairs:
            for place_px, shift_px in self._match_pair(pair, pixel_um):
                places.append(np.array([pair.x_um, pair.y_um]) + turn @ place_px * pixel_um)
                shifts.append(turn @ shift_px * pixel_um)
        if not places:
            raise UserError(
                f"None of {len(pairs)} fields could be found again on the returned slide within "
                f"{self.search_um:g} um.",
                hint="Check that it is the same slide, put back as it lay, and in focus.",
            )
        return np.array(places), np.array(shifts)

    def _match_pair(
        self, pair: FieldPair, pixel_um: float
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Tiles of a pair: place relative to the image's centre and shift, in pixels (x, y)."""
        reference = soft_edges(edge_image(grey_image(pair.reference)))
        moving = soft_edges(edge_image(grey_image(pair.moving)))
        whole = match_whole(reference, moving, self.search_um / pixel_um, _WORKING_UM / pixel_um)
        if whole.second_ratio > self.most_second_ratio:
            return []
        guess = np.array([whole.dx, whole.dy])
        return _match_tiles(reference, moving, guess, round(_TILE_REACH_UM / pixel_um))


def match_whole(
    reference: NDArray[np.uint8], moving: NDArray[np.uint8], reach_px: float, shrink: float = 1.0
) -> Match:
    """Shift of the moving edges against the reference, any overlap allowed.

    Correlation normalised over the overlap of each shift (equation A.1 where the images are not
    nested), by Fourier transforms, on images shrunk by `shrink`.

    Parameters
    ----------
    reference, moving
        Edge images of one size, (y, x).
    reach_px
        Largest shift along x or y.

    Returns
    -------
    A thing at (x, y) in `reference` lies at (x + dx, y + dy) in `moving`.
    """
    factor = max(1.0, shrink)
    size = (round(reference.shape[1] / factor), round(reference.shape[0] / factor))
    fixed, moved = (
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)).astype(np.float32)
        for image in (reference, moving)
    )
    reach = min(round(reach_px / factor), int(0.8 * min(size)))
    scores = _overlap_scores(fixed, moved, reach)
    found = best_place(scores, radius_px=max(3, round(12 / factor)))
    scale_x, scale_y = reference.shape[1] / size[0], reference.shape[0] / size[1]
    dx, dy = (found.dx - reach) * scale_x, (found.dy - reach) * scale_y
    return Match(dx, dy, found.score, found.second_ratio)


def _overlap_scores(
    fixed: NDArray[np.float32], moved: NDArray[np.float32], reach: int
) -> NDArray[np.float32]:
    """Normalised correlation for all shifts of at most `reach`; shape (2 reach + 1,) * 2."""
    shape = tuple(fft.next_fast_len(side + reach, real=True) for side in fixed.shape)

    def transform(image: NDArray[np.float32]) -> NDArray[np.complex64]:
        return np.asarray(fft.rfft2(image, shape), dtype=np.complex64)

    def correlation(
        one: NDArray[np.complex64], other: NDArray[np.complex64]
    ) -> NDArray[np.float32]:
        full = fft.irfft2(np.conj(one) * other, shape)
        rows = np.arange(-reach, reach + 1)
        return np.asarray(full[np.ix_(rows, rows)], dtype=np.float32)

    ones = transform(np.ones_like(fixed))
    product = correlation(transform(fixed), transform(moved))
    power_fixed = correlation(transform(fixed**2), ones)
    power_moved = correlation(ones, transform(moved**2))
    scale = np.sqrt(np.maximum(power_fixed, 1.0) * np.maximum(power_moved, 1.0))
    return np.asarray(product / scale, dtype=np.float32)


def _match_tiles(
    reference: NDArray[np.uint8], moving: NDArray[np.uint8], guess: NDArray[np.float64], reach: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    height, width = reference.shape
    column_shift, row_shift = (round(float(value)) for value in guess)
    # Tiles of the part of the reference that the moving image shows, with room for the search.
    left, right = max(0, reach - column_shift), min(width, width - reach - column_shift)
    top, bottom = max(0, reach - row_shift), min(height, height - reach - row_shift)
    rows = np.linspace(top, bottom, _TILES[0] + 1).astype(int)
    columns = np.linspace(left, right, _TILES[1] + 1).astype(int)
    found = []
    for y0, y1 in pairwise(rows):
        for x0, x1 in pairwise(columns):
            if min(y1 - y0, x1 - x0) < 2 * reach:
                continue
            search = moving[
                y0 + row_shift - reach : y1 + row_shift + reach,
                x0 + column_shift - reach : x1 + column_shift + reach,
            ]
            match = best_place(correlate(search, reference[y0:y1, x0:x1]))
            if match.second_ratio > 0.8:
                continue
            place = np.array([(x0 + x1 - width) / 2, (y0 + y1 - height) / 2])
            shift = np.array([column_shift, row_shift]) + np.array([match.dx, match.dy]) - reach
            found.append((place, shift))
    return found


def _rotation(angle_deg: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[cosine, -sine], [sine, cosine]])


def _fit_rigid(
    places: NDArray[np.float64], shifts: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]]:
    """Rigid motion that most of the (n, 2) places agree on: shift, angle, who agrees.

    Every two places far enough apart propose a motion (there are few); the proposal with the most
    followers is refined by least squares over them.
    """
    best = np.zeros(len(places), dtype=np.bool_)
    for one, other in combinations(range(len(places)), 2):
        if np.linalg.norm(places[one] - places[other]) < _LEAST_BASE_UM:
            continue
        pair = [one, other]
        now = _followers(places, shifts, _rigid(places[pair], (places + shifts)[pair]), tolerance)
        if now.sum() > best.sum():
            best = now
    if best.sum() < 2:
        return np.median(shifts, axis=0), 0.0, best
    motion = _rigid(places[best], (places + shifts)[best])
    for _ in range(3):
        kept = _followers(places, shifts, motion, tolerance)
        motion = _rigid(places[kept], (places + shifts)[kept])
    return *motion, _followers(places, shifts, motion, tolerance)


def _followers(
    places: NDArray[np.float64],
    shifts: NDArray[np.float64],
    motion: tuple[NDArray[np.float64], float],
    tolerance: float,
) -> NDArray[np.bool_]:
    shift, angle = motion
    moved = places @ _rotation(angle).T + shift
    off = np.linalg.norm(places + shifts - moved, axis=1)
    return np.asarray((off < tolerance) & (abs(angle) < _MOST_ROTATION_DEG))


def _rigid(
    before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    middle_before, middle_after = before.mean(axis=0), after.mean(axis=0)
    one, other = before - middle_before, after - middle_after
    sine = float((one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).sum())
    cosine = float((one * other).sum())
    angle = math.degrees(math.atan2(sine, cosine))
    return middle_after - _rotation(angle) @ middle_before, angle
