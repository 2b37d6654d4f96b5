"""PyTorch's loaders: what is damaged in a data set is no sample."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import DamagedData
from plsctl.models.data.torch_dataset import TorchDataset
from plsctl.process.dataset.writer import DatasetWriter


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 16
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [(Path.unlink, "missing"), (_flip, "damaged"), (lambda file: os.truncate(file, 0), "damaged")],
    ids=["deleted", "a bit flipped", "emptied"],
)
@pytest.mark.parametrize("name", ["input/c/0/0/0/0/0", "target_20x/c/0/0/0/0"])
def test_no_damage_passes_for_a_sample(
    tmp_path: Path, damage: Callable[[Path], object], problem: str, name: str
) -> None:
    stacks = np.random.default_rng(1).integers(0, 255, (4, 1, 3, 8, 8), dtype=np.uint8)
    stacks[3] = 0
    path = tmp_path / "a.zarr"
    with DatasetWriter(path, [{"label": "b"}], recipe="r", pixel_um=0.3, crop_px=8) as writer:
        rows = pd.DataFrame({"slide": ["S1"] * 4})
        writer.append(stacks, {"20x": stacks[:, 0]}, rows)
        writer.finish(["train"] * 4)
    assert not TorchDataset(path)[3][0].any()
    damage(path / name)
    with pytest.raises(DamagedData, match=rf"of sample \d .*is {problem}") as found:
        [TorchDataset(path)[number] for number in range(4)]
    assert found.value.file == str(path / name)
