"""The loss that tolerates small misalignment."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.registry import MODELS
from plsctl.models.staining.losses import mean_absolute_error, weighted_loss
from plsctl.models.staining.shift_tolerance import (
    TEMPERATURE,
    match_shifts,
    move_targets,
    shifts_within,
)
from plsctl.models.staining.train import train


def _texture(seed: int = 0, count: int = 3) -> torch.Tensor:
    torch.manual_seed(seed)
    coarse = torch.rand(count, 3, 10, 10) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=40, mode="bicubic", align_corners=False)


def test_shifts_are_found_and_cost_next_to_nothing() -> None:
    wide = _texture()
    prediction = wide[:, :, 4:36, 4:36]
    moves = [(0, 0), (2, -1), (-2, 2)]
    target = torch.stack(
        [
            image[:, 4 - dy : 36 - dy, 4 - dx : 36 - dx]
            for image, (dy, dx) in zip(wide, moves, strict=True)
        ]
    )
    match = match_shifts(prediction, target, reach_px=2)
    assert match.shift.tolist() == [list(move) for move in moves]
    # The farthest corner is the dearest: the prior of deviation 1 px charges T (4 + log sum).
    total = sum(math.exp(-(dy**2 + dx**2) / 2) for dy, dx in shifts_within(2))
    assert float(match.error[0]) <= TEMPERATURE * math.log(total) + 1e-6 < 0.0092
    assert float(match.error[2]) <= TEMPERATURE * (4 + math.log(total)) + 1e-6 < 0.03
    assert float(mean_absolute_error(prediction[2:], target[2:])) > 0.2
    moved = move_targets(target, match.shift)
    torch.testing.assert_close(moved[:, :, 2:-2, 2:-2], prediction[:, :, 2:-2, 2:-2])
    assert match_shifts(prediction, target, reach_px=1).error[1] > 0.05


def test_the_error_lies_between_the_least_and_that_of_no_shift() -> None:
    prediction, target = _texture(1), _texture(2)
    plain = (prediction - target).abs().mean(dim=(1, 2, 3))
    none = match_shifts(prediction, target, reach_px=0)
    torch.testing.assert_close(none.error, plain)
    some = match_shifts(prediction, target, reach_px=2).error
    least = torch.stack(
        [
            (prediction[b, :, 2:-2, 2:-2] - target[b, :, 2 + dy : 38 + dy, 2 + dx : 38 + dx])
            .abs().mean() for b in range(3) for dy, dx in shifts_within(2)
        ]
    ).view(3, -1).amin(dim=1)  # fmt: skip
    assert bool((some > 0.8 * least).all()) and bool((some < plain + 0.0092).all())


def test_its_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(3)
    prediction = _texture(3, 1).double()[:, :, :12, :12].requires_grad_()
    target = _texture(4, 1).double()[:, :, :12, :12]
    assert torch.autograd.gradcheck(
        lambda image: match_shifts(image, target, 2).error, prediction, eps=1e-7, atol=1e-5
    )


def test_a_reach_beyond_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit images of 4 x 4"):
        match_shifts(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), 4)


def test_it_takes_the_place_of_the_absolute_error_in_training(
    dataset: Path, tmp_path: Path
) -> None:
    wide = _texture()
    terms = weighted_loss(MODELS["maenet"].losses, None, 2)
    assert float(terms(wide[:, :, :32, :32], wide[:, :, 1:33, 2:34])["loss"]) < 0.03
    options = {
        "data": dataset, "out": tmp_path / "run", "tolerate_shift_px": 2, "epochs": 1, "blocks": 1,
        "width": 4, "device": "cpu",
    }  # fmt: skip
    assert train(config_from_options("maepfnet", options)).epochs == 1
