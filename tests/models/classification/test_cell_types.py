"""A classifier reads predictions: on cells whose type their colour tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from plsctl.acquire.errors import UserError
from plsctl.models.classification import cell_types
from plsctl.models.classification.cell_types import CellTypeReader
from plsctl.process.dataset.reader import Dataset


def test_agreement_counts_cells_that_look_like_another_type(
    make_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_types, "STEPS", 60)
    path = make_dataset(tmp_path / "d.zarr", count=200)
    data = Dataset.open(path)
    with pytest.raises(UserError, match="type"):
        CellTypeReader(data, "20x", device=torch.device("cpu"))
    targets = data.read_target("20x", np.arange(200)).astype(np.uint8)
    # In these blobs red and blue exchange with the kind: the table calls them two types.
    inside = targets[:, :, 9:15, 9:15].mean(axis=(2, 3))
    names = np.where(inside[:, 0] < inside[:, 2], "one", "other")
    (path / "samples.csv").write_text(data.table.assign(type=names).to_csv(index=False))
    data = Dataset.open(path)
    reader = CellTypeReader(data, "20x", device=torch.device("cpu"))
    assert reader.types == ("one", "other")
    wrong = targets[160:].copy()
    wrong[:10] = wrong[:10, ::-1]  # red and blue exchanged: the other type
    found = reader.compare(names[160:], wrong, targets[160:]).summary()
    assert found["accuracy_on_stained"]["mean"] > 0.85  # type: ignore[index]
    assert found["agreement"]["mean"] == pytest.approx(0.75, abs=0.1)  # type: ignore[index]
    assert np.sum(found["readings"]) == 40
