"""The writing thread: what it keeps, what it gives up, what it says; Bayer frames as they are."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.store import writer as store_writer
from plsctl.acquire.store.disk_queue import DiskQueue
from plsctl.acquire.store.images import halved
from plsctl.acquire.store.position_files import PositionFiles
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter

Raw = NDArray[np.uint8 | np.uint16]

CENTRE_UM = (10.0, 20.0, 3.0)


def attributes(frames: int, bayer: str | None = None) -> PassAttributes:
    records = tuple(
        FrameRecord(
            label=f"plate-{index}", led="plate-1", variant="", leds=(index,), exposure_ms=1.0,
            gain=1.0, brightness=1.0, direction=None, bright_field=True,
        )
        for index in range(frames)
    )  # fmt: skip
    return PassAttributes(
        slide="S1", patient=None, stain="s", pass_name="unstained", recipe="full", objective="20x",
        magnification=20, na=0.4, pixel_um=0.5, camera_rotation_deg=0.0, bayer=bayer, bit_depth=8,
        black_level=4.0, full_scale=255, frames=records, settings_hash="h",
    )  # fmt: skip


def stack(frames: int, seed: int = 0, shape: tuple[int, ...] = (90, 126)) -> Raw:
    values = np.random.default_rng(seed).integers(0, 256, (frames, *shape))
    return values.astype(np.uint8)


class SlowDisk:
    """Lets no frame pass until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        write = PositionFiles.write

        def wait_and_write(files: PositionFiles, index: int, image: Raw) -> None:
            assert self.free.wait(20)
            write(files, index, image)

        monkeypatch.setattr(PositionFiles, "write", wait_and_write)


def test_frames_come_back_in_whatever_order_they_came(tmp_path: Path) -> None:
    # 20 frames: one whole shard of lower levels and a part of the next.
    frames = stack(20)
    writer = PassWriter(tmp_path / "p.ome.zarr", attributes(20))
    position = writer.position("A/1", CENTRE_UM)
    order = np.random.default_rng(1).permutation(20)
    for index in order:
        position.write(int(index), frames[(index + 1) % 20])
    for index in order[::-1]:
        position.write(int(index), frames[index])
    position.finish({"position": {}})
    for level, size in ((0, 1), (1, 2), (2, 4)):
        plain = zarr.open_array(tmp_path / "p.ome.zarr" / "A" / "1" / "0" / str(level), mode="r")
        found = np.asarray(plain[:])[:, 0, 0].astype(float)
        blocks = frames[:, : 90 // size * size, : 126 // size * size].reshape(
            20, 90 // size, size, 126 // size, size
        )
        # Two roundings, half a count each, on the way to the second level.
        assert np.abs(found - blocks.mean(axis=(2, 4))).max() <= (0, 0.5, 1)[level]


def test_of_a_frame_taken_twice_the_second_stays(tmp_path: Path) -> None:
    for attempt in range(30):
        files = PositionFiles(tmp_path / str(attempt), 1)
        for value in range(5):
            files.write(0, np.full((240, 480), value, np.uint8))
        files.flush()
        kept = [int(level[0, 0, 0, 0, 0].read().result()) for level in files._levels]
        assert kept == [4, 4, 4]


def test_the_caller_goes_on_while_the_disk_is_slow_and_waits_for_one_position_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    writer = PassWriter(tmp_path / "p.ome.zarr", attributes(2))
    told: list[str] = []
    for name in ("A/1", "A/2"):
        position = writer.position(name, CENTRE_UM)
        for index, image in enumerate(stack(2)):
            position.write(index, image)
        position.finish_later({"position": {}}, partial(told.append, name))
    assert writer.queued_positions == 2
    assert not PassReader(tmp_path / "p.ome.zarr").names
    third = threading.Thread(target=lambda: writer.position("A/3", CENTRE_UM))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    disk.free.set()
    third.join(20)
    assert not third.is_alive()
    writer.drain()
    assert told == writer.take_finished() == PassReader(tmp_path / "p.ome.zarr").names
    assert writer.take_finished() == []


def test_waiting_images_take_no_more_memory_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    frames = stack(20)
    monkeypatch.setattr(store_writer, "QUEUED_BYTES", 5 * frames[0].nbytes)
    writer = PassWriter(tmp_path / "p.ome.zarr", attributes(20))
    position = writer.position("A/1", CENTRE_UM)

    def take() -> None:
        for index, image in enumerate(frames):
            position.write(index, image)

    camera = threading.Thread(target=take)
    camera.start()
    camera.join(0.2)
    assert camera.is_alive()
    assert writer.queue.waiting_bytes == 5 * frames[0].nbytes
    disk.free.set()
    camera.join(20)
    position.finish({"position": {}})
    reader = PassReader(tmp_path / "p.ome.zarr")
    assert all(np.array_equal(reader.raw_frame("A/1", i), frames[i]) for i in range(20))


