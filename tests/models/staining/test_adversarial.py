"""The discriminator and adversarial training from a trained generator."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from plsctl.acquire.errors import UserError
from plsctl.models.compute.processes import ALONE
from plsctl.models.networks.discriminator import Discriminator
from plsctl.models.runs.config import TrainingConfig, config_from_options
from plsctl.models.runs.registry import MODELS, LossWeights
from plsctl.models.runs.run import Run
from plsctl.models.staining.adversary import Adversary
from plsctl.models.staining.losses import relativistic_discriminator, relativistic_generator
from plsctl.models.staining.train import train
from plsctl.models.training.trainer import Trainer

SMALL: dict[str, Any] = {
    "blocks": 1, "growth": 8, "width": 8, "batch": 16, "epochs": 2, "learning_rate": 2e-3,
    "device": "cpu", "precision": "float32",
}  # fmt: skip


def test_the_discriminator_is_the_papers() -> None:
    network = Discriminator(64)
    assert sum(p.numel() for p in network.parameters()) == 519_513
    assert network.features(torch.zeros(1, 3, 64, 64)).flatten(1).shape == (1, 4096)
    assert MODELS["maepf-rpgan-sn"].losses == LossWeights(1, 0.0125, 0.0125, 0.005)


def test_every_convolution_has_spectral_norm_one() -> None:
    torch.manual_seed(0)
    network = Discriminator(16).train()
    for _ in range(60):
        network(torch.rand(2, 3, 16, 16))
    network.eval()
    for layer in network.features:
        if isinstance(layer, torch.nn.Conv2d):
            largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
            assert float(largest) == pytest.approx(1, abs=0.02)


def test_crops_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        Discriminator(60)
    with pytest.raises(ValueError, match=r"expected \(B, 3, 16, 16\)"):
        Discriminator(16)(torch.zeros(1, 3, 24, 24))


def test_relativistic_losses_by_hand_and_without_overflow() -> None:
    real, fake = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])
    expected = (math.log1p(math.exp(-1)) + math.log(2)) / 2
    assert float(relativistic_discriminator(real, fake)) == pytest.approx(expected)
    expected = (math.log1p(math.exp(1)) + math.log(2)) / 2
    assert float(relativistic_generator(real, fake)) == pytest.approx(expected)
    assert float(relativistic_generator(real + 500, fake)) == pytest.approx(500.0, abs=1)


def test_the_sum_over_a_batch_is_that_of_the_thesis() -> None:
    output, wanted = torch.rand(5, 3, 16, 16), torch.rand(5, 3, 16, 16)
    losses = []
    for reduction in ("mean", "sum"):
        made: dict[str, Any] = {"weight": 0.005, "rate": 4e-4, "reduction": reduction}
        adversary = Adversary(16, (0.5, 0.9), 0, torch.device("cpu"), ALONE, **made)
        generator = float(adversary.generator_loss(output, wanted))
        losses.append((generator, float(adversary.update(output, wanted, 1.0, 1.0))))
    assert losses[1] == pytest.approx([5 * value for value in losses[0]], rel=1e-5)


@pytest.fixture(scope="module")
def generator(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "maepfnet"
    train(config_from_options("maepfnet", {"data": dataset, "out": out, **SMALL}))
    return out


def _adversarial(start: Path, out: Path, **changes: Any) -> TrainingConfig:
    keep = {name: SMALL[name] for name in ("batch", "device", "precision", "epochs")}
    options = {"from_run": start, "out": out, "learning_rate": 1e-4, **keep, **changes}
    return config_from_options("maepf-rpgan-sn", options)


def test_it_starts_from_the_generator_and_takes_over_its_sizes(
    generator: Path, tmp_path: Path
) -> None:
    before = Run.open(generator)
    config = _adversarial(generator, tmp_path / "run", epochs=1, learning_rate=1e-30)
    assert (config.data, config.blocks, config.width) == (before.config.data, 1, 8)
    train(config)
    run = Run.open(tmp_path / "run")
    for name, tensor in run.network().state_dict().items():
        torch.testing.assert_close(tensor, before.network().state_dict()[name])
    assert run.metadata.normalisation == before.metadata.normalisation
    assert run.metadata.start is not None and run.metadata.start["run"] == str(generator)


def test_a_run_that_has_begun_needs_its_start_no_more(generator: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start", tmp_path / "run"
    shutil.copytree(generator, start)
    train(_adversarial(start, out, epochs=1))
    shutil.rmtree(start)
    config = _adversarial(start, out, epochs=2)
    assert config.width == 8
    assert train(config).epochs == 2
    with pytest.raises(UserError, match="not a run folder"):
        train(config, fresh=True)
    assert Run.open(out).network() is not None


def test_both_networks_learn_and_a_killed_run_goes_on(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(_adversarial(generator, tmp_path / "whole"))
    step, calls = Trainer._step, []

    def killed(trainer: Trainer, *batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:  # 3 steps an epoch: in the second
            raise KeyboardInterrupt
        return step(trainer, *batch)

    monkeypatch.setattr(Trainer, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(_adversarial(generator, tmp_path / "pieces"))
    monkeypatch.undo()
    train(_adversarial(generator, tmp_path / "pieces"))
    whole, pieces = (
        list(csv.DictReader((tmp_path / name / "curve.csv").read_text().splitlines()))
        for name in ("whole", "pieces")
    )
    for one, other in zip(whole, pieces, strict=True):
        for name in one.keys() - {"seconds"}:
            assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-4), name
    terms = ("mae", "perceptual", "fourier", "adversarial")
    total = sum(float(whole[0][f"train_{term}"]) for term in terms)
    assert float(whole[0]["train_loss"]) == pytest.approx(total, rel=1e-5)
    assert float(whole[1]["train_discriminator"]) < float(whole[0]["train_discriminator"])
    # The epoch is chosen by the losses without the adversary, which moves (papers/002 figure 4.9).
    assert "validation_adversarial" not in whole[0]


def test_what_it_cannot_start_from_is_said(
    generator: Path, dataset: Path, make_dataset: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    alone = config_from_options("maepf-rpgan-sn", {"data": dataset, "out": out})
    with pytest.raises(UserError, match=r"starts from a trained maepfnet\..*--from RUN"):
        train(alone)
    with pytest.raises(UserError, match="not a run folder"):
        _adversarial(tmp_path, out)
    train(config_from_options("maenet", {"data": dataset, "out": tmp_path / "mae", **SMALL}))
    with pytest.raises(UserError, match="is a maenet"):
        train(_adversarial(tmp_path / "mae", out))
    with pytest.raises(UserError, match="has width 8, the new one 10"):
        train(_adversarial(generator, out, width=10))
    with pytest.raises(UserError, match=r"takes 4 images \(le8deg\), the new one 1"):
        train(_adversarial(generator, out, recipe="brightfield"))
    with pytest.raises(UserError, match="has another network"):
        train(config_from_options("fast", {"from_run": generator, "out": out}))
    assert not out.exists()
