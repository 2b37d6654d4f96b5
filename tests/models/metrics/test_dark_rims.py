"""Dark rims that a prediction should not show."""

from __future__ import annotations

import numpy as np

from plsctl.models.metrics.dark_rims import dark_rims_left


def test_rims_that_are_gone_half_gone_and_still_there() -> None:
    y, x = np.mgrid[:40, :40] - 19.5
    rim = np.abs(np.hypot(y, x) - 12) < 2
    unstained = np.where(rim, 90, 180)
    target = np.full((40, 40), 220)
    predictions = [np.where(rim, 220 - share * 110, 220) for share in (0, 0.5, 1)]

    def as_samples(images: list[np.ndarray]) -> np.ndarray:
        return np.repeat(np.stack(images)[:, None], 3, axis=1).astype(np.uint8)

    left = dark_rims_left(
        as_samples(predictions), as_samples([unstained] * 3), as_samples([target] * 3)
    )
    np.testing.assert_allclose(left, [0, 0.5, 1], atol=0.01)
    blank = as_samples([target])
    assert np.isnan(dark_rims_left(blank, blank, blank)).all()
