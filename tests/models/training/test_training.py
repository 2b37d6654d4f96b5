"""Training: it learns, it goes on after a stop, and what is wrong is said clearly."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from plsctl.acquire.errors import UserError
from plsctl.models.compute.device import memory_errors
from plsctl.models.data.batches import (
    InputScale,
    SampleSource,
    epoch_order,
    spread,
    to_colour,
    to_counts,
)
from plsctl.models.evaluation.evaluate import evaluate
from plsctl.models.metrics.similarity import ssim_colour
from plsctl.models.metrics.torch_similarity import similarity
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.config import TrainingConfig, config_from_file, config_from_options
from plsctl.models.runs.metadata import Normalisation
from plsctl.models.runs.run import Run
from plsctl.models.staining.task import StainTask
from plsctl.models.staining.train import train
from plsctl.models.training.schedule import learning_rate
from plsctl.models.training.trainer import Trainer
from plsctl.process.dataset.reader import Dataset

WHOLE: dict[str, Any] = {
    "epochs": 10, "average": 0.9, "schedule": "cosine", "learning_rate": 5e-3
}  # fmt: skip


def _config(data: Path, out: Path, **changes: Any) -> TrainingConfig:
    options = {
        "data": data, "out": out, "blocks": 1, "growth": 8, "width": 12, "batch": 8,
        "learning_rate": 2e-3, "epochs": 3, "device": "cpu", "precision": "float32",
        "memory_format": "channels_last",
    } | changes  # fmt: skip
    return config_from_options(options.pop("model", "maepfnet"), options)


def _curve(run: Path) -> list[dict[str, float]]:
    with (run / "curve.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained without a stop."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(_config(dataset, out, **WHOLE))
    return out


def test_training_lowers_the_loss_and_beats_the_baselines(trained: Path) -> None:
    curve = _curve(trained)
    assert curve[-1]["validation_loss"] < 0.6 * curve[0]["validation_loss"]
    assert curve[-1]["train_loss"] == pytest.approx(
        sum(curve[-1][f"train_{term}"] for term in ("mae", "perceptual", "fourier")), rel=1e-5
    )
    result: Any = evaluate(Run.open(trained), split="test")
    assert result["split"] == "test" and result["samples"] == 6
    assert list(result["baselines"]) == ["unstained", "mean_colour", "mean_target"]
    for baseline in result["baselines"].values():
        assert result["metrics"]["mae"]["mean"] < baseline["mae"]["mean"]
        assert result["metrics"]["ssim"]["mean"] > baseline["ssim"]["mean"]
    low, high = result["metrics"]["ssim"]["ci95"]
    assert low <= result["metrics"]["ssim"]["mean"] <= high
    assert json.loads((trained / "metrics.json").read_text())["metrics"] == result["metrics"]
    assert (trained / "gallery_test.png").stat().st_size > 1000
    assert (trained / "curves.png").stat().st_size > 1000


def test_baselines_are_what_they_say(trained: Path, dataset: Path) -> None:
    data = Dataset.open(dataset)
    result: Any = evaluate(Run.open(trained), data, "validation")
    numbers = data.split("validation")
    target = data.read_target("20x", numbers)
    bright = data.read_input(numbers, "brightfield")[:, 0]
    assert result["baselines"]["unstained"]["ssim"]["mean"] == pytest.approx(
        float(ssim_colour(bright, target).mean())  # type: ignore[arg-type]
    )
    mean = data.read_target("20x", data.split("train")).mean(axis=0)
    assert result["baselines"]["mean_target"]["mae"]["mean"] == pytest.approx(
        np.abs(mean - target).mean() / 127.5, abs=3e-3
    )


def test_a_killed_run_continues_the_same_curve(
    trained: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(dataset, tmp_path / "run", **WHOLE)
    step, calls = Trainer._step, []

    def killed(trainer: Trainer, *batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 15:  # 6 steps an epoch: in the middle of the third
            raise KeyboardInterrupt
        return step(trainer, *batch)

    monkeypatch.setattr(Trainer, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert len(_curve(tmp_path / "run")) == 2
    result = train(config)
    assert result.epochs == WHOLE["epochs"]
    whole, pieced = _curve(trained), _curve(tmp_path / "run")
    for one, other in zip(whole, pieced, strict=True):
        for name in one.keys() - {"seconds"}:
            assert other[name] == pytest.approx(one[name], rel=1e-4), name
    assert train(config).stopped == "epochs"  # a finished run is left as it is


def test_early_stopping_and_the_best_epoch_is_kept(dataset: Path, tmp_path: Path) -> None:
    # With a vanishing rate nothing improves after the first epochs.
    config = _config(
        dataset, tmp_path / "run", model="maenet", epochs=50, patience=2, learning_rate=1e-30
    )
    result = train(config)
    assert result.stopped == "patience" and result.epochs == result.best_epoch + 2


def test_time_ends_a_run_and_it_can_be_given_more(dataset: Path, tmp_path: Path) -> None:
    config = _config(dataset, tmp_path / "run", minutes=1e-7, epochs=500)
    assert train(config).stopped == "time"
    assert _curve(tmp_path / "run")[0]["train_loss"] > 0  # one step at least
    longer = config.model_copy(update={"minutes": None, "epochs": 2})
    assert train(longer).epochs == 2


def test_nan_is_reported_and_the_last_good_weights_stay(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(dataset, tmp_path / "run", epochs=1)
    train(config)
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    monkeypatch.setattr(
        StainTask, "_predict", lambda self, network, scaled: network(scaled * torch.nan)
    )
    with pytest.raises(UserError, match=r"became nan in epoch 2, step 7.*lower --learning-rate"):
        train(config.model_copy(update={"epochs": 2}))
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
    monkeypatch.undo()
    # Steps may end well and leave weights that are no numbers: the epoch is not a finished one.
    monkeypatch.setattr(Trainer, "_validate", lambda self: {"loss": math.inf, "ssim": 0.0})
    with pytest.raises(UserError, match=r"became inf in epoch 2, step 12\..* up to epoch 1 are"):
        train(config.model_copy(update={"epochs": 2}))
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


def test_requests_that_do_not_fit_are_refused_before_anything_is_written(
    dataset: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="has no target 100x"):
        train(_config(dataset, out, target="100x"))
    with pytest.raises(UserError, match=r"lacks 10 of the 14 images of recipe le18deg"):
        train(_config(dataset, out, recipe="le18deg"))
    with pytest.raises(UserError, match="no data set at"):
        train(_config(tmp_path / "none.zarr", out))
    with pytest.raises(UserError, match="no such file of VGG19"):
        train(_config(dataset, out, perceptual=str(tmp_path / "vgg.pth")))
    assert not out.exists()
    with pytest.raises(UserError, match="was begun with growth = 8, now it is 4"):
        train(_config(dataset, trained, **WHOLE, growth=4))
    with pytest.raises(UserError, match=r"no model 'maepfnt'.*Did you mean 'maepfnet'"):
        _config(dataset, out, model="maepfnt")
    with pytest.raises(UserError, match="--out is missing"):
        config_from_options("maenet", {"data": dataset})
    with pytest.raises(UserError, match="--epochs 0"):
        _config(dataset, out, epochs=0)


def test_a_config_file_repeats_a_run(trained: Path, tmp_path: Path) -> None:
    config = config_from_file(trained / "config.yaml", {"out": tmp_path / "again"})
    assert config.differences(Run.open(trained).config) == []
    file = tmp_path / "bad.yaml"
    file.write_text("model: maenet\ndata: a\nout: b\nepoch: 3\n")
    with pytest.raises(UserError, match=r"line 4: .*Did you mean 'epochs'") as caught:
        config_from_file(file, {})
    assert caught.value.line == 4


def test_weights_of_another_recipe_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        Run.open(tmp_path)
    run = Run.open(trained)
    other = Run(run.path, run.config, run.metadata.model_copy(update={"channels": 9}))
    with pytest.raises(UserError, match="weights are for 4 images, the recipe has 3"):
        other.network()
    wide = run.config.model_copy(update={"width": 20})
    with pytest.raises(UserError, match="of another network"):
        Run(run.path, wide, run.metadata).network()


def test_a_full_disk_keeps_the_last_epoch_and_damaged_files_are_named(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(_config(dataset, run, epochs=1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="the disk is full; what was written before is kept"):
        train(_config(dataset, run, epochs=2))
    monkeypatch.undo()
    assert train(_config(dataset, run, epochs=2)).epochs == 2
    (run / "last.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"last\.safetensors: the weights cannot be .*--fresh"):
        train(_config(dataset, run, epochs=3))
    (run / "facts.json").write_text("")
    with pytest.raises(UserError, match=r"facts\.json: .*damaged"):
        Run.open(run)
    with pytest.raises(UserError, match="is not a run folder"):
        train(_config(dataset, run / "facts.json"))


def test_running_out_of_memory_names_the_remedy() -> None:
    with (
        pytest.raises(UserError, match=r"memory does not suffice.*--batch 10"),
        memory_errors("Try --batch 10."),
    ):
        torch.empty(2**50)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",  # of pinned memory, or of a GPU that others fill
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_what_gpus_say_of_too_little_memory_is_understood(text: str) -> None:
    with pytest.raises(UserError, match="memory does not suffice"), memory_errors(""):
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="illegal"), memory_errors(""):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_streamed_batches_equal_those_in_memory(dataset: Path) -> None:
    data = Dataset.open(dataset)
    held = SampleSource(data, "train", [2, 0], "20x", memory_gb=1)
    streamed = SampleSource(data, "train", [2, 0], "20x", memory_gb=1e-9)
    assert (held.kept, streamed.kept) == ("memory", "disk")
    order = epoch_order(len(held), seed=3, epoch=5)
    pairs = zip(held.batches(order, 7), streamed.batches(order, 7), strict=True)
    for one, other in pairs:
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
        assert one[0].is_contiguous(memory_format=torch.channels_last)
    assert sorted(order) == list(range(48))
    assert not np.array_equal(order, epoch_order(48, seed=3, epoch=6))


def test_normalised_inputs_have_unit_deviation_in_every_channel() -> None:
    rng = np.random.default_rng(0)
    levels = np.array([200.0, 10.0]).reshape(1, 2, 1, 1, 1)
    stacks = np.clip(rng.normal(levels, 0.1 * levels + 3, (50, 2, 3, 16, 16)), 0, 255)
    scale = Normalisation.of(stacks.astype(np.uint8))
    scaled = InputScale(scale)(torch.from_numpy(stacks.astype(np.uint8)).flatten(1, 2))
    torch.testing.assert_close(scaled.mean(dim=(0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 2, 3)), torch.ones(6), atol=1e-3, rtol=0)
    # A dead image is not blown up.
    assert Normalisation.of(np.zeros((2, 1, 3, 4, 4), np.uint8)).std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1000, 1536, 30_000])
def test_statistics_are_of_samples_spread_over_all_slides(count: int) -> None:
    chosen = spread(np.arange(count), 512)
    assert min(count, 256) <= len(chosen) <= 512
    gaps = np.diff(chosen, append=count)
    assert gaps.max() <= count / 512 + 1  # no part of the split is left out


def test_colours_go_to_counts_and_back() -> None:
    counts = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_counts(to_colour(counts)), counts)
    assert to_counts(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_rate_schedules(dataset: Path, tmp_path: Path) -> None:
    constant = _config(dataset, tmp_path)
    assert {learning_rate(constant, share) for share in (0, 0.5, 1)} == {2e-3}
    cosine = constant.model_copy(update={"schedule": "cosine"})
    rates = [learning_rate(cosine, share) for share in np.linspace(0.03, 1, 20)]
    assert rates[0] == pytest.approx(2e-3) and rates[-1] == pytest.approx(4e-5)
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_prediction_in_batches_equals_one_by_one(trained: Path, dataset: Path) -> None:
    stacks = Dataset.open(dataset).read_input(range(5)).astype(np.uint8)
    run = Run.open(trained)
    many = Predictor(run, precision="float32", batch=4).predict(stacks)
    single = Predictor(run, precision="float32", batch=1).predict(stacks)
    assert np.abs(many.astype(int) - single).max() <= 1
    with pytest.raises(ValueError, match="expected"):
        Predictor(run).predict(stacks[:, :2])


def test_a_data_set_that_was_split_anew_does_not_judge_what_was_learned_from_it(
    make_dataset: Any, tmp_path: Path
) -> None:
    path = make_dataset(tmp_path / "blobs.zarr")
    config = _config(path, tmp_path / "run", epochs=1)
    train(config)
    evaluate(run := Run.open(tmp_path / "run"), split="test")
    table = pd.read_csv(path / "samples.csv")
    # As many samples a split as before, but a training and a test sample have changed places.
    table.loc[[0, 9], "split"] = ["test", "train"]
    table.to_csv(path / "samples.csv", index=False)
    with pytest.raises(UserError, match=r"split anew .* learned from 1 of the 6 test samples"):
        evaluate(run, split="test")
    evaluate(run, split="validation")
    with pytest.raises(UserError, match="these were split anew"):
        train(config)


def test_data_of_other_exposures_are_seen_as_if_exposed_like_the_training_data(
    trained: Path, dataset: Path
) -> None:
    predictor = Predictor(Run.open(trained), device="cpu", precision="float32")
    data = Dataset.open(dataset)
    # 2.0 in training.
    longer = tuple(frame.model_copy(update={"exposure_ms": 4.0}) for frame in data.frames)
    changes = {"frames": longer, "black_level": 4.0}
    other = Dataset(dataset, data.attributes.model_copy(update=changes), data.table)
    numbers = data.split("test")
    stacks = data.read_input(numbers).astype(float)
    wanted = predictor.predict(np.rint((stacks - 4) / 2 + 4).clip(0, 255).astype(np.uint8))
    found, bright = predictor.predict_samples(other, numbers)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(bright, stacks[:, 0])  # as it is
    scaled = Dataset(dataset, data.attributes.model_copy(update={"pixel_um": 0.6}), data.table)
    with pytest.raises(UserError, match=r"pixels of 0\.6 µm"):
        predictor.predict_samples(scaled, numbers)


def test_a_margin_is_seen_and_not_asked_for(make_dataset: Any, tmp_path: Path) -> None:
    # Crops of 16 px inside stacks of 24 px: targets and losses have the crop's size.
    wide = make_dataset(tmp_path / "wide.zarr", margin_px=4)
    result = train(_config(wide, tmp_path / "seen", epochs=1))
    run = Run.open(result.run)
    assert (run.metadata.crop_px, run.metadata.margin_px) == (16, 4)
    data, numbers = Dataset.open(wide), [3, 5]
    predictor = Predictor(run, precision="float32")
    predicted, bright = predictor.predict_samples(data, numbers)
    assert np.array_equal(bright, data.read_input(numbers, "brightfield")[:, 0])
    # What comes of a crop is what a whole frame shows there: the frame here is the wide stack.
    stack = data.read_images([3], range(4), margin_px=4)[0]
    frame = predictor.stain_frame(np.moveaxis(stack, 1, 3).astype(np.uint8))
    assert np.array_equal(np.moveaxis(predicted[0], 0, 2), frame[4:-4, 4:-4])
    evaluated: Any = evaluate(run)
    assert evaluated["samples"] == 6
    bare = train(_config(wide, tmp_path / "bare", epochs=1, margin=0))
    assert Run.open(bare.run).metadata.margin_px == 0
    with pytest.raises(UserError, match="margin of 4 px, 5 px are wanted"):
        train(_config(wide, tmp_path / "none", margin=5))
    assert not (tmp_path / "none").exists()


def test_similarity_on_the_device_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(2)
    first = rng.integers(0, 256, (3, 3, 20, 24), dtype=np.uint8)
    second = np.clip(first.astype(int) + rng.integers(-30, 30, first.shape), 0, 255)
    pair = [torch.from_numpy(images.astype(np.uint8)) for images in (first, second)]
    wanted = ssim_colour(first, second.astype(np.uint8)).mean()
    assert float(similarity(*pair)) == pytest.approx(wanted, abs=1e-6)


def test_tensorboard_holds_the_curve_and_is_missed_clearly(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the extra tensorboard",
    )
    config = _config(dataset, tmp_path / "run", epochs=1, model="maenet", tensorboard=True)
    train(config)
    train(config.model_copy(update={"epochs": 2}))
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    found = {event.step: event.value for event in events.Scalars("validation/ssim")}
    wanted = {int(row["epoch"]): row["validation_ssim"] for row in _curve(tmp_path / "run")}
    assert found == pytest.approx(wanted, rel=1e-5)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"TensorBoard is not installed.*plsctl\[tensorboard\]"):
        train(_config(dataset, tmp_path / "other", tensorboard=True))
    assert not (tmp_path / "other").exists()
