"""The writers that `benchmarks/acquire/storage.py` compares, each behind the same few calls."""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorstore
from numpy.typing import NDArray

from plsctl.acquire.capture.frame_checks import FrameMetadata, measure
from plsctl.acquire.store.position_files import WRITES_IN_FLIGHT
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter, PositionWriter

Frame = NDArray[np.uint8]

FRAMES = 74
"""Frames of a position: the recipe `full`."""

ROW_LENGTH = 100
"""Positions in a row of the plate."""

BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": 1}


class Writer(Protocol):
    """Takes numbered frames; number n is frame n mod 74 of position n div 74."""

    def write(self, number: int, image: Frame) -> None:
        """Take a frame over."""

    @property
    def waiting(self) -> int:
        """Frames taken over and not yet handed to the library that writes them."""

    @property
    def acknowledged(self) -> int:
        """Frames the writer has promised to keep."""

    def close(self) -> None:
        """Wait until everything is on the disk."""


class Nothing:
    """Forgets every frame: what the producer alone costs."""

    waiting = 0
    acknowledged = 0

    def __init__(self, folder: Path, shape: tuple[int, int], positions: int) -> None:
        """Write nothing."""

    def write(self, number: int, image: Frame) -> None:
        """Forget a frame."""

    def close(self) -> None:
        """Nothing is left to do."""


class Plsctl:
    """A pass as the engine writes it: measured, in three levels, checksums and metadata noted."""

    def __init__(self, folder: Path, shape: tuple[int, int], positions: int) -> None:
        self._shape = shape
        self._pass = PassWriter(folder / "pass.ome.zarr", _attributes())
        self._position: PositionWriter | None = None
        self._metadata: list[FrameMetadata] = []
        self._finished = 0

    def write(self, number: int, image: Frame) -> None:
        """Measure a frame and hand it to the disk thread."""
        well, index = divmod(number, FRAMES)
        if index == 0:
            self._position = self._pass.position(_well_name(well), (0.0, 0.0, 0.0))
            self._metadata = []
        assert self._position is not None
        self._metadata.append(measure(image, self._pass.attributes, 1, 0.0))
        self._position.write(index, image)
        if index == FRAMES - 1:
            frames = [one.as_dict() for one in self._metadata]
            self._position.finish_later({"frames": frames})

    @property
    def waiting(self) -> int:
        """Frames in the queue of the disk thread."""
        height, width = self._shape
        return self._pass.queue.waiting_bytes // (height * width)

    @property
    def acknowledged(self) -> int:
        """Frames of the positions that are in the plate."""
        self._finished += len(self._pass.take_finished())
        return self._finished * FRAMES

    def close(self) -> None:
        """Wait for the disk; a position that is not whole is given up."""
        self._pass.finish()


class InThread:
    """Gives frames to a library in a thread of its own, as `plsctl` has one inside.

    Two positions may wait, as with `plsctl`.

    Parameters
    ----------
    append
        Gives one frame to the library and returns how many it has acknowledged by then.
    close
        Ends the library's work.
    """

    def __init__(self, append: Callable[[int, Frame], int], close: Callable[[], object]) -> None:
        self._append = append
        self._close = close
        self._frames: queue.Queue[tuple[int, Frame] | None] = queue.Queue(2 * FRAMES)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.acknowledged = 0

    def _run(self) -> None:
        while (item := self._frames.get()) is not None:
            self.acknowledged = self._append(*item)

    def write(self, number: int, image: Frame) -> None:
        """Queue a frame."""
        self._frames.put((number, image))

    @property
    def waiting(self) -> int:
        """Frames in the queue."""
        return self._frames.qsize()

    def close(self) -> None:
        """Wait for the thread and the library."""
        self._frames.put(None)
        self._thread.join()
        self._close()


def bare_tensorstore(folder: Path, shape: tuple[int, int], positions: int) -> Writer:
    """One array a position, one chunk a frame, lz4; full resolution, no metadata but zarr's."""
    arrays: list[tensorstore.TensorStore] = []
    pending: deque[tensorstore.WriteFutures] = deque()
    awaited = 0

    def wait_for(left: int) -> None:
        nonlocal awaited
        while len(pending) > left:
            pending.popleft().result()
            awaited += 1

    def append(number: int, image: Frame) -> int:
        position, index = divmod(number, FRAMES)
        if index == 0:
            arrays.append(_plain_array(folder / f"{position:05d}", shape))
        pending.append(
            arrays[position][index].write(image, can_reference_source_data_indefinitely=True)
        )
        wait_for(WRITES_IN_FLIGHT)
        return awaited

    return InThread(append, lambda: wait_for(0))


