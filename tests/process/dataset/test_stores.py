"""Scans and data sets in an object store: a real S3 server on this machine's loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location
from plsctl.process.building.builder import build_dataset
from plsctl.process.dataset.merge import merge_datasets
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.rewrite import redivide
from plsctl.process.dataset.splits import SplitSettings
from plsctl.process.dataset.writer import DatasetWriter

pytest.importorskip("upath", reason="the extra `stores` is not installed")
s3fs = pytest.importorskip("s3fs", reason="the extra `stores` is not installed")
server = pytest.importorskip("moto.server", reason="moto is not installed")
UNDIVIDED = SplitSettings(ratios=None)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket; credentials and address are where Amazon's own tools look for them."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            environment.setenv(name, value)
        s3fs.S3FileSystem().mkdir("lab")
        yield "s3://lab"
    running.stop()


def test_a_scan_in_a_store_gives_the_data_set_of_a_local_one(
    bucket: str,
    slides: Callable[[int], list[Path]],
    contents: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (scan,) = slides(1)
    s3fs.S3FileSystem().put(str(scan), "lab/S1", recursive=True)
    build_dataset([scan], tmp_path / "here.zarr", split=UNDIVIDED)
    build_dataset([location(f"{bucket}/S1")], tmp_path / "there.zarr", split=UNDIVIDED)
    assert contents(tmp_path / "here.zarr") == contents(tmp_path / "there.zarr")
    noted = location(f"{bucket}/S1") / "cells.csv"
    assert noted.read_text() == (scan / "cells.csv").read_text()
    # And written into a store, where it takes nothing of the current folder.
    build_dataset([scan], location(f"{bucket}/wbc.zarr"), split=UNDIVIDED)
    s3fs.S3FileSystem().get("lab/wbc.zarr", str(tmp_path / "back.zarr"), recursive=True)
    assert contents(tmp_path / "here.zarr") == contents(tmp_path / "back.zarr")
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(UserError, match=r"s3://lab/wbc\.zarr exists already"):
        build_dataset([scan], location(f"{bucket}/wbc.zarr"), split=UNDIVIDED)


def _write(path: str, slide: str) -> np.ndarray:
    rng = np.random.default_rng(len(slide))
    stacks = rng.integers(0, 256, (6, 2, 3, 8, 8), dtype=np.uint8)
    rows = pd.DataFrame({"slide": slide, "x_um": range(0, 600, 100), "y_um": 0.0, "split": "train"})
    frames = [{"label": "brightfield"}, {"label": "plate-1"}]
    with DatasetWriter(path, frames, recipe="mine", pixel_um=0.3, crop_px=8, shard=4) as writer:
        writer.append(stacks, {"20x": stacks[:, 0]}, rows)
        writer.finish()
    return stacks


def test_data_sets_in_a_store_are_read_merged_divided_and_replaced(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = _write(f"{bucket}/a.zarr", "S1"), _write(str(tmp_path / "b.zarr"), "S22")
    data = Dataset.open(f"{bucket}/a.zarr")
    assert np.array_equal(data.group["input"][0], data.read_input([0])[0])
    assert np.array_equal(data.read_input([5, 0]), one[[5, 0]])
    assert np.array_equal(data.read_target("20x", [3]), one[[3], 0])
    assert len(Dataset.open(Path(f"{bucket}/a.zarr"))) == 6  # a Path takes a slash from the URL
    merged = merge_datasets([data.path, tmp_path / "b.zarr"], data.path, overwrite=True)
    assert str(merged.path) == f"{bucket}/a.zarr"
    assert np.array_equal(merged.read_input([0, 11]), np.stack([one[0], two[5]]))
    divided = redivide(merged, lambda table: table["slide"].map({"S1": "train", "S22": "test"}))
    assert divided.split("test").tolist() == list(range(6, 12))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zarr"]


def test_what_is_not_whole_or_not_there_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(f"{bucket}/half.zarr", "S1")
    (location(f"{bucket}/half.zarr") / "zarr.json").unlink()
    for name in ("half.zarr", "none.zarr"):
        with pytest.raises(UserError, match=r"not a plsctl data set|no data set at"):
            Dataset.open(f"{bucket}/{name}")
    with pytest.raises(UserError, match="does not exist"):
        build_dataset([location(f"{bucket}/nothing")], tmp_path / "x.zarr")
