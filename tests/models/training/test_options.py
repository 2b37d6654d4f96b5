"""Settings of a training that cannot be right are told before anything is loaded or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from plsctl.acquire.errors import UserError
from plsctl.models.runs.config import config_from_file, config_from_options
from plsctl.models.runs.training_settings import LARGEST_SEED
from plsctl.models.training.task import epoch_seed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("seed", LARGEST_SEED + 1, "--seed 4294967296: it must be at most 4294967295"),
        ("seed", -1, "it must be at least 0"),
        ("learning_rate", float("inf"), "--learning-rate inf: a finite number is expected"),
        ("learning_rate", 0.0, "it must be above 0"),
        ("target", "40x", "--target 40x: it must be '20x' or '100x'"),
        ("epochs", 1.5, "--epochs 1.5: a whole number is expected"),
    ],
)
def test_an_option_says_what_is_allowed(name: str, value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_from_options("fast", {"data": "x.zarr", "out": "run", name: value})


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("betas: [0.5, 1.5]", "betas.1", "it must be below 1"),
        ("betas: [-1, 0.9]", "betas.0", "it must be at least 0"),
        ("betas: 0.5", "betas", r"Such as \[0.5, 0.9\]"),
        ("seed: 99999999999999999999", "seed", "at most 4294967295"),
        ("schedule: cosin", "schedule", "Did you mean 'cosine'"),
    ],
)
def test_a_field_of_a_file_does_too(tmp_path: Path, line: str, field: str, words: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"model: fast\ndata: x.zarr\nout: run\n{line}\n")
    with pytest.raises(UserError, match=words) as caught:
        config_from_file(file, {})
    assert (caught.value.line, caught.value.field) == (4, field)


def test_torch_takes_the_largest_seed_in_any_epoch() -> None:
    torch = pytest.importorskip("torch")
    torch.Generator().manual_seed(epoch_seed(LARGEST_SEED, 1_000_000))