def _plain_array(path: Path, shape: tuple[int, int]) -> tensorstore.TensorStore:
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": {
            "shape": [FRAMES, *shape],
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *shape]}},
            "codecs": [{"name": "bytes"}, {"name": "blosc", "configuration": BLOSC}],
        },
    }
    return tensorstore.open(spec, create=True).result()


def acquire_zarr(folder: Path, shape: tuple[int, int], positions: int) -> Writer:
    """One array a position, one chunk a frame, lz4; full resolution."""
    import acquire_zarr as az

    compression = az.CompressionSettings(
        compressor=az.Compressor.BLOSC1, codec=az.CompressionCodec.BLOSC_LZ4, level=5, shuffle=2
    )
    kinds = (az.DimensionType.OTHER, az.DimensionType.SPACE, az.DimensionType.SPACE)

    def array(position: int) -> Any:
        dimensions = [
            az.Dimension(
                name=name,
                kind=kind,
                array_size_px=size,
                chunk_size_px=1 if name == "led" else size,
                shard_size_chunks=1,
            )
            for name, kind, size in zip(("led", "y", "x"), kinds, (FRAMES, *shape), strict=True)
        ]
        return az.ArraySettings(
            output_key=f"{position:05d}",
            dimensions=dimensions,
            data_type=np.uint8,
            compression=compression,
        )

    arrays = [array(position) for position in range(positions)]
    stream = az.ZarrStream(az.StreamSettings(store_path=str(folder / "a.zarr"), arrays=arrays))

    def append(number: int, image: Frame) -> int:
        stream.append(image, key=f"{number // FRAMES:05d}")
        return number + 1

    return InThread(append, stream.close)


def ome_writers(folder: Path, shape: tuple[int, int], positions: int) -> Writer:
    """Its default backend (tensorstore), one array a position, lz4; full resolution."""
    import ome_writers as omew

    names = [f"{position:05d}" for position in range(positions)]
    height, width = shape
    dimensions = [
        omew.Dimension(name="p", type="position", coords=names),
        omew.Dimension(name="t", count=FRAMES, chunk_size=1, type="time"),
        omew.Dimension(name="y", count=height, chunk_size=height, type="space"),
        omew.Dimension(name="x", count=width, chunk_size=width, type="space"),
    ]
    settings = omew.AcquisitionSettings(
        root_path=str(folder / "o.ome.zarr"),
        dimensions=dimensions,
        dtype="uint8",
        compression="blosc-lz4",
        format="ome-zarr",
    )
    stream = omew.create_stream(settings)

    def append(number: int, image: Frame) -> int:
        stream.append(image)
        return number + 1

    return InThread(append, stream.close)


WRITERS: dict[str, Callable[[Path, tuple[int, int], int], Writer]] = {
    "nothing": Nothing,
    "plsctl": Plsctl,
    "tensorstore": bare_tensorstore,
    "acquire-zarr": acquire_zarr,
    "ome-writers": ome_writers,
}

_PACKAGES = {"acquire-zarr": "acquire_zarr", "ome-writers": "ome_writers"}

_ARRAYS: dict[str, Callable[[int], str]] = {
    "plsctl": lambda position: f"pass.ome.zarr/{_well_name(position)}/0/0",
    "tensorstore": lambda position: f"{position:05d}",
    "acquire-zarr": lambda position: f"a.zarr/{position:05d}",
    "ome-writers": lambda position: f"o.ome.zarr/{position:05d}/0",
}


def is_missing(name: str) -> bool:
    """Whether the package a writer needs is not installed."""
    package = _PACKAGES.get(name)
    return package is not None and importlib.util.find_spec(package) is None


def read_back(name: str, folder: Path, number: int) -> Frame | None:
    """Frame `number` as it lies on the disk; None when it cannot be read."""
    position, index = divmod(number, FRAMES)
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder / _ARRAYS[name](position))},
    }
    try:
        array = tensorstore.open(spec, open=True, read=True).result()
        return np.asarray(array[index].read().result()).squeeze()
    except (ValueError, OSError):
        return None


def _well_name(position: int) -> str:
    row, column = divmod(position, ROW_LENGTH)
    return f"{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[row]}/{column + 1}"


def _attributes() -> PassAttributes:
    frames = tuple(
        FrameRecord(
            label=f"frame-{index}",
            led="plate-1",
            variant="",
            leds=(index,),
            exposure_ms=5.0,
            gain=1.0,
            brightness=1.0,
            direction=(0.1, 0.1),
            bright_field=False,
        )
        for index in range(FRAMES)
    )
    return PassAttributes(
        slide="S1",
        patient=None,
        stain="none",
        pass_name="unstained",
        recipe="full",
        objective="20x",
        magnification=20,
        na=0.4,
        pixel_um=0.293,
        camera_rotation_deg=0.0,
        bayer="RGGB",
        bit_depth=8,
        black_level=4.0,
        full_scale=255,
        frames=frames,
        settings_hash="benchmark",
    )
