"""Metrics against scikit-image and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from plsctl.models.metrics.similarity import (
    mean_absolute_error,
    ssim,
    ssim_colour,
    ssim_grey,
    ssim_shifted,
)

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(40, 200, 40), np.linspace(0, 50, 48))
    target = np.clip(smooth + rng.normal(0, 15, (5, 3, 40, 48)), 0, 255).astype(np.uint8)
    noise = rng.normal(0, 1, target.shape) * np.array([0, 2, 10, 40, 90]).reshape(5, 1, 1, 1)
    prediction = np.clip(target + noise, 0, 255).astype(np.uint8)
    prediction[4] = 250  # a flat, bright image, the hard case for differences of squares
    return prediction, target


def test_ssim_agrees_with_scikit_image() -> None:
    prediction, target = _pairs()
    colour, grey = ssim_colour(prediction, target), ssim_grey(prediction, target)
    for index, (p, t) in enumerate(zip(prediction, target, strict=True)):
        wanted = structural_similarity(p, t, data_range=255, channel_axis=0, **WANG)
        assert colour[index] == pytest.approx(wanted, abs=1e-4)
        p_grey, t_grey = (rgb2gray(np.moveaxis(image, 0, 2)) for image in (p, t))
        wanted = structural_similarity(p_grey, t_grey, data_range=1.0, **WANG)
        assert grey[index] == pytest.approx(wanted, abs=1e-4)
    assert colour[0] == pytest.approx(1.0, abs=1e-6)


def test_mean_absolute_error_is_on_the_scale_of_the_training_loss() -> None:
    black, white = np.zeros((2, 3, 4, 4), np.uint8), np.full((2, 3, 4, 4), 255, np.uint8)
    assert mean_absolute_error(black, white).tolist() == [2.0, 2.0]


def test_shift_tolerant_ssim_does_not_see_shifts_within_its_reach() -> None:
    _, wide = _pairs()
    inner = wide[:, :, 4:-4, 4:-4]
    for dy, dx in ((0, 0), (1, -2), (-2, 2)):
        moved = wide[:, :, 4 + dy : 36 + dy, 4 + dx : 44 + dx]
        np.testing.assert_allclose(ssim_shifted(inner, moved), 1.0, atol=1e-6)
        if dy:
            assert ssim_colour(inner, moved).max() < 0.9
    assert ssim_shifted(inner, wide[:, :, 8:, 8:]).max() < 0.9  # 4 px are too many


def test_too_small_or_unequal_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 11 px"):
        ssim(np.zeros((1, 3, 8, 8)), np.zeros((1, 3, 8, 8)), 1.0)
