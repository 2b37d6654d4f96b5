"""Data sets put together, divided and labelled: what fits and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.recipes import recipe
from plsctl.cli.app import app
from plsctl.process.dataset.labels import join_labels, read_labels
from plsctl.process.dataset.merge import merge_datasets
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.rewrite import rewrite_table
from plsctl.process.dataset.writer import DatasetWriter

FRAMES = [
    {"label": f.label, "exposure_ms": 2.0, "gain": 1.0, "brightness": 1.0} for f in recipe("le8deg")
]


def _write(path: Path, slide: str, count: int = 20, **changes: Any) -> Dataset:
    """A small data set of one slide; the pixels are noise that the slide's name seeds."""
    rng = np.random.default_rng([ord(letter) for letter in slide])
    frames = changes.pop("frames", FRAMES)
    given: dict[str, Any] = {
        "recipe": "le8deg",
        "pixel_um": 0.293,
        "crop_px": 8,
        "targets": ("20x", "100x"),
    }
    stacks = rng.integers(0, 256, (count, len(frames), 3, 8, 8), dtype=np.uint8)
    rows = pd.DataFrame(
        {
            "slide": slide,
            "position": [f"A/{number // 4 + 1}" for number in range(count)],
            "cell": range(1, count + 1),
            "x_um": np.arange(count) * 100.0,
            "y_um": rng.uniform(0, 50, count).round(3),
            "type": "",
            "split": ["train", "test"] * (count // 2),
        }
    )
    with DatasetWriter(
        path, frames, shard=8, attributes={"slides": [slide], "black_level": 5.0}, **given | changes
    ) as writer:
        half = count // 2
        both = {"20x": stacks[:, 0], "100x": stacks[:, 1]}
        first = {name: array[:half] for name, array in both.items() if name in writer.targets}
        writer.append(stacks[:half], first, rows[:half])
        writer.append(stacks[half:], {"20x": both["20x"][half:]}, rows[half:])
        writer.finish()
    return Dataset.open(path)


def test_merged_samples_are_those_of_the_sources(tmp_path: Path) -> None:
    one, two = _write(tmp_path / "a.zarr", "S1"), _write(tmp_path / "b.zarr", "S2", 30)
    merged = merge_datasets([one.path, two.path], tmp_path / "c.zarr")
    assert len(merged) == 50
    assert merged.attributes.slides == ("S1", "S2")
    order = [3, 19, 20, 49]
    wanted = np.concatenate([one.read_input([3, 19]), two.read_input([0, 29])])
    assert np.array_equal(merged.read_input(order), wanted)
    for name in ("slide", "cell", "targets", "split"):
        both = [*one.table[name], *two.table[name]]
        assert merged.table[name].tolist() == both
    assert np.array_equal(merged.read_target("100x", [20]), two.read_target("100x", [0]))
    assert merged.table["sample"].tolist() == list(range(50))


def test_appending_replaces_and_a_smaller_recipe_is_taken_over(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.zarr", "S1")
    wide = [{"label": "arm1-10"}, *FRAMES]
    two = _write(tmp_path / "b.zarr", "S2", frames=wide, recipe="mine")
    with pytest.raises(UserError, match="holds the 5 images of the recipe mine"):
        merge_datasets([one.path, two.path], one.path, overwrite=True)
    assert len(Dataset.open(one.path)) == 20
    merge_datasets([one.path, two.path], one.path, recipe="le8deg", overwrite=True)
    grown = Dataset.open(one.path)
    assert len(grown) == 40
    assert np.array_equal(grown.read_input([25]), two.read_input([5], "le8deg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_um": 0.31}, "pixels of 0.31 µm"),
        ({"targets": ("20x",)}, "its targets is 20x, that of a.zarr 20x, 100x"),
        ({"attributes": {"camera_rotation_deg": 90.0}}, "turned by 90 deg"),
        ({"attributes": {"camera_mirrored": True}}, "camera was mirrored"),
        ({"attributes": {"black_level": 20.0}}, r"reads 7.8% .* that of a.zarr 2.0%"),
        (
            {"frames": [frame | {"direction": [0.1, 0.2]} for frame in FRAMES]},
            "stands elsewhere",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    lit = [frame | {"direction": [0.2, 0.1]} for frame in FRAMES]
    one = _write(tmp_path / "a.zarr", "S1", frames=lit)
    if "attributes" in changes:
        changes = {"frames": lit} | changes
    two = _write_with(tmp_path / "b.zarr", {"frames": lit} | changes)
    with pytest.raises(UserError, match=message) as refused:
        merge_datasets([one.path, two.path], tmp_path / "c.zarr")
    assert refused.value.file == str(two.path)
    assert not (tmp_path / "c.zarr").exists()


def _write_with(path: Path, changes: dict[str, Any]) -> Dataset:
    attributes = changes.pop("attributes", None)
    data = _write(path, "S2", **changes)
    if attributes:
        group = json.loads((path / "zarr.json").read_text())
        group["attributes"]["plsctl"] |= attributes
        (path / "zarr.json").write_text(json.dumps(group))
    return data


def test_a_cell_in_two_data_sets_is_refused_and_other_light_is_said(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.zarr", "S1")
    with pytest.raises(UserError, match=r"20 cells are in two .* \(slide S1\)"):
        merge_datasets([one.path, one.path], tmp_path / "c.zarr")
    brighter = [frame | {"exposure_ms": 3.0} for frame in FRAMES]
    two = _write(tmp_path / "b.zarr", "S2", frames=brighter)
    said: list[str] = []
    merge_datasets([one.path, two.path], tmp_path / "c.zarr", notify=said.append)
    assert len(said) == 1
    assert "4 of 4 images were exposed differently from a.zarr (1.50 to 1.50" in said[0]


def test_fields_of_one_slide_that_overlap_are_on_one_side(tmp_path: Path) -> None:
    one, two = (_write(tmp_path / f"{name}.zarr", name, pixel_um=3.0) for name in ("S1", "S2"))
    rewrite_table(one, one.table.assign(split="train"))
    beside = two.table.assign(slide="S1", split="test", x_um=two.table["x_um"] + 1910.0)
    rewrite_table(two, beside.assign(y_um=one.table["y_um"].iloc[19]))
    said: list[str] = []
    merged = merge_datasets([one.path, two.path], tmp_path / "c.zarr", notify=said.append)
    assert merged.table["split"].tolist() == ["train"] * 19 + [""] + ["test"] * 20
    assert said == ["1 sample is in no split any more: crops of another split overlap."]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    with pytest.raises(SystemExit) as stopped:
        app(["dataset", *arguments, "--json"])
    return int(str(stopped.value.code or 0)), json.loads(capsys.readouterr().out)


def test_commands_merge_divide_and_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(_write(tmp_path / f"{name}.zarr", name).path) for name in ("S1", "S2", "S3")]
    out = str(tmp_path / "all.zarr")
    assert _run(capsys, "merge", *paths[:2], "-o", out, "--split", "8:1:1")[0] == 0
    code, found = _run(capsys, "append", out, paths[2])
    assert (code, found["samples"]) == (0, 60)
    labels = tmp_path / "types.csv"
    labels.write_text("slide,cell,type,seen by\nS1,1,neutrophil,A. B.\nS3,2,basophil,C.\nS9,1,x,\n")
    code, found = _run(capsys, "label", out, str(labels))
    assert (code, found["labelled"], found["unused"]) == (0, 2, 1)
    table = Dataset.open(out).table
    assert table.loc[table["type"] != "", "type"].tolist() == ["neutrophil", "basophil"]
    assert table["seen by"][0] == "A. B."
    labels.write_text("slide,cell,seen by,age,stain\nS1,1,D.,43,NA\n")
    for _ in range(2):  # mended labels replace those of before, numbers too
        assert _run(capsys, "label", out, str(labels))[0] == 0
    table = Dataset.open(out).table
    assert table["seen by"][[0, 41]].tolist() == ["D.", "C."]
    assert (table["age"][0], table["stain"][0], table["stain"][1]) == ("43", "NA", "")
    assert _run(capsys, "split", out, "--seed", "5")[0] == 0
    table = Dataset.open(out).table
    half = str(tmp_path / "half.zarr")
    code, found = _run(capsys, "split", out, "--half", "-o", half)
    assert code == 0
    splits = found["splits"]
    assert isinstance(splits, dict)
    assert abs(splits["train"] - splits["none"]) <= 1
    others = table["split"] != "train"
    assert Dataset.open(half).table["split"][others].equals(table["split"][others])
    shards = [Path(path) / "input/c/0/0/0/0/0" for path in (out, half)]
    assert shards[0].samefile(shards[1])
    assert _run(capsys, "table", half, "-o", str(tmp_path / "t.tsv"))[0] == 0
    read = pd.read_csv(tmp_path / "t.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert read["type"].tolist() == table["type"].tolist()
    assert _run(capsys, "table", half, "-o", str(tmp_path / "t.xyz"))[0] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type\nx\n", "do not say which samples"),
        ("sample,type\n1,x\n1,y\n", "line 3: sample 1 is named twice"),
        ("sample,score_20x\n1,0.5\n", "the column score_20x says how"),
        ("sample,type\n99,x\n", "none of its 1 rows names a sample"),
        ("slide,x_um,y_um,type\nS1,here,1,x\n", "line 2: x_um = 'here' is not a number"),
        ("slide,x_um,y_um,type\nS1,1,nan,x\n", "line 2: y_um = 'nan' is not a number"),
        ("slide,x_um,y_um,type\nS1,1,5,2,x\n", "line 2: this row has 5 values"),
        ("sample,type\n0,x\n 0,y\n", "line 3: sample 0 is named twice"),
        ("sample,type\n\n0,x\n\n0.0,y\n", "line 5: sample 0 is named twice"),
        ("sample,type\n1,x\n2,y\n", "line 3: there is no sample 2: 2 samples are numbered from 0"),
        ("sample,type\n0.5,x\n", "line 2: sample = '0.5' is not a whole number"),
        ("sample,type\n,x\n", "line 2: sample is empty"),
        ("sample;type\n0;x\n", "line 1: the columns are parted by semicolons"),
        ('sample,type\n0,"x\n1,y\n', "line 3: this row cannot be read"),
        ("sample,keep\n0,maybe\n", "line 2: keep = 'maybe' is no decision"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused(tmp_path: Path, text: str, message: str) -> None:
    table = pd.DataFrame(
        {"sample": [0, 1], "slide": "S1", "x_um": 0.0, "y_um": 1.0, "score_20x": 0.9}
    )
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        join_labels(table, read_labels(file), file)


def test_labels_keep_their_text_on_every_rewrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _write(tmp_path / "a.zarr", "S1")
    file = tmp_path / "labels.csv"
    texts = ["007", "1e5", "0x1F", "NA", "3.10", "1_000", "true", "2024-01-05"]
    rows = "".join(f" {number}.0 , {text} ,7\n" for number, text in enumerate(texts))
    file.write_text(f"sample, tube ,age\n{rows}")
    assert _run(capsys, "label", str(data.path), str(file))[0] == 0
    assert _run(capsys, "split", str(data.path), "--split", "none")[0] == 0
    merged = merge_datasets(
        [data.path, _write(tmp_path / "b.zarr", "S2").path], tmp_path / "c.zarr"
    )
    rewrite_table(merged, merged.table)
    table = Dataset.open(tmp_path / "c.zarr").table
    assert table["tube"].tolist()[:9] == [*texts, ""]
    assert table["age"].tolist()[:9] == ["7"] * 8 + [""]
    assert pd.api.types.is_float_dtype(table["x_um"])


def test_labels_by_place_go_to_the_nearest_sample(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"sample": [0, 1, 2], "slide": ["S1", "S1", "S2"], "x_um": [0.0, 6.0, 0.0], "y_um": 1.0}
    )
    labels = pd.DataFrame(
        {"slide": "S1", "x_um": ["1.5", "5.5", "50"], "y_um": "1", "type": ["a", "b", "c"]}
    )
    joined = join_labels(table, labels, tmp_path)
    assert joined.table["type"].tolist() == ["a", "b", ""]
    assert (joined.matched, joined.unused) == (2, 1)
