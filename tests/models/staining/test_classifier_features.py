"""The perceptual network that learns the types of stained cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from plsctl.acquire.errors import UserError
from plsctl.models.classification import cell_types
from plsctl.models.networks.classifier import CellTypeNet
from plsctl.models.networks.features import ClassifierFeatures
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.tensors import file_digest
from plsctl.models.staining.losses import perceptual
from plsctl.models.staining.train import train
from plsctl.process.dataset.reader import Dataset


def test_maps_are_the_classifiers_own_before_activation_at_unit_variance() -> None:
    torch.manual_seed(0)
    classifier = CellTypeNet(3).train()
    for _ in range(3):  # gives the normalising layers means of their own
        classifier(torch.rand(8, 3, 32, 32) - 0.7)
    classifier.eval()
    targets = torch.rand(16, 3, 32, 32) * 2 - 1
    network = ClassifierFeatures.from_classifier(classifier, targets)
    with torch.no_grad():
        maps = network(targets)
        first = classifier.features[1](classifier.features[0](targets))
        whole = functional.relu(first)
        for layer in list(classifier.features)[3:8]:
            whole = layer(whole)
    assert [tuple(found.shape[1:]) for found in maps] == [(24, 32, 32), (48, 16, 16), (72, 8, 8)]
    spread = [found.std(dim=(0, 2, 3), keepdim=True) for found in (first, whole)]
    torch.testing.assert_close(maps[0], first / spread[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps[1], whole / spread[1], rtol=1e-4, atol=1e-4)
    image = targets.flip(3).requires_grad_()
    perceptual(image, targets, network).backward()  # type: ignore[no-untyped-call]
    assert float(perceptual(targets, targets, network)) == 0
    assert float(image.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_training_with_it_needs_types_and_is_recorded(
    make_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_types, "STEPS", 5)
    path = make_dataset(tmp_path / "d.zarr", count=60)
    options = {
        "data": path, "recipe": "brightfield", "epochs": 1, "blocks": 1, "growth": 4, "width": 6,
        "device": "cpu", "precision": "float32", "perceptual": "classifier",
    }  # fmt: skip
    with pytest.raises(UserError, match="has 0") as caught:
        train(config_from_options("maepnet", {**options, "out": tmp_path / "none"}))
    assert "--perceptual targets" in str(caught.value.hint)
    assert not (tmp_path / "none").exists()

    table = Dataset.open(path).table
    names = np.where(np.arange(60) % 2 == 0, "one", "other")
    (path / "samples.csv").write_text(table.assign(type=names).to_csv(index=False))
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / name
        train(config_from_options("maepnet", {**options, "out": out, "seed": seed}))
        metadata = json.loads((out / "facts.json").read_text())["perceptual"]
        assert metadata["types"] == "one, other" and metadata["cells"] == "48"
        assert metadata["sha256"] == file_digest(out / "perceptual.safetensors")
        digests.append(metadata["sha256"])
    assert digests[0] == digests[1] != digests[2]
    train(config_from_options("maepnet", {**options, "out": tmp_path / "a", "epochs": 2}))
    assert file_digest(tmp_path / "a" / "perceptual.safetensors") == digests[0]
