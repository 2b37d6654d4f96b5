"""From a scan on the simulated microscope to a data set: what is in it, and that it repeats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.arrays import Image
from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.store.folder import ScanFolder, load_transform
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PositionRecord
from plsctl.cli.app import app
from plsctl.process.aperture.orientation_check import TableFit
from plsctl.process.building.builder import build_dataset
from plsctl.process.building.finishing import slide_notes
from plsctl.process.building.inputs import cells_for_larger_crops
from plsctl.process.cells.finder import find_cells
from plsctl.process.cells.table import read_cells, write_cells
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import SplitSettings
from plsctl.process.samples.highres_scale import HighresScale
from plsctl.process.samples.highres_targets import HighresPlaces, add_highres_targets
from plsctl.process.samples.matched_cells import match_cells
from plsctl.process.samples.settings import BuildSettings

UNDIVIDED = SplitSettings(ratios=None)


@pytest.fixture
def scan_copy(tiny_scan: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_scan, tmp_path / "scan"))


def test_samples_hold_the_crops_the_table_names(scan_copy: Path, tmp_path: Path) -> None:
    result = build_dataset([scan_copy], tmp_path / "x.zarr", split=UNDIVIDED)
    dataset = Dataset.open(result.path)
    assert result.samples == len(dataset) >= 3
    assert dataset.targets == ("20x", "100x")
    reader = ScanFolder(scan_copy).open_pass("unstained")
    row = dataset.table.iloc[0]
    frame = reader.frame(row["position"], 2)
    left, top = round(row["pixel_x"] - 31.5), round(row["pixel_y"] - 31.5)
    crop = np.moveaxis(frame[top : top + 64, left : left + 64], -1, 0)
    np.testing.assert_array_equal(dataset.read_input([0])[0, 2], crop)
    settings = BuildSettings(margin_px=6)
    wide = Dataset.open(
        build_dataset([scan_copy], tmp_path / "wide.zarr", settings, split=UNDIVIDED).path
    )
    row = wide.table.iloc[0]
    left, top = round(row["pixel_x"] - 37.5), round(row["pixel_y"] - 37.5)
    frame = reader.frame(row["position"], 2)
    crop = np.moveaxis(frame[top : top + 76, left : left + 76], -1, 0)
    np.testing.assert_array_equal(wide.read_images([0], [2], margin_px=6)[0, 0], crop)
    np.testing.assert_array_equal(wide.read_input([0])[0, 2], crop[:, 6:-6, 6:-6])
    assert wide.read_target("20x", [0]).shape[2:] == (64, 64)
    with pytest.raises(UserError, match="margin of 6 px, 7 px are wanted"):
        wide.read_images([0], [2], margin_px=7)
    low, high = (dataset.read_target(name, [0])[0].astype(float) for name in ("20x", "100x"))
    assert np.corrcoef(low[1].ravel(), high[1].ravel())[0, 1] > 0.6
    cells = pd.read_csv(scan_copy / "cells.csv")
    fates = cells["fate"].value_counts()
    assert fates["sample"] == result.samples
    assert sum(result.dropped.values()) == len(cells) - result.samples


def test_two_workers_build_what_one_builds(scan_copy: Path, tmp_path: Path) -> None:
    one = build_dataset([scan_copy], tmp_path / "one.zarr", split=UNDIVIDED)
    two = build_dataset([scan_copy], tmp_path / "two.zarr", split=UNDIVIDED, workers=2)
    files = sorted(p.relative_to(one.path) for p in one.path.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(two.path) for p in two.path.rglob("*") if p.is_file())
    for file in files:
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes(), file


def test_a_scan_for_reading_only_gives_its_data_set(
    scan_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: ScanFolder, *_: object, **options: object) -> None:
        raise OSError(30, "Read-only file system", str(folder.cells))

    monkeypatch.setattr("plsctl.process.building.finishing.write_cells", refuse)
    said: list[str] = []
    result = build_dataset([scan_copy], tmp_path / "x.zarr", split=UNDIVIDED, notify=said.append)
    assert len(Dataset.open(result.path)) == result.samples
    assert not (result.path / ".build").exists()
    assert "is not noted there" in said[-1]


def test_without_a_100x_pass_the_target_is_20x(scan_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(scan_copy / "highres.ome.zarr")
    result = build_dataset([scan_copy], tmp_path / "x.zarr", split=UNDIVIDED)
    dataset = Dataset.open(result.path)
    assert dataset.targets == ("20x",)
    assert "no_100x_image" not in result.dropped


def _shard(scan: Path, frame: str) -> Path:
    return scan / f"{frame}/0/0/0/0"


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, _flip], ids=["deleted", "a bit flipped"])
@pytest.mark.parametrize(
    "frame",
    [
        "unstained.ome.zarr/A/1/0/0/c/2",
        "unstained.ome.zarr/A/1/0/0/c/0",
        "stained.ome.zarr/A/1/0/0/c/0",
    ],
)
def test_damage_in_a_scan_is_named_and_nothing_is_built(
    scan_copy: Path, tmp_path: Path, frame: str, damage: Callable[[Path], None]
) -> None:
    shutil.rmtree(scan_copy / "highres.ome.zarr")
    damage(_shard(scan_copy, frame))
    with pytest.raises(DamagedData, match=r"of position A/1 (is missing|cannot be read)") as found:
        build_dataset([scan_copy], tmp_path / "x.zarr", split=UNDIVIDED)
    assert found.value.file == str(_shard(scan_copy, frame))
    assert not list(tmp_path.glob("x.zarr*"))


def test_the_rest_goes_on_where_it_is_asked_for(scan_copy: Path, tmp_path: Path) -> None:
    whole = build_dataset([scan_copy], tmp_path / "whole.zarr", split=UNDIVIDED)
    table = Dataset.open(whole.path).table
    _flip(_shard(scan_copy, "unstained.ome.zarr/A/1/0/0/c/3"))
    said: list[str] = []
    result = build_dataset(
        [scan_copy], tmp_path / "x.zarr", split=UNDIVIDED, skip_damaged=True, notify=said.append
    )
    assert len(result.damaged) == 1 and said[0] == f"Left out: {result.damaged[0]}"
    assert "unstained.ome.zarr/A/1/0/0/c/3/0/0/0/0" in result.damaged[0]
    rest = Dataset.open(result.path).table
    assert set(rest["position"]) == set(table["position"]) - {"A/1"}
    cells = pd.read_csv(scan_copy / "cells.csv")
    lost = (cells["position"] == "A/1").sum()
    assert (cells["fate"] == "damaged").sum() == result.dropped["damaged"] == lost > 0


def test_cells_are_found_in_the_fields_that_are_whole(
    scan_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, dict[str, object]]:
        with pytest.raises(SystemExit) as stopped:
            app(["find-cells", str(scan_copy), *arguments, "--json"])
        return int(str(stopped.value.code or 0)), json.loads(capsys.readouterr().out)

    file = _shard(scan_copy, "stained.ome.zarr/A/2/0/0/c/0")
    _flip(file)
    code, found = run()
    assert code == 2 and found["error"]["file"] == str(file)  # type: ignore[index]
    code, found = run("--skip-damaged")
    assert code == 0 and str(file) in str(found["damaged"])
    assert set(pd.read_csv(scan_copy / "cells.csv")["position"]) == {"A/1"}


def test_nothing_is_left_that_looks_whole_when_a_build_fails(
    scan_copy: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="cannot fill"):
        build_dataset([scan_copy], tmp_path / "x.zarr", split=SplitSettings(ratios=(8, 1, 1)))
    assert not (tmp_path / "x.zarr").exists()


def test_command_line_reports_and_refuses(
    scan_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, dict[str, object]]:
        with pytest.raises(SystemExit) as stopped:
            app(["build-dataset", *arguments, "--json"])
        return int(str(stopped.value.code or 0)), json.loads(capsys.readouterr().out)

    out = tmp_path / "x.zarr"
    code, result = run(str(scan_copy), "-o", str(out), "--split", "none")
    assert code == 0
    assert {"samples", "dropped", "seconds", "positions"} <= set(result)
    assert result["positions"] == 2
    code, failure = run(str(scan_copy), "-o", str(out), "--split", "none")
    assert code == 2
    assert "exists already" in str(failure["error"])
    code, failure = run(str(tmp_path / "nowhere"), "-o", str(tmp_path / "y.zarr"))
    assert code == 2
    assert "nowhere" in str(failure["error"])


def test_scans_of_another_led_array_are_refused_and_other_exposures_are_said(
    slides: Callable[[int], list[Path]], tmp_path: Path
) -> None:
    def change(scan: Path, **attributes: object) -> None:
        file = scan / "unstained.ome.zarr" / "zarr.json"
        group = json.loads(file.read_text(encoding="utf-8"))
        group["attributes"]["plsctl"]["frames"][-1] |= attributes
        file.write_text(json.dumps(group), encoding="utf-8")

    scans = slides(2)
    change(scans[1], exposure_ms=9.0)
    said: list[str] = []
    build_dataset(scans, tmp_path / "x.zarr", split=UNDIVIDED, notify=said.append)
    assert "S2: 1 of 4 images were exposed differently from S1" in said[0]
    change(scans[1], direction=[0.3, 0.3])
    with pytest.raises(UserError, match="stands elsewhere than in S1"):
        build_dataset(scans, tmp_path / "y.zarr", split=UNDIVIDED)


def test_a_damaged_cells_table_names_file_and_line(scan_copy: Path, tmp_path: Path) -> None:
    table = scan_copy / "cells.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    broken = lines[2].split(",")
    broken[2] = "here"
    table.write_text("\n".join([*lines[:2], ",".join(broken), *lines[3:]]), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        build_dataset([scan_copy], tmp_path / "x.zarr", split=UNDIVIDED)
    assert (caught.value.line, caught.value.field) == (3, "x_um")
    table.write_text("\n".join([*lines, lines[1]]), encoding="utf-8")
    with pytest.raises(UserError, match="number 1 stands there twice"):
        build_dataset([scan_copy], tmp_path / "x.zarr", split=UNDIVIDED)


@pytest.mark.parametrize(
    ("light", "blur_px", "reason"),
    [(0.8, 0.0, ""), (0.8, 1.5, "focus: the stained images are out of focus")],
)
def test_less_light_after_staining_is_right_and_a_blurred_pass_is_not(
    scan_copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    light: float,
    blur_px: float,
    reason: str,
) -> None:
    read = PassReader.brightfield

    def changed(self: PassReader, position: str) -> Image:
        image = read(self, position)
        if self.attributes.pass_name != "stained":
            return image
        image = np.clip(4 + (image - 4.0) * light, 0, 255).astype(np.uint8)
        return np.asarray(cv2.GaussianBlur(image, (0, 0), blur_px) if blur_px else image)

    monkeypatch.setattr(PassReader, "brightfield", changed)
    result = build_dataset([scan_copy], tmp_path / "x.zarr", split=UNDIVIDED)
    (slide,) = result.slides
    assert len(slide["reasons"]) == bool(reason)
    assert " ".join(slide["reasons"]).startswith(reason)
    assert bool(slide["accepted"]) is not bool(reason)


def test_cells_near_the_border_depend_on_the_crop(scan_copy: Path) -> None:
    folder = ScanFolder(scan_copy)
    few, usual, many = (find_cells(folder, crop_px=side) for side in (280, 160, 32))
    assert len(few) < len(usual) < len(many)
    for table, side in ((few, 280), (usual, 160), (many, 32)):
        room = np.minimum(table[["pixel_x", "pixel_y"]], 439 - table[["pixel_x", "pixel_y"]])
        assert room.min(axis=None) >= side / 2 + 5


def test_a_table_of_cells_for_larger_crops_is_told(scan_copy: Path) -> None:
    folder = ScanFolder(scan_copy)
    few = find_cells(folder, crop_px=128)
    assert cells_for_larger_crops(folder, 128) == []
    table = pd.concat([few] * 5, ignore_index=True)
    write_cells(folder, table.assign(cell=range(len(table))))
    (said,) = cells_for_larger_crops(folder, 32)
    assert "--crop 32" in said
    assert cells_for_larger_crops(folder, 128) == []


def test_the_next_100x_image_is_tried(scan_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ScanFolder(scan_copy)
    cells = read_cells(folder)
    name = str(cells["position"].iloc[0])
    cells = cells[cells["position"] == name]
    settings, scale = BuildSettings(), HighresScale(5.03, -0.5, 3)
    places = HighresPlaces(folder).near(cells)

    def kept(places: tuple[PositionRecord, ...]) -> int:
        samples, _ = match_cells(folder, name, cells, load_transform(folder), settings)
        return len(add_highres_targets(folder, samples, places, scale, settings)[0])

    usual = kept(places)
    assert usual
    read = PassReader.windows
    calls = []

    def fails_at_first(self: PassReader, *args: Any) -> list[Image]:
        found = list(read(self, *args))
        if self.attributes.pass_name == "highres":
            calls.append(args)
            if len(calls) % 2:
                found = [np.full_like(image, 120) for image in found]
        return found

    monkeypatch.setattr(PassReader, "windows", fails_at_first)
    # Every image twice: half of the readings show nothing.
    assert kept((*places, *places)) == usual


def test_a_nominal_scale_is_told() -> None:
    (said,) = slide_notes(HighresScale(5.0, 0.0, 0), None)
    assert "nominal one is used, 5.000 to 1" in said
    assert slide_notes(HighresScale(5.03, -0.5, 3), None) == slide_notes(None, None) == ()
    mirrored = TableFit(0.05, "mirrored", 0.01)
    assert slide_notes(None, mirrored) == (mirrored.sentence,)
