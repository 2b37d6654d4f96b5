"""The files of one position while it is written: one shard a frame, lower levels beside them."""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from pathlib import Path

import numpy as np
import tensorstore
from numpy.typing import NDArray

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.errors import PlsctlError
from plsctl.acquire.store.images import halved
from plsctl.acquire.store.ome_zarr import LEVELS, create_array

Planes = NDArray[np.uint8 | np.uint16]

WRITES_IN_FLIGHT = 8
"""Frames under way to the disk at once; more would only hide a disk that is too slow."""

LOWER_FRAMES_PER_SHARD = 16
"""A file costs as much time as the lower levels of a frame: several frames share one."""


class PositionFiles:
    """Writes frames in any order, each as often as need be; the last one given stays."""

    def __init__(self, folder: Path, frames: int) -> None:
        self._folder = folder
        self._frames = frames
        self._levels: list[tensorstore.TensorStore] = []
        self._pending: deque[tensorstore.WriteFutures] = deque()
        self._sent: set[int] = set()
        # Lower levels of frames whose shard is not yet complete: shard -> frame -> levels.
        self._lower: dict[int, dict[int, list[Planes]]] = {}
        self._shape: tuple[int, int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, channel) of the frames."""
        if self._shape is None:
            raise PlsctlError(f"{self._folder.name} was finished without a frame.")
        return self._shape

    def write(self, index: int, image: RawImage) -> None:
        """Send one frame, (y, x, rgb) or (y, x), to the disk; returns while it is under way."""
        if not self._levels:
            self._create(image)
        if index in self._sent:
            self._settle()  # of two writes under way to one place, either may come last
        self._sent.add(index)
        self._send(self._levels[0][index, :, 0], _planes(image))
        shard, lower = index // LOWER_FRAMES_PER_SHARD, []
        for _ in range(1, LEVELS):
            image = halved(image)
            lower.append(_planes(image))
        frames = self._lower.setdefault(shard, {})
        frames[index] = lower
        first = shard * LOWER_FRAMES_PER_SHARD
        if len(frames) == min(LOWER_FRAMES_PER_SHARD, self._frames - first):
            self._send_lower(shard)

    def flush(self) -> None:
        """Wait until every frame is on the disk; a full or broken disk is an error only here."""
        for shard in list(self._lower):
            self._send_lower(shard)
        self._settle()

    def remove(self) -> None:
        """Delete everything of the position."""
        # Writes under way hold on to images; they must end before the interpreter may.
        while self._pending:
            with contextlib.suppress(ValueError, OSError):
                self._pending.popleft().result()
        self._levels.clear()
        self._lower.clear()
        self._sent.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _create(self, image: RawImage) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        height, width = image.shape[:2]
        channels = image.shape[2] if image.ndim == 3 else 1
        self._shape = (height, width, channels)
        for level in range(LEVELS):
            shape = (self._frames, channels, 1, height >> level, width >> level)
            together = 1 if level == 0 else min(LOWER_FRAMES_PER_SHARD, self._frames)
            folder = self._folder / "0" / str(level)
            self._levels.append(create_array(folder, shape, image.dtype, together))

    def _settle(self) -> None:
        while self._pending:
            self._pending.popleft().result()

    def _send(self, place: tensorstore.TensorStore, planes: Planes) -> None:
        self._pending.append(place.write(planes, can_reference_source_data_indefinitely=True))
        while len(self._pending) > WRITES_IN_FLIGHT:
            self._pending.popleft().result()

    def _send_lower(self, shard: int) -> None:
        frames = self._lower.pop(shard)
        indices = sorted(frames)
        for level in range(1, LEVELS):
            stack = np.stack([frames[index][level - 1] for index in indices])
            whole = indices == list(range(indices[0], indices[-1] + 1))
            where = slice(indices[0], indices[-1] + 1) if whole else indices
            self._send(self._levels[level][where, :, 0], stack)


def _planes(image: RawImage) -> Planes:
    """(y, x, rgb) or (y, x) as (channel, y, x)."""
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
