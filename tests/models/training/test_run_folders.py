"""A run folder keeps one run of one data set, and no cell judges a run that has seen it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import locked
from plsctl.models.data.seen_samples import met_by_place, require_unseen
from plsctl.models.runs.anew import ASIDE
from plsctl.models.runs.config import TrainingConfig, config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining import preparation
from plsctl.models.staining.train import train
from plsctl.process.dataset.format import array_spec
from plsctl.process.dataset.merge import merge_datasets
from plsctl.process.dataset.reader import Dataset

pytestmark = pytest.mark.usefixtures("undrawn")


def _config(data: Path, out: Path, model: str = "maenet", **changes: Any) -> TrainingConfig:
    options = {
        "data": data, "out": out, "blocks": 1, "growth": 2, "width": 4, "batch": 48, "epochs": 1,
        "device": "cpu", "precision": "float32", "memory_format": "contiguous",
    }  # fmt: skip
    return config_from_options(model, options | changes)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run beside a copy of its data set."""
    folder = tmp_path_factory.mktemp("run")
    data = Path(shutil.copytree(dataset, folder / "blobs.zarr"))
    train(_config(data, folder / "r", "maepnet"))
    return folder / "r"


@pytest.fixture
def kept(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that may be spoilt, beside its data set."""
    shutil.copytree(run.parent, tmp_path / "w")
    return tmp_path / "w" / "r"


def _content(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _linked(run: Path) -> Path:
    (run.parent / "link").symlink_to(run)
    return run.parent / "link"


@pytest.mark.parametrize(
    "spelt",
    [lambda run: run, lambda run: run.parent / "none" / ".." / "r", _linked],
    ids=["the same", "by a detour", "by a link"],
)
@pytest.mark.parametrize("fresh", [True, False])
def test_a_run_that_starts_from_itself_is_not_touched(
    kept: Path, spelt: Callable[[Path], Path], fresh: bool
) -> None:
    before = _content(kept)
    config = _config(kept.parent / "blobs.zarr", kept, from_run=kept)
    config = config.model_copy(update={"from_run": spelt(kept)})
    with pytest.raises(UserError, match="cannot start from itself"):
        train(config, fresh=fresh)
    assert _content(kept) == before


@pytest.mark.parametrize("what", ["--data", "--from", "another run"])
def test_what_lies_in_a_folder_is_not_thrown_away_with_it(kept: Path, what: str) -> None:
    data, start = kept.parent / "blobs.zarr", None
    if what == "--data":
        data = Path(shutil.copytree(data, kept / "blobs.zarr"))
    else:
        shutil.copytree(kept, kept.parent / "inner")
        start = Path(shutil.move(kept.parent / "inner", kept))
    before = _content(kept)
    config = _config(data, kept, from_run=start if what == "--from" else None)
    with pytest.raises(UserError, match=f"fresh would throw away.*{what}"):
        train(config, fresh=True)
    assert _content(kept) == before


def test_the_old_run_goes_when_the_new_one_has_its_facts(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, before = _config(kept.parent / "blobs.zarr", kept, "maepfnet"), _content(kept)

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "make_features", fails)
    with pytest.raises(KeyboardInterrupt):
        train(config, fresh=True)
    assert _content(kept) == before
    # Killed there, nothing could be put back.
    monkeypatch.setattr("plsctl.models.runs.anew.settle", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        train(config, fresh=True)
    monkeypatch.undo()
    with pytest.raises(UserError, match="was being begun anew"):
        Run.open(kept)
    old = _config(kept.parent / "blobs.zarr", kept, "maepnet")
    assert train(old).epochs == 1
    assert _content(kept).keys() == before.keys()
    train(config, fresh=True)
    assert Run.open(kept).metadata.model == "maepfnet" and not (kept / ASIDE).exists()


def test_a_folder_has_one_trainer(kept: Path) -> None:
    with locked(kept), pytest.raises(UserError, match="another plsctl is writing"):
        train(_config(kept.parent / "blobs.zarr", kept, "maepnet", epochs=2))


def _resplit(data: Path) -> Path:
    """The splits of a data set moved on: train meets test and validation."""
    table = pd.read_csv(data / "samples.csv")
    table["split"] = np.roll(table["split"], 2)
    table.to_csv(data / "samples.csv", index=False)
    return data


def _copied(data: Path) -> Path:
    return _resplit(Path(shutil.copytree(data, data.parent / "copy.zarr")))


def _moved(data: Path) -> Path:
    return _resplit(Path(shutil.move(data, data.parent / "moved.zarr")))


def _merged(data: Path) -> Path:
    merge_datasets([data], data.parent / "merged.zarr")
    return _resplit(data.parent / "merged.zarr")


def _renamed(data: Path) -> Path:
    path = _copied(data)
    table = pd.read_csv(path / "samples.csv").assign(slide="other", x_um=0.0, y_um=0.0)
    table.to_csv(path / "samples.csv", index=False)
    return path


def _darker(data: Path) -> Path:
    """Other images of the same places."""
    path = _copied(data)
    _change(path, "target_20x")
    return path


def _change(path: Path, array: str) -> None:
    import tensorstore as ts

    store = ts.open(array_spec(path / array), write=True, read=True).result()
    store[...] = store.read().result() // 2


@pytest.mark.parametrize("moved", [_copied, _moved, _merged, _renamed, _darker])
def test_cells_that_a_run_has_seen_do_not_judge_it_wherever_they_lie(
    kept: Path, moved: Callable[[Path], Path]
) -> None:
    data = Dataset.open(moved(kept.parent / "blobs.zarr"))
    opened = Run.open(kept)
    with pytest.raises(UserError, match="has learned from 6 of the 6 test samples"):
        require_unseen(opened, data, "test", data.split("test"))
    with pytest.raises(UserError, match="has learned from 6 of the 6 validation samples"):
        train(_config(data.path, kept.parent / "next", from_run=kept))
    assert not (kept.parent / "next").exists()
    seen = require_unseen(opened, data, "train", data.split("train"))
    assert (seen.train, seen.validation, seen.known) == (36, 6, True)


def test_what_the_start_has_seen_does_not_judge_a_run(kept: Path, make_dataset: Any) -> None:
    other = make_dataset(kept.parent / "other.zarr", 40, seed=2, slide="S2")
    train(_config(other, kept.parent / "next", from_run=kept))
    run = Run.open(kept.parent / "next")
    own, old = Dataset.open(other), Dataset.open(_copied(kept.parent / "blobs.zarr"))
    assert require_unseen(run, own, "test", own.split("test")).train == 0
    with pytest.raises(UserError, match="has learned from 6 of the 6 test samples"):
        require_unseen(run, old, "test", old.split("test"))


def test_what_a_run_of_before_cannot_tell_is_said(
    kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noted = pd.read_csv(kept / "learned.csv")
    noted[["sample", "split"]].to_csv(kept / "learned.csv", index=False)
    data = Dataset.open(_copied(kept.parent / "blobs.zarr"))
    with pytest.raises(UserError, match="has learned from 6 of the 6 test samples"):
        require_unseen(Run.open(kept), data, "test", data.split("test"))
    shutil.rmtree(kept.parent / "blobs.zarr")
    text = (kept / "facts.json").read_text()
    (kept / "facts.json").write_text(text.replace("blobs.zarr", "gone.zarr"))
    assert not require_unseen(Run.open(kept), data, "test", data.split("test")).known
    assert "cannot be judged" in caplog.text


@pytest.mark.parametrize("array", ["input", "target_20x"])
def test_other_images_of_the_same_numbers_do_not_continue_a_run(kept: Path, array: str) -> None:
    data = Path(shutil.copytree(kept.parent / "blobs.zarr", kept.parent / "b.zarr"))
    config = _config(data, kept, "maepnet", epochs=2)
    assert train(config).epochs == 2  # a copy is the same data
    _change(data, array)
    before = _content(kept)
    with pytest.raises(UserError, match="was begun on other data"):
        train(config)
    assert _content(kept) == before


def test_another_perceptual_network_does_not_continue_a_run(kept: Path) -> None:
    file = kept / "perceptual.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UserError, match="another network of the perceptual loss: SHA-256"):
        train(_config(kept.parent / "blobs.zarr", kept, "maepnet", epochs=2))


def test_slides_of_one_name_meet_by_chance() -> None:
    rng = np.random.default_rng(0)

    def rows(places: np.ndarray[Any, Any]) -> pd.DataFrame:
        content = [str(value) for value in rng.random(len(places))]
        x, y = places.T
        return pd.DataFrame({"slide": "S1", "x_um": x, "y_um": y, "content": content})

    learned = rng.uniform(0, 3000, (1000, 2))
    cells = rows(learned).assign(split="train")
    foreign = rows(rng.uniform(0, 3000, (300, 2)))  # about 3 of them lie within 5 um by chance
    assert met_by_place(cells, foreign)["train"].sum() == 0
    again = rows(np.concatenate([learned[:30] + 1.5, rng.uniform(0, 3000, (270, 2))]))
    assert met_by_place(cells, again)["train"][:30].all()
