"""Random places of positions, read from all frames: samples for learning a slide's frames.

They also help to check a position that has few cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.store.ome_zarr import inner_chunk
from plsctl.acquire.store.reader import PassReader
from plsctl.process.quality.frames import FrameReference, learn_frames

Stacks = NDArray[np.uint8]

REFERENCE_POSITIONS = 6
PLACES, PLACE_PX = 12, 64
"""Number of places, their size, and the number of positions that are learnt from."""

BLOCK = 2
"""Places lie side by side in squares of so many times so many, which are read at once."""


def frames_of_pass(reader: PassReader) -> FrameReference | None:
    """Learn how the frames of an unstained pass predict each other; see `learn_frames`."""
    if len(reader.labels) < 2 or not reader.names:
        return None
    count = min(REFERENCE_POSITIONS, len(reader.names))
    chosen = np.linspace(0, len(reader.names) - 1, count).round().astype(int)
    # One after the other: the memory of each serves the next.
    tiles = (random_stacks(reader, reader.names[index], PLACES) for index in chosen)
    return learn_frames(tiles, reader.attributes.frames)


def random_stacks(reader: PassReader, position: str, count: int, side_px: int = PLACE_PX) -> Stacks:
    """Stacks at random places of a position, the same ones each time; some lie side by side.

    Returns
    -------
    Shape (place, image, rgb, y, x), uint8; smaller than `side_px` where the images are.
    """
    width, height = reader.size_px(position)
    side = min(side_px, width, height)
    rng = np.random.default_rng((reader.names.index(position), 0xF4A3))
    block = min(BLOCK, width // side, height // side)
    boxes = []
    for _ in range(-(-count // block**2)):
        left, top = (_random_start(rng, size, block * side) for size in (width, height))
        boxes.append((left, top, left + block * side, top + block * side))
    stacks = np.empty((len(boxes), block, block, len(reader.labels), 3, side, side), np.uint8)
    for index in range(len(reader.labels)):
        for area, part in zip(stacks, reader.planes(position, index, boxes), strict=True):
            places = part.reshape(3, block, side, block, side)
            area[:, :, index] = places.transpose(1, 3, 0, 2, 4)
    return stacks.reshape(-1, *stacks.shape[3:])[:count]


def _random_start(rng: np.random.Generator, size_px: int, length_px: int) -> int:
    """Where a stretch of an image begins; inside one stored tile where it fits into one."""
    tile = inner_chunk(size_px)
    if length_px > tile:
        return int(rng.integers(0, size_px - length_px + 1))
    tiles = max(1, size_px // tile)
    return int(rng.integers(tiles) * tile + rng.integers(0, tile - length_px + 1))
