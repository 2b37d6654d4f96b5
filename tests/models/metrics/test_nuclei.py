"""Nuclei that agree, are lost or invented, against drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.models.metrics.nuclei import NucleusFinder, join_scores

SIDE = 64
Images = NDArray[np.uint8]


def _crop(*discs: tuple[float, float, float], cast: float = 1.0) -> Images:
    """A crop (3, y, x): a red cell, and nuclei (x, y, radius)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE, 3), 235.0)
    image[np.hypot(y - 58, x - 60) < 12] = (225, 170, 165)
    for centre_x, centre_y, radius in discs:
        image[np.hypot(y - centre_y, x - centre_x) < radius] = (110, 55, 150)
    rng = np.random.default_rng(0)
    noisy = cast * image + rng.normal(0, 2, image.shape)
    return np.moveaxis(np.clip(noisy, 0, 255).astype(np.uint8), -1, 0)


MIDDLE = (30.0, 30.0, 12.0)
LOBES = ((24.0, 30.0, 9.0), (40.0, 30.0, 9.0))  # 16 px apart: they touch nearly


@pytest.fixture(scope="module")
def finder() -> NucleusFinder:
    return NucleusFinder(np.stack([_crop(MIDDLE), _crop(*LOBES), _crop()]), pixel_um=0.293)


def test_dice_of_shifted_discs_is_that_of_geometry(finder: NucleusFinder) -> None:
    scores = finder.compare(_crop((36.0, 30.0, 12.0))[None], _crop(MIDDLE)[None])
    # Two discs of radius r, d apart, share 2 r^2 acos(d / 2 r) - d / 2 sqrt(4 r^2 - d^2).
    shared = 2 * 144 * np.arccos(6 / 24) - 3 * np.sqrt(4 * 144 - 36)
    assert scores.dice[0] == pytest.approx(shared / (np.pi * 144), abs=0.03)
    assert (scores.stained[0], scores.lost[0], scores.invented[0]) == (1, 0, 0)


def test_lost_and_invented_nuclei_are_counted(finder: NucleusFinder) -> None:
    targets = np.stack([_crop(MIDDLE), _crop(), _crop(MIDDLE), _crop(*LOBES), _crop()])
    found = np.stack([_crop(), _crop(MIDDLE), _crop((30.0, 52.0, 11.0)), _crop(*LOBES), _crop()])
    scores = finder.compare(found, targets)
    assert scores.stained.tolist() == [1, 0, 1, 1, 0]  # two lobes are one nucleus
    assert scores.lost.tolist() == [1, 0, 1, 0, 0]
    assert scores.invented.tolist() == [0, 1, 1, 0, 0]
    assert scores.dice[:2].tolist() == [0, 0] and scores.dice[3] > 0.99 and np.isnan(scores.dice[4])
    # The nucleus of two lobes is found as it was; of the lost ones nothing is counted.
    assert (scores.lobes.tolist(), scores.lobes_shown.tolist()) == ([0, 0, 0, 2, 0],) * 2
    merged = finder.compare(_crop((32.0, 30.0, 12.0))[None], targets[3:4])
    assert (merged.lobes[0], merged.lobes_shown[0], merged.lobes_same[0]) == (2, 1, 0)
    summary = join_scores([scores, scores]).summary()
    assert (summary["nuclei"], summary["lost"], summary["invented"]) == (6, 4, 4)
    share = summary["lost_share"]
    assert isinstance(share, dict) and share["mean"] == pytest.approx(2 / 3)


def test_nuclei_at_the_border_are_neither_lost_nor_invented(finder: NucleusFinder) -> None:
    scores = finder.compare(_crop(MIDDLE)[None], _crop(MIDDLE, (62.0, 20.0, 12.0))[None])
    assert (scores.stained[0], scores.lost[0]) == (1, 0) and scores.dice[0] < 0.9


def test_the_light_of_the_lamp_does_not_matter() -> None:
    targets = np.stack([_crop(MIDDLE, cast=0.8), _crop(cast=0.8)])
    scores = NucleusFinder(targets, pixel_um=0.293).compare(targets, targets)
    assert scores.stained.tolist() == [1, 0] and scores.dice[0] == 1


def test_without_any_nucleus_there_is_nothing_to_sum_up(finder: NucleusFinder) -> None:
    summary = finder.compare(_crop()[None], _crop()[None]).summary()
    assert summary["dice"] is None and summary["lost_share"] is None
