"""Training with learned optics: it sees what flat optics cannot, resumes, sweeps, and refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from plsctl.acquire.errors import UserError
from plsctl.cli.app import app
from plsctl.models.learned_optics.fixed_filter import FixedFilter
from plsctl.models.learned_optics.labelled_images import open_images
from plsctl.models.learned_optics.readers import READERS
from plsctl.models.learned_optics.settings import NETWORKS, optics_run
from plsctl.models.learned_optics.task import middle, turned
from plsctl.models.learned_optics.train import scores_of, train_optics
from plsctl.process.dataset.reader import Dataset
from plsctl.process.image_files import write_image

SIDE_PX = 34

QUICK = {
    "batch": 16, "blur_px": 9, "crop_px": 24, "device": "cpu", "precision": "float32",
    "learning_rate": 1e-2, "rotation_deg": 10.0,
}  # fmt: skip


def write_cells(folder: Path, count: int, seed: int = 0) -> Path:
    """Reddish and greenish discs of the same brightness: in flat grey light they are the same."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2
    for name, colour in (("reddish", (190, 30, 110)), ("greenish", (30, 190, 110))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            inside = np.hypot(*(np.stack([y, x]) + rng.uniform(-3, 3, (2, 1, 1)))) < 8
            image = np.where(inside[..., None], colour, 200) + rng.normal(0, 3, (*y.shape, 1))
            write_image(folder / name / f"{number}.png", image.round().astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells"), 40)


def test_learned_optics_tell_apart_what_flat_optics_cannot(cells: Path, tmp_path: Path) -> None:
    both = {}
    for optics in ("frozen", "learned"):
        config = optics_run(
            QUICK | {"data": cells, "out": tmp_path / optics, "optics": optics, "pooling": 2,
                     "epochs": 6, "batch": 8, "learning_rate": 2e-2, "validation_share": 0.4}
        )  # fmt: skip
        result = train_optics(config)
        assert result is not None
        both[optics] = result.scores
    assert both["learned"]["accuracy"]["mean"] > 0.9
    assert both["frozen"]["accuracy"]["mean"] < 0.75
    assert both["frozen"]["channel_weights"] == pytest.approx([1 / 3] * 3)
    red, green, _ = both["learned"]["channel_weights"]
    assert abs(red - green) > 0.02
    folder = tmp_path / "learned"
    assert json.loads((folder / "result.json").read_text()) == both["learned"]
    folded = FixedFilter.load(folder / "filter.npz")
    assert folded.pooling == 2
    assert folded.weights == pytest.approx(both["learned"]["channel_weights"])
    for name in ("blur.png", "layer.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on_with_the_same_curve(cells: Path, tmp_path: Path) -> None:
    def curve(out: str) -> list[list[str]]:
        lines = (tmp_path / out / "curve.csv").read_text().splitlines()
        return [line.split(",")[:-1] for line in lines]  # without the seconds

    given = QUICK | {"data": cells, "steps": None}
    train_optics(optics_run(given | {"out": tmp_path / "whole", "epochs": 2}))
    train_optics(optics_run(given | {"out": tmp_path / "parts", "epochs": 1}))
    train_optics(optics_run(given | {"out": tmp_path / "parts", "epochs": 2}))
    assert len(curve("whole")) == 3
    assert curve("parts") == curve("whole")
    with pytest.raises(UserError, match="begun with pooling = 1, now it is 2"):
        train_optics(optics_run(given | {"out": tmp_path / "parts", "pooling": 2}))


def test_a_sweep_from_its_file(cells: Path, tmp_path: Path) -> None:
    lines = [f"{name}: {value}" for name, value in QUICK.items()]
    lines += ["model: learned-optics", f"data: {cells}", "out: sweep", "epochs: 1"]
    lines += ["sweep: [{pooling: 1, optics: frozen}, {pooling: 3}]"]
    (tmp_path / "sweep.yaml").write_text("\n".join(lines))
    result = CliRunner().invoke(app, ["train", str(tmp_path / "sweep.yaml"), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert [run["optics"] for run in told["runs"]] == ["frozen", "learned"]
    assert "drawn at random" in result.output
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["pooling"], row["pixels"]) for row in rows] == [("1", "576"), ("3", "64")]
    for row, name in zip(rows, ("pooling-1-frozen", "pooling-3"), strict=True):
        scores = json.loads((tmp_path / "sweep" / name / "result.json").read_text())
        assert float(row["accuracy"]) == scores["accuracy"]["mean"]


def test_images_of_a_folder_are_divided_by_type_or_as_they_lie(cells: Path, tmp_path: Path) -> None:
    data = open_images(optics_run(QUICK | {"data": cells, "out": tmp_path / "x"}))
    assert data.types == ("greenish", "reddish") and data.drawn
    assert np.bincount(data.train.labels).tolist() == [32, 32]
    assert np.bincount(data.validation.labels).tolist() == [8, 8]
    images = data.train.read(np.array([0, 63]))
    assert images.shape == (2, 3, data.side_px, data.side_px)
    middle_px = images[:, :2, 12:16, 12:16].mean(axis=(2, 3))
    assert middle_px[0, 1] > middle_px[0, 0] + 20 and middle_px[1, 0] > middle_px[1, 1] + 20
    write_cells(tmp_path / "own" / "train", 4)
    write_cells(tmp_path / "own" / "validation", 2)
    own = open_images(optics_run(QUICK | {"data": tmp_path / "own", "out": tmp_path / "x"}))
    assert (len(own.train), len(own.validation), own.drawn) == (8, 4, False)


def test_images_of_a_data_set_are_its_stained_cells(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_dataset(tmp_path / "cells.zarr", count=60)
    data = Dataset.open(path)
    config = optics_run({"data": path, "out": tmp_path / "x", "blur_px": 9})
    with pytest.raises(UserError, match="needs 2 types of cells"):
        open_images(config)
    names = np.where(np.arange(60) % 3 == 0, "one", "other")
    (path / "samples.csv").write_text(data.table.assign(type=names).to_csv(index=False))
    found = open_images(config)
    assert found.types == ("one", "other")
    assert found.side_px == found.crop_px == data.crop_px
    numbers = data.split("validation")
    assert found.validation.labels.tolist() == (numbers % 3 != 0).astype(int).tolist()
    stained = data.read_target("20x", numbers)
    assert np.array_equal(found.validation.read(np.array([2, 0])), stained[[2, 0]])


def test_turning_is_that_of_theory() -> None:
    images = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8)
    flips = np.array([[0, 0], [1, 0], [0, 1]])
    plain = middle(images, 12)
    assert torch.equal(turned(images, np.zeros(3), np.zeros((3, 2), int), 12), plain)
    mirrored = turned(images, np.zeros(3), flips, 12)
    expected = torch.stack([plain[0], plain[1].flip(-1), plain[2].flip(-2)])
    assert torch.allclose(mirrored, expected, atol=1e-4)
    quarter = turned(images, np.full(3, 90.0), np.zeros((3, 2), int), 12)
    assert torch.allclose(quarter, torch.rot90(plain, 1, (-2, -1)), atol=1e-4)


def test_scores_of_hand_worked_readings() -> None:
    scores = scores_of(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 2]), ("a", "b", "c"))
    assert scores["confusion"] == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert scores["accuracy"]["mean"] == pytest.approx(4 / 6)
    assert scores["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_every_network_that_settings_know_is_there() -> None:
    assert tuple(READERS) == NETWORKS
    for make in READERS.values():
        assert make(5)(torch.rand(2, 1, 33, 33)).shape == (2, 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pooling": 7}, "at most 6"),
        ({"blur_px": 8}, "odd number"),
        ({"network": "large"}, "no such network"),
        ({"blocks": 3}, "no setting --blocks"),
        ({"order": "add_then_blur", "blur_each": True}, "have one blur"),
        ({"crop_px": 99}, "Set crop_px: 34 or less"),
        ({"blur_px": 63}, "Set blur_px: 47 or less"),
        ({"data": "nowhere"}, "a folder of images for each type"),
    ],
)
def test_what_is_refused(
    cells: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        open_images(optics_run(QUICK | {"data": cells, "out": tmp_path / "x"} | change))
    assert words in f"{caught.value} {caught.value.hint}"


def test_options_of_another_model_are_refused() -> None:
    result = CliRunner().invoke(
        app, ["train", "fast", "--data", "a", "--out", "b", "--pooling", "2"]
    )
    assert result.exit_code == 2
    assert "an option of learned-optics" in result.output
