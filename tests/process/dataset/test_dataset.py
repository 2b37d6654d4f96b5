"""The data set: what is written is read, unfinished ones are refused, splits do not leak."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from plsctl.acquire.errors import UserError
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import assign_splits, thin_training
from plsctl.process.dataset.writer import DatasetWriter

FRAMES = [{"label": "brightfield"}, {"label": "plate-1"}, {"label": "arm1-24:low"}]


def _rows(count: int, first: int = 0) -> pd.DataFrame:
    numbers = np.arange(first, first + count)
    return pd.DataFrame(
        {
            "slide": "001",
            "position": [f"A/{n // 4 + 1}" for n in numbers],
            "x_um": (numbers // 4) * 500.0 + numbers % 4 * 40.0,
            "y_um": 0.0,
            "score_20x": np.nan,
            "flags": "",
        }
    )


def _write(path: Path, count: int = 23, **options: object) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    stacks = rng.integers(0, 256, (count, 3, 3, 8, 8), dtype=np.uint8)
    targets = rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    with DatasetWriter(
        path, FRAMES, recipe="mine", pixel_um=0.293, crop_px=8, targets=("20x", "100x"), shard=8,
        **options,  # type: ignore[arg-type]
    ) as writer:  # fmt: skip
        for start in range(0, count, 5):
            part = slice(start, min(start + 5, count))
            both = {"20x": targets[part], "100x": targets[part][:, ::-1].copy()}
            given = both if start < 10 else {"20x": targets[part]}
            writer.append(stacks[part], given, _rows(part.stop - part.start, start))
        writer.finish(assign_splits(writer.table, seed=1))
    return stacks, targets


@pytest.mark.parametrize("compression", ["lz4", "none"])
def test_what_is_written_is_read_back_by_us_and_by_zarr(tmp_path: Path, compression: str) -> None:
    stacks, targets = _write(tmp_path / "a.zarr", compression=compression)
    data = Dataset.open(tmp_path / "a.zarr")
    order = [22, 0, 7, 8, 7]
    assert np.array_equal(data.read_input(order), stacks[order])
    assert np.array_equal(
        data.read_images(order, data.channels_of(["arm1-24:low", "brightfield"])),
        stacks[order][:, [2, 0]],
    )
    assert np.array_equal(data.read_target("20x", order), targets[order])
    plain = zarr.open_group(tmp_path / "a.zarr", mode="r")
    array = plain["input"]
    assert isinstance(array, zarr.Array)
    assert np.array_equal(np.asarray(array[...]), stacks)
    names = ("sample", "image", "channel", "y", "x")
    assert array.metadata.dimension_names == names  # type: ignore[union-attr]
    assert not (tmp_path / "a.zarr.part").exists()


def test_table_keeps_text_as_text_and_splits_are_by_sample(tmp_path: Path) -> None:
    _write(tmp_path / "a.zarr")
    data = Dataset.open(tmp_path / "a.zarr")
    assert data.table["slide"].tolist() == ["001"] * 23
    assert data.table["flags"].tolist() == [""] * 23
    parts = [data.split(name) for name in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(23))
    # The 100x target was given for the first ten samples only.
    hundred = [n for n in data.table.index[data.table["split"] == "train"] if n < 10]
    assert data.split("train", target="100x").tolist() == hundred


def test_unfinished_foreign_and_other_versions_are_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "a.zarr", FRAMES, recipe="mine", pixel_um=0.3, crop_px=8) as w:
        stack = np.zeros((1, 3, 3, 8, 8), np.uint8)
        w.append(stack, {"20x": stack[:, 0]}, _rows(1))
    with pytest.raises(UserError, match="not finished"):
        Dataset.open(tmp_path / "a.zarr")
    with pytest.raises(UserError, match="no data set at"):
        Dataset.open(tmp_path / "b.zarr")
    (tmp_path / "c.zarr").mkdir()
    with pytest.raises(UserError, match="not a plsctl data set"):
        Dataset.open(tmp_path / "c.zarr")
    _write(tmp_path / "d.zarr")
    file = tmp_path / "d.zarr" / "zarr.json"
    group = json.loads(file.read_text())
    group["attributes"]["plsctl"]["version"] = 99
    file.write_text(json.dumps(group))
    with pytest.raises(UserError, match="version 99"):
        Dataset.open(tmp_path / "d.zarr")
    with pytest.raises(UserError, match="exists already"):
        _write(tmp_path / "d.zarr")
    (tmp_path / "d.zarr").rename(tmp_path / "d.zarr.replaced")
    with pytest.raises(UserError, match=r"Rename d\.zarr\.replaced to d\.zarr"):
        Dataset.open(tmp_path / "d.zarr")


def test_what_is_no_data_set_is_never_overwritten(tmp_path: Path) -> None:
    scan = tmp_path / "S001"
    scan.mkdir()
    (scan / "slide.yaml").write_text("slide: S001\n")
    with pytest.raises(UserError, match="is no data set"):
        DatasetWriter(scan, FRAMES, recipe="mine", pixel_um=0.3, crop_px=8, overwrite=True)
    assert [file.name for file in scan.iterdir()] == ["slide.yaml"]


def test_missing_targets_and_images_are_named(tmp_path: Path) -> None:
    _write(tmp_path / "a.zarr")
    data = Dataset.open(tmp_path / "a.zarr")
    with pytest.raises(UserError, match="no target 40x, only 20x, 100x"):
        data.read_target("40x", [0])
    with pytest.raises(UserError, match="lacks 1 of the 2 images of the stack: arm2-10"):
        data.channels_of(["brightfield", "arm2-10"])


def _grid(columns: int, rows: int, overlap_um: float, density: float = 2e-4) -> pd.DataFrame:
    """Cells of a slide, each in the field of 400 x 300 um that shows it farthest from its rim."""
    rng = np.random.default_rng(0)
    steps = np.array([400.0 - overlap_um, 300.0 - overlap_um])
    size = steps * (columns, rows) + overlap_um
    places = rng.uniform((0, 0), size, (int(size.prod() * density), 2))
    field = np.clip(((places - overlap_um / 2) // steps).astype(int), 0, (columns - 1, rows - 1))
    return pd.DataFrame(
        {
            "slide": "a",
            "position": [f"{row}/{column}" for column, row in field],
            "x_um": places[:, 0],
            "y_um": places[:, 1],
            "type": rng.choice(
                ["neutrophil", "lymphocyte", "basophil"], len(places), p=[0.6, 0.3, 0.1]
            ),
        }
    )


def _overlap_across(table: pd.DataFrame, split: pd.Series) -> int:
    """How many pairs of crops overlap and lie in different splits; those left out are in none."""
    places, sides = table[["x_um", "y_um"]].to_numpy(), split.to_numpy()
    near = (np.abs(places[:, None] - places) < 18.75).all(axis=2)
    kept = sides != ""
    return int((near & (sides[:, None] != sides) & kept[:, None] & kept).sum() // 2)


@pytest.mark.parametrize(
    ("overlap_um", "most_left_out"), [(0.0, 0.02), (20.0, 0.03), (100.0, 0.03)]
)
def test_no_piece_of_the_smear_is_in_two_splits(overlap_um: float, most_left_out: float) -> None:
    table = _grid(10, 8, overlap_um)
    split = assign_splits(table, (8, 1, 1), seed=4)
    assert split.equals(assign_splits(table, (8, 1, 1), seed=4))
    assert not split.equals(assign_splits(table, (8, 1, 1), seed=5))
    assert _overlap_across(table, split) == 0
    assert split[split != ""].groupby(table["position"]).nunique().max() == 1
    shares = split.value_counts(normalize=True)
    assert shares.get("", 0.0) <= most_left_out
    assert shares["validation"] == pytest.approx(0.1, abs=0.02)
    assert shares["test"] == pytest.approx(0.1, abs=0.02)
    for _, found in split[split != ""].groupby(table["type"]):
        assert (found == "test").mean() == pytest.approx(0.1, abs=0.035)


def test_fields_that_hardly_touch_stay_together() -> None:
    table = _grid(10, 8, 0.0, density=2e-5)
    split = assign_splits(table, (8, 1, 1), seed=4)
    assert (split != "").all()
    assert _overlap_across(table, split) == 0


def test_a_rejected_slide_fills_no_split() -> None:
    table = pd.concat([_rows(6).assign(slide=name) for name in "abcd"], ignore_index=True)
    table["excluded"] = np.where(table["slide"] == "c", "rejected_slide", "")
    for seed in range(6):
        split = assign_splits(table, (8, 1, 1), seed, by="slide")
        assert set(split[table["slide"] != "c"]) == {"train", "validation", "test"}
        assert set(split[table["slide"] == "c"]) == {"train"}


def test_half_the_training_samples_of_every_type() -> None:
    table = _grid(10, 8, 20.0)
    split = assign_splits(table, (8, 1, 1), seed=4)
    half = thin_training(table, split, 0.5, seed=1)
    others = split != "train"
    assert half[others].equals(split[others])
    for kind, rows in table.groupby("type"):
        before, after = (split[rows.index] == "train").sum(), (half[rows.index] == "train").sum()
        assert abs(after - before / 2) <= 1, kind


def test_too_few_groups_are_an_error() -> None:
    with pytest.raises(UserError, match="1 separate group"):
        assign_splits(_rows(4))
