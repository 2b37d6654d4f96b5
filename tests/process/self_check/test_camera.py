"""The camera's turn and pixel size from overlaps, against axes that made them."""

from __future__ import annotations

import numpy as np
import pytest

from plsctl.acquire.coordinates import CameraOrientation, ImageAxes
from plsctl.acquire.scanning.overlaps import Overlap
from plsctl.process.self_check.camera import CameraFit, fit_camera

SIZE_PX = (800, 600)
PIXEL_UM = 0.293
COLUMNS, ROWS, STEP_UM = 5, 2, (222.0, 167.0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turn_and_a_pixel_size_are_told_by_ten_positions(mirrored: bool) -> None:
    fit = _fit(CameraOrientation(0.7, mirrored), turn_deg=0.2, pixel_share=0.002)
    assert fit.overlaps == 13
    assert fit.turn_deg == pytest.approx(0.2, abs=0.06)
    assert fit.pixel_share == pytest.approx(0.002, abs=0.001)
    assert abs(fit.turn_deg - 0.2) < 4 * fit.turn_error_deg


def test_an_overlap_taken_for_another_changes_little() -> None:
    fit = _fit(CameraOrientation(0.7), turn_deg=0.0, pixel_share=0.0, stray_px=(14.0, -9.0))
    assert fit.turn_deg == pytest.approx(0.0, abs=0.08)


def test_few_overlaps_tell_nothing() -> None:
    unclear = Overlap("x", "A/1", "A/2", (700.0, 3.0), None, PIXEL_UM)
    assert fit_camera([unclear] * 20, CameraOrientation()) is None


def _fit(
    known: CameraOrientation,
    turn_deg: float,
    pixel_share: float,
    stray_px: tuple[float, float] = (0.0, 0.0),
) -> CameraFit:
    """Fields of a stage that errs by 0.15 um, seen by a camera that stands otherwise."""
    rng = np.random.default_rng(3)
    true = CameraOrientation(known.rotation_deg + turn_deg, known.mirrored)
    sent = {
        (row, column): np.array([column, row]) * STEP_UM
        for row in range(ROWS)
        for column in range(COLUMNS)
    }
    arrived = {place: centre + rng.normal(0, 0.15, 2) for place, centre in sent.items()}
    found = []
    for row, column in sent:
        for axis, other in (("x", (row, column + 1)), ("y", (row + 1, column))):
            if other not in sent:
                continue
            axes = ImageAxes(tuple(sent[row, column]), SIZE_PX, PIXEL_UM, known)
            seen = ImageAxes(
                tuple(arrived[row, column]), SIZE_PX, PIXEL_UM * (1 + pixel_share), true
            )
            step = axes.from_middle_px(*sent[other])
            really = np.array(seen.from_middle_px(*arrived[other])) + rng.normal(0, 0.3, 2)
            off = really - step + (stray_px if not found else 0)
            names = (f"{row}/{column}", f"{other[0]}/{other[1]}")
            found.append(Overlap(axis, *names, step, (float(off[0]), float(off[1])), PIXEL_UM))
    fit = fit_camera(found, known)
    assert fit is not None
    return fit
