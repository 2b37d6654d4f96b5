"""How much of the unstained image's dark rims a prediction still shows.

At 20x a dry smear has dark rims about its cells, and dried water leaves rings; under oil, and so in
the stained image at 100x, they are gone. A good prediction leaves them out (papers/002 section
4.2.2). Rims are where the unstained image is clearly darker than the stained one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Images

Values = NDArray[np.float64]

CLEARLY = 0.15
"""Darker by this share of white."""

FEWEST_PX = 20
"""Samples with fewer pixels of rims give no value."""

WHITE_PERCENTILE = 95


def dark_rims_left(prediction: Images, unstained: Images, target: Images) -> Values:
    """Remaining share of the rims' darkness, for each sample.

    Parameters
    ----------
    prediction, unstained, target
        (n, 3, y, x); unstained is the bright-field image.

    Returns
    -------
    (n,) 0 where they are gone, 1 where they are as dark as in the unstained image; NaN where there
    are none.
    """
    stained_white = _white(target)
    bright, shown, true = (
        _grey(images, white)
        for images, white in (
            (unstained, _white(unstained)), (prediction, stained_white), (target, stained_white)
        )
    )  # fmt: skip
    darker = true - bright
    rims = darker > CLEARLY
    left = np.where(rims, np.clip(true - shown, 0, None), 0).sum(axis=(1, 2))
    whole = np.where(rims, darker, 0).sum(axis=(1, 2))
    enough = rims.sum(axis=(1, 2)) >= FEWEST_PX
    return np.asarray(np.where(enough, left / np.maximum(whole, 1e-9), np.nan), dtype=np.float64)


def _white(images: Images) -> NDArray[np.float64]:
    """Level of an empty place in each sample and colour, (n, 3, 1, 1)."""
    white = np.percentile(images, WHITE_PERCENTILE, axis=(2, 3), keepdims=True)
    return np.asarray(np.maximum(white, 1), dtype=np.float64)


def _grey(images: Images, white: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness (n, y, x) relative to white."""
    return np.asarray((images / white).mean(axis=1), dtype=np.float64)
