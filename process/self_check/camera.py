"""Turn and pixel size of the camera from where overlapping neighbours really lie.

The stage puts each position a little beside where it was sent, and that error is in all overlaps of
the position. So the overlaps are weighed with both errors, the stage's and the comparison's
(generalised least squares): a chain of fields tells the turn by its whole length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.scanning.overlaps import Overlap

STAGE_UM, MATCH_UM = 0.3, 0.15
"""Scatter of a position's place, and of the comparison of two images, along each axis."""

STRAY_UM = 1.5
"""An overlap that lies farther from the fit counts no more."""

LEAST = 4
"""Fewer overlaps tell nothing."""


@dataclass(frozen=True)
class CameraFit:
    """How the camera stands against what is known of it.

    Parameters
    ----------
    turn_deg
        True rotation less the known one.
    pixel_share
        True pixel size over the known one, less 1.
    overlap_um
        Root mean square by which overlaps lie beside the fit.
    overlaps
        So many tell it.
    """

    turn_deg: float
    turn_error_deg: float
    pixel_share: float
    pixel_error: float
    overlap_um: float
    overlaps: int


def fit_camera(overlaps: Sequence[Overlap], orientation: CameraOrientation) -> CameraFit | None:
    """Turn and pixel size that explain overlaps best; None where too few tell."""
    told = [overlap for overlap in overlaps if overlap.off_px is not None]
    if len(told) < LEAST:
        return None
    expected_um, found_um = _steps(told)
    factor, error, off_um = _fit(told, expected_um, found_um)
    stray = np.abs(off_um) > max(STRAY_UM, 4 * float(np.median(np.abs(off_um))))
    if stray.any() and (~stray).sum() >= LEAST:
        sound = [overlap for overlap, is_stray in zip(told, stray, strict=True) if not is_stray]
        factor, error, _ = _fit(sound, expected_um[~stray], found_um[~stray])
        off_um = found_um - factor * expected_um
    turn_deg = -math.degrees(math.atan2(factor.imag, factor.real))
    return CameraFit(
        turn_deg=orientation.turn_in_image(turn_deg),
        turn_error_deg=math.degrees(error),
        pixel_share=1 / abs(factor) - 1,
        pixel_error=error,
        overlap_um=float(np.sqrt(np.mean(np.abs(off_um) ** 2))),
        overlaps=len(told),
    )


def _steps(
    told: Sequence[Overlap],
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Steps between the images as known and as found, x + iy in micrometres of known pixels."""
    pixel_um = np.array([overlap.pixel_um for overlap in told])
    expected = np.array([complex(*overlap.step_px) for overlap in told])
    off = np.array([complex(*(overlap.off_px or (0.0, 0.0))) for overlap in told])
    return expected * pixel_um, (expected + off) * pixel_um


def _fit(
    told: Sequence[Overlap],
    expected_um: NDArray[np.complex128],
    found_um: NDArray[np.complex128],
) -> tuple[complex, float, NDArray[np.complex128]]:
    """The factor from known steps to found ones, its error either way, and what is left."""
    names = sorted({name for overlap in told for name in (overlap.first, overlap.second)})
    ends = np.zeros((len(told), len(names)))
    for row, overlap in enumerate(told):
        ends[row, names.index(overlap.first)] = -1
        ends[row, names.index(overlap.second)] = 1
    covariance = STAGE_UM**2 * ends @ ends.T + MATCH_UM**2 * np.eye(len(told))
    weighed = np.linalg.solve(covariance, expected_um)
    power = float((expected_um.conj() @ weighed).real)
    factor = complex(weighed.conj() @ found_um) / power
    off_um = found_um - factor * expected_um
    usual = float((off_um.conj() @ np.linalg.solve(covariance, off_um)).real) / (2 * len(told) - 2)
    return factor, math.sqrt(max(1.0, usual) / power), off_um
