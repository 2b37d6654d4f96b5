"""Whatever happens to the files of a data set, no sample is read as another than was written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.cli.app import app
from plsctl.process.dataset.files import write_table
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.rewrite import redivide
from plsctl.process.dataset.splits import count_splits
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.review.session import Review

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


def test_the_rest_of_a_data_set_is_used_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, dict[str, object]]:
        with pytest.raises(SystemExit) as stopped:
            app(["dataset", *arguments, "--json"])
        return int(str(stopped.value.code or 0)), json.loads(capsys.readouterr().out)

    stacks = _write(tmp_path / "a.zarr")
    path = str(tmp_path / "a.zarr")
    assert run("verify", path)[1]["damaged"] == []
    file = tmp_path / "a.zarr/input/c/1/0/0/0/0"
    content = file.read_bytes()
    file.unlink()
    code, found = run("verify", path)
    assert code == 2 and str(file) in str(found["error"])
    assert list(Dataset.open(path).split("train")) == list(range(16))
    code, found = run("verify", path, "--leave-out")
    assert (code, found["damaged"], found["left_out"]) == (0, list(range(8, 16)), True)
    data = Dataset.open(path)
    assert list(data.split("train")) == list(range(8))
    assert count_splits(data.table) == {"train": 8, "test": 4, "left_out": 8}
    assert run("merge", path, "-o", str(tmp_path / "rest.zarr"))[1]["samples"] == 12
    rest = Dataset.open(tmp_path / "rest.zarr")
    assert np.array_equal(rest.read_input(range(12)), stacks[[*range(8), *range(16, 20)]])
    file.write_bytes(content)
    assert run("verify", path, "--leave-out")[1]["damaged"] == []
    assert list(Dataset.open(path).split("train")) == list(range(16))


def test_what_is_left_out_is_in_no_split_and_comes_back(tmp_path: Path) -> None:
    _write(tmp_path / "a.zarr")
    data = Dataset.open(tmp_path / "a.zarr")
    excluded = ["dirt"] * 3 + [""] * 14 + ["dirt"] * 3
    write_table(data.path, data.table.assign(excluded=excluded, keep=["", "yes"] + [""] * 18))
    written = pd.read_csv(data.path / "samples.csv", keep_default_na=False)
    assert (written["split"] == "train").sum() == 14  # what plain pandas counts is true
    assert list(written["left_out_of"][[0, 1, 19]]) == ["train", "", "test"]
    data = Dataset.open(data.path)
    assert list(data.split("test")) == [16]
    assert count_splits(data.table) == {"train": 14, "test": 1, "left_out": 5}
    Review(data).decide(19, "yes", "")
    assert list(Dataset.open(data.path).split("test")) == [16, 19]
    # In data sets of before the split stood there all the same.
    old = written.drop(columns="left_out_of").assign(split=["train"] * 16 + ["test"] * 4)
    (data.path / "samples.csv").write_text(old.to_csv(index=False))
    assert count_splits(Dataset.open(data.path).table)["left_out"] == 5
    # A new division is not undone by an old one.
    redivide(Dataset.open(data.path), lambda table: pd.Series(["train"] * 20))
    assert set(pd.read_csv(data.path / "samples.csv")["left_out_of"].dropna()) == {"train"}


def test_no_flipped_bit_reaches_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    stacks = _write(path)
    files = [file for file in sorted(path.rglob("c/*/*/*/*/*")) if file.is_file()]
    rng = np.random.default_rng(5)
    named = 0
    for _ in range(60):
        file = files[int(rng.integers(len(files)))]
        kept = file.read_bytes()
        changed = bytearray(kept)
        changed[int(rng.integers(len(kept)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        try:
            assert np.array_equal(Dataset.open(path).read_input(range(20)), stacks)
        except DamagedData as error:
            named += error.file == str(file)
        file.write_bytes(kept)
    assert named == 60
