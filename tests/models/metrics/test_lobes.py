"""Lobes of drawn nuclei."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.models.metrics.nuclei import count_lobes

PIXEL_UM = 0.293
Y, X = np.mgrid[:64, :64].astype(float)


def _discs(*discs: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Discs (x, y, radius), in pixels."""
    return np.any([np.hypot(Y - y, X - x) < radius for x, y, radius in discs], axis=0)


STRAND = (np.abs(Y - 28) < 1.5) & (X > 15) & (X < 44)
BEAN = [(32 - 14 * np.cos(a), 32 - 14 * np.sin(a), 7) for a in np.linspace(0, np.pi, 40)]


@pytest.mark.parametrize(
    ("nucleus", "lobes"),
    [
        (_discs((30, 30, 12)), 1),
        (_discs(*BEAN), 1),
        # Discs of radius 9 that overlap: the neck is sqrt(1 - (apart / 18)^2) of their width.
        (_discs((22, 30, 9), (30, 30, 9)), 1),
        (_discs((22, 30, 9), (38, 30, 9)), 2),
        (_discs((15, 30, 7), (30, 22, 7), (44, 32, 8)) | STRAND, 3),
        (_discs((30, 30, 12), (30, 50, 2)), 1),  # a granule
        (np.zeros((64, 64), dtype=bool), 0),
    ],
)
def test_lobes_are_parts_that_necks_divide(nucleus: NDArray[np.bool_], lobes: int) -> None:
    assert count_lobes(nucleus, PIXEL_UM) == lobes
    assert count_lobes(nucleus[::-1].T, PIXEL_UM) == lobes
