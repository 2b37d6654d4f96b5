"""The error map against errors that are known because the test puts them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import locked
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.prediction.stain import stain
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import read_tensors, write_tensors
from plsctl.models.staining.train import train
from plsctl.models.uncertainty.calibration import measure_calibration
from plsctl.models.uncertainty.error_model import ErrorModel, corrected
from plsctl.models.uncertainty.split_errors import absolute_error
from plsctl.models.uncertainty.stainer import UncertainStainer
from plsctl.models.uncertainty.train import (
    UncertaintySettings,
    fit_correction,
    kept_back,
    train_uncertainty,
)


@pytest.fixture
def run(tmp_path: Path, make_dataset: Callable[..., Path]) -> Run:
    """A run on blobs whose red is not told by any image: errors lie inside the blobs."""
    data = make_dataset(tmp_path / "d.zarr", count=120)
    options = {
        "data": data, "out": tmp_path / "run", "recipe": "brightfield", "epochs": 8, "blocks": 1,
        "growth": 8, "width": 12, "batch": 8, "learning_rate": 5e-3, "schedule": "cosine",
        "device": "cpu", "precision": "float32",
    }  # fmt: skip
    train(config_from_options("maenet", options))
    return Run.open(tmp_path / "run")


def test_predicted_errors_are_where_and_as_large_as_the_measured_ones(run: Run) -> None:
    with locked(run.path), pytest.raises(UserError, match="another plsctl is writing"):
        train_uncertainty(run)
    with pytest.raises(UserError, match="no uncertainty yet"):
        ErrorModel(run)
    result = train_uncertainty(run, settings=UncertaintySettings(steps=60))
    curve = result["curve"]
    assert isinstance(curve, list)
    for point in curve:
        assert point["predicted"] == pytest.approx(point["measured"], rel=0.5, abs=0.02)
    assert curve[-1]["measured"] > 3 * curve[0]["measured"]
    assert result["worst_tenth_share"] > 0.2  # type: ignore[operator]
    assert result["worst_tenth_share"] <= result["best_tenth_share"]  # type: ignore[operator]
    assert result["coverage"]["0.9"]["mean"] == pytest.approx(0.9, abs=0.1)  # type: ignore[index]
    assert (run.path / "uncertainty_maps_test.png").is_file()
    again = measure_calibration(run)
    assert again["curve"] == curve
    predictor = Predictor(run, device="cpu", precision="float32")
    stack = np.full((1, 40, 48, 3), 200, dtype=np.uint8)
    np.save(run.path / "stack.npy", stack)
    out = run.path / "stained.ome.zarr"
    stain(UncertainStainer(predictor), run.path / "stack.npy", out)
    written = np.asarray(zarr.open_array(out / "0", mode="r"))
    assert written.shape == (2, 3, 1, 40, 48)
    assert np.array_equal(written[1, 0], written[1, 2])
    np.testing.assert_array_equal(
        np.moveaxis(written[0, :, 0], 0, 2), predictor.stain_frame(stack, halo_px=0)
    )

    tensors, state = read_tensors(run.path / "best.safetensors")
    tensors["first.bias"] += 1
    write_tensors(run.path / "best.safetensors", tensors, state)
    with pytest.raises(UserError, match="other weights"):
        ErrorModel(run)


def test_errors_are_those_of_the_grey_values() -> None:
    prediction = np.zeros((1, 3, 1, 2), dtype=np.uint8)
    target = np.zeros((1, 3, 1, 2), dtype=np.uint8)
    target[0, 0, 0, 1] = 255
    np.testing.assert_allclose(absolute_error(prediction, target)[0, 0], [0, 1 / 3])


def test_correction_and_limits_are_those_of_errors_drawn_at_random() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.01, 0.05, (40, 50, 50)).astype(np.float32)
    error = rng.exponential(3 * raw).astype(np.float32)  # what is said is a third of the truth
    metadata = fit_correction(raw, error, "")
    np.testing.assert_allclose(corrected(raw, metadata), 3 * raw, rtol=0.15)
    # Of an exponential distribution a share p lies below -log(1 - p) means.
    for share, limit in metadata.limits.items():
        assert limit == pytest.approx(-np.log(1 - float(share)), rel=0.05)


def test_whole_positions_are_kept_back_where_there_are_enough() -> None:
    positions = np.repeat([f"A/{number}" for number in range(12)], 5)
    kept = kept_back(positions)
    assert kept.reshape(12, 5).all(axis=1).sum() == 3 and kept.sum() == 15
    assert kept_back(np.array(["A/1"] * 8)).tolist() == [True, False, False, False] * 2