def test_a_position_given_up_leaves_nothing_and_can_be_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    writer = PassWriter(tmp_path / "p.ome.zarr", attributes(3))
    wrong, right = stack(3, seed=1), stack(3, seed=2)
    first = writer.position("A/1", CENTRE_UM)
    for index in range(2):
        first.write(index, wrong[index])
    first.discard()
    second = writer.position("A/1", CENTRE_UM)
    disk.free.set()
    for index in range(3):
        second.write(index, right[index])
    second.finish({"position": {}})
    third = writer.position("B/1", CENTRE_UM)
    third.write(0, wrong[0])
    third.discard()
    writer.finish()
    reader = PassReader(tmp_path / "p.ome.zarr")
    assert reader.names == ["A/1"]
    assert all(np.array_equal(reader.raw_frame("A/1", i), right[i]) for i in range(3))
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.ome.zarr"]


def test_a_full_disk_is_told_at_the_next_call_and_costs_no_finished_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PassWriter(tmp_path / "p.ome.zarr", attributes(2))
    frames = stack(2)
    flush = PositionFiles.flush
    flushed: list[PositionFiles] = []

    def flush_until_full(files: PositionFiles) -> None:
        flushed.append(files)
        if len(flushed) == 2:
            raise OSError(28, "No space left on device")
        flush(files)

    monkeypatch.setattr(PositionFiles, "flush", flush_until_full)
    for name in ("A/1", "A/2"):
        position = writer.position(name, CENTRE_UM)
        for index in range(2):
            position.write(index, frames[index])
        position.finish_later({"position": {}})
    writer.settle()
    with pytest.raises(UserError, match="the disk is full; the positions finished so far are kept"):
        writer.position("A/3", CENTRE_UM)
    assert writer.take_finished() == ["A/1"]
    with pytest.raises(UserError, match="disk is full"):
        writer.finish()
    # What the disk did not take is gone, and the same pass goes on without it.
    assert not list(tmp_path.glob(".p.ome.zarr.writing/*"))
    resumed = PassWriter(tmp_path / "p.ome.zarr", attributes(2))
    assert resumed.wells == PassReader(tmp_path / "p.ome.zarr").names == ["A/1"]
    assert not PassReader(tmp_path / "p.ome.zarr").attributes.finished


def test_after_a_failed_job_only_clearing_is_done() -> None:
    done: list[str] = []
    queue = DiskQueue(10)

    def fail() -> None:
        raise OSError("no")

    queue.put(lambda: done.append("before"), 20)
    queue.put(fail)
    queue.settle()
    with pytest.raises(OSError, match="no"):
        queue.put(lambda: done.append("after"))
    queue.put_clearing(lambda: done.append("clearing"))
    with pytest.raises(OSError, match="no"):
        queue.drain()
    assert done == ["before", "clearing"]
    assert queue.waiting_bytes == 0


SITES = {"R": 0, "G": 1, "B": 2}


@pytest.mark.parametrize("bayer", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_a_mosaic_is_stored_raw_and_developed_on_reading(tmp_path: Path, bayer: str) -> None:
    # A scene as smooth as a camera behind a lens sees it, seen through each pixel's own filter.
    y, x = np.mgrid[:60, :84]
    scene = np.stack([90 + 60 * np.sin(x / 19 + k) + 40 * np.cos(y / 17 - k) for k in range(3)], -1)
    mosaic = np.empty((60, 84), np.uint8)
    for site, letter in enumerate(bayer):
        row, column = divmod(site, 2)
        part = scene[row::2, column::2, SITES[letter]]
        mosaic[row::2, column::2] = np.rint(part).clip(0, 255)
    writer = PassWriter(tmp_path / "p.ome.zarr", attributes(1, bayer))
    position = writer.position("A/1", CENTRE_UM)
    position.write(0, mosaic)
    position.finish({"position": {}})
    reader = PassReader(tmp_path / "p.ome.zarr")
    assert np.array_equal(reader.raw_frame("A/1", 0), mosaic)
    image = tmp_path / "p.ome.zarr" / "A" / "1" / "0"
    levels = [zarr.open_array(image / str(level), mode="r") for level in range(3)]
    assert [level.shape for level in levels] == [
        (1, 1, 1, 60, 84), (1, 1, 1, 30, 42), (1, 1, 1, 15, 21),
    ]  # fmt: skip
    metadata = json.loads((image / "zarr.json").read_text())["attributes"]
    assert metadata["ome"]["omero"]["channels"][0]["label"] == f"raw {bayer} mosaic"
    # A pixel of the half level is the mean of one superpixel: red, two greens and blue.
    superpixels = mosaic.astype(float).reshape(30, 2, 42, 2).mean(axis=(1, 3))
    assert np.abs(np.asarray(levels[1][0, 0, 0]) - superpixels).max() <= 0.5
    developed = reader.frame("A/1", 0).astype(float)
    inside = np.abs(developed - scene)[2:-2, 2:-2]
    assert inside.mean() < 1.0
    assert inside.max() < 6.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_lower_level_holds_means_with_halves_rounded_up(dtype: type[np.generic]) -> None:
    image = np.array([[0, 1, 3, 4, 9], [0, 1, 4, 4, 9], [9, 9, 9, 9, 9]], dtype)
    np.testing.assert_array_equal(halved(image), [[1, 4]])  # of 0.5 and 3.75
