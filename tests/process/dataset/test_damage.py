"""Whatever happens to the files of a data set, no sample is read as another than was written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter

SHARD = 8


def _write(path: Path, count: int = 20) -> np.ndarray:
    """Samples of which one is all black, and every second has no 100x target."""
    rng = np.random.default_rng(3)
    stacks = rng.integers(0, 256, (count, 2, 3, 16, 16), dtype=np.uint8)
    stacks[9] = 0
    targets = rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    rows = pd.DataFrame({"slide": "S1", "x_um": np.arange(count) * 100.0, "y_um": 0.0})
    with DatasetWriter(
        path, [{"label": "brightfield"}, {"label": "plate-1"}], recipe="mine", pixel_um=0.293,
        crop_px=16, targets=("20x", "100x"), shard=SHARD,
    ) as writer:  # fmt: skip
        for n in range(count):
            given = {"20x": targets[n : n + 1]} | ({"100x": targets[n : n + 1]} if n % 2 else {})
            writer.append(stacks[n : n + 1], given, rows.iloc[n : n + 1])
        writer.finish(["train"] * (count - 4) + ["test"] * 4)
    return stacks


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 16
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "a bit flipped": _flip,
    "emptied": lambda file: os.truncate(file, 0),
    "cut off": lambda file: os.truncate(file, file.stat().st_size // 2),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["input", "target_20x", "target_100x"])
def test_no_damage_passes_for_a_sample(tmp_path: Path, damage: str, name: str) -> None:
    _write(tmp_path / "a.zarr")
    file = tmp_path.joinpath("a.zarr", name, "c", "1", *"0" * (4 if name == "input" else 3))
    DAMAGE[damage](file)
    data = Dataset.open(tmp_path / "a.zarr")
    read = data.read_input if name == "input" else lambda n: data.read_target(name[7:], n)
    assert len(read(range(SHARD))) == SHARD
    with pytest.raises(DamagedData, match=rf"{name} of sample \d+ .*is (missing|damaged)") as found:
        read(range(20))
    assert found.value.file == str(file)
    assert found.value.problem.startswith("is missing") is (damage == "deleted")
    assert "dataset verify" in str(found.value.hint)


def test_black_is_not_missing(
    tmp_path: Path, of_before: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    stacks = _write(tmp_path / "a.zarr")
    data = Dataset.open(tmp_path / "a.zarr")
    assert np.array_equal(data.read_input(range(20)), stacks)
    assert not data.read_target("100x", [0, 2]).any()  # that they have none, the table says
    assert data.read_target("100x", [0, 1])[1].any()
    assert not caplog.text
    of_before(tmp_path / "a.zarr")
    old = Dataset.open(tmp_path / "a.zarr")
    Dataset.open(tmp_path / "a.zarr")
    assert np.array_equal(old.read_input(range(20)), stacks)
    assert not old.read_target("100x", [0, 2]).any()
    assert caplog.text.count("carries no checksums") == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: "", "cannot be read"),
        (lambda text: text[: len(text) // 2].rpartition("\n")[0] + "\n", "holds 20 samples"),
        (lambda text: text.replace("test", "tesv", 1), "has the split 'tesv' in line 18"),
        (lambda text: text.replace("\n3,", "\n2,", 1), "does not number its samples"),
    ],
    ids=["emptied", "cut off at a row", "another letter", "a number twice"],
)
def test_a_table_that_is_not_what_was_written_is_refused(
    tmp_path: Path, change: Callable[[str], str], problem: str
) -> None:
    _write(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr" / "samples.csv"
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=problem) as found:
        Dataset.open(tmp_path / "a.zarr").read_input([0])
    assert found.value.file == str(file)


def test_of_data_sets_of_before_missing_files_are_noticed(
    tmp_path: Path, of_before: Callable[[Path], None]
) -> None:
    _write(tmp_path / "a.zarr")
    of_before(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/input/c/1/0/0/0/0").unlink()
    with pytest.raises(DamagedData, match=r"input of sample 8 is missing"):
        Dataset.open(tmp_path / "a.zarr").read_input(range(20))
