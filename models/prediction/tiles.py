"""Whole frames in tiles, whatever runs the network. Imports no torch."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import UserError
from plsctl.models.runs.metadata import RunMetadata

Place = tuple[slice, slice]

TILE_SHAPE_PX = (1536, 384)
"""Rows and columns of a tile on CPUs: halos above and below cost more than they do beside."""

WIDTH_STEP_PX = 32
"""Windows are widened to a multiple of this: bfloat16 convolutions of oneDNN take up to three times
as long where it cannot divide a row, as in 539 px (docs/staining.md)."""

HALOS_PX = (8, 16, 24, 32, 48, 64, 96, 128, 192)
"""Halos that are tried, below the radius that is exact."""

TRIED_PX = 64
"""Side of the tile on which a halo is tried."""

TRIED_CORNERS = 8
"""At most so many corners of tiles on which it is tried too."""

TOLERANCE_COUNTS = 1
"""A halo is wide enough when no value of the tried window differs by more (of 255)."""


@dataclass(frozen=True)
class Halo:
    """How far tiles overlap, and the largest error this was seen to leave (of 255 counts)."""

    px: int
    error_counts: int
    exact_px: int


class FrameStainer(ABC):
    """A trained network that stains windows, and the method of staining frames with it.

    Parameters
    ----------
    metadata
        What the network was trained on.
    exact_halo_px
        How far a pixel of its output can look at most.
    alignment_px
        Multiple at which its windows must begin.
    weights_sha256
        Digest of the weights.
    origin
        The run folder or file they come from.
    least_px
        Smallest height and width of a window.
    """

    channels = 3
    """Number of output channels: the colours, and perhaps the expected error."""

    def __init__(
        self,
        metadata: RunMetadata,
        exact_halo_px: int,
        alignment_px: int,
        weights_sha256: str,
        origin: str,
        least_px: int = 1,
    ) -> None:
        self.metadata = metadata
        self.exact_halo_px = exact_halo_px
        self.alignment_px = alignment_px
        self.weights_sha256 = weights_sha256
        self.origin = origin
        self.least_px = least_px

    @property
    def identity(self) -> str:
        """Identity of the network: stained images of another one must not be mixed with its own."""
        return self.weights_sha256

    @property
    def notes(self) -> dict[str, object]:
        """Further metadata to write with the stained image."""
        return {}

    @property
    def tile_shape_px(self) -> tuple[int, int]:
        """Rows and columns of tiles that suit the device, so large that the halo costs little."""
        return TILE_SHAPE_PX

    @abstractmethod
    def stain_window(self, window: Images) -> Images:
        """8-bit channels (channels, y, x) for a window (image, y, x, 3) of a stack.

        Raises
        ------
        MemoryError
            If the window is too large.
        """

    def stain_frame(
        self,
        stack: Images,
        *,
        tile_px: int | None = None,
        halo_px: int | None = None,
        places: Iterable[Place] | None = None,
        on_tile: Callable[[], None] | None = None,
    ) -> Images:
        """The stained frame (y, x, channels) of a stack (image, y, x, 3), in tiles.

        Every tile is predicted with a halo of its surroundings, which is thrown away; at the
        frame's own border there is none. A halo of the network's receptive radius (63 px for the
        RRDB generator of 4 blocks, 123 px for 8) gives what one pass over the whole frame would
        give.

        Parameters
        ----------
        tile_px
            Largest side of a tile; None takes `tile_shape_px` of the stainer.
        halo_px
            None takes the exact radius; `measure_halo` finds a smaller one.
        places
            Rows and columns to stain instead of the whole frame; the rest stays 0.
        on_tile
            Called after each tile.

        Raises
        ------
        UserError
            If the stack has another number of images, or memory runs out.
        """
        labels = self.metadata.labels
        if stack.ndim != 4 or stack.shape[0] != len(labels) or stack.shape[3] != 3:
            raise UserError(
                f"a stack of shape {stack.shape} does not fit the run's {len(labels)} images of "
                "3 colours, (image, y, x, 3).",
                hint=f"The run takes {self.metadata.recipe}.",
            )
        halo = self.exact_halo_px if halo_px is None else halo_px
        shape = self.tile_shape_px if tile_px is None else (tile_px, tile_px)
        height, width = stack.shape[1:3]
        stained = np.zeros((height, width, self.channels), dtype=np.uint8)
        for rows, columns in tiles(height, width, shape) if places is None else places:
            try:
                tile = self._tile(stack, rows, columns, halo, WIDTH_STEP_PX)
            except MemoryError:
                raise UserError(
                    "the memory does not suffice.",
                    hint=f"Use smaller tiles than {min(shape)} px (--tile).",
                ) from None
            stained[rows, columns] = np.moveaxis(tile, 0, 2)
            if on_tile is not None:
                on_tile()
        return stained

    def _tile(
        self, stack: Images, rows: slice, columns: slice, halo: int, width_step: int = 1
    ) -> Images:
        """(3, y, x) of a tile that is predicted with its halo."""
        height, width = stack.shape[1:3]
        grid = (halo, self.alignment_px, self.least_px)
        outer_rows, inner_rows = _with_halo(rows, height, *grid)
        outer_columns, inner_columns = _with_halo(columns, width, *grid, width_step)
        window = stack[:, outer_rows, outer_columns]
        return self.stain_window(window)[:, inner_rows, inner_columns]

    def measure_halo(self, stack: Images, tile_px: int | None = None) -> Halo:
        """The smallest halo whose tiles agree with the exact ones to one count of 255.

        How far a trained network really looks is a matter of its weights; the exact radius is
        only the farthest it can. Networks that halve their images look unequally far from one place
        of their grid to the next, so several tiles are tried, at the corners of those into which
        the frame will be cut, and the next wider halo is taken.

        Parameters
        ----------
        stack
            (image, y, x, 3); where the first image has most contrast is tried.
        tile_px
            As for `stain_frame`.
        """
        tried = self._tried(stack, tile_px)
        wanted = [self._tile(stack, *place, self.exact_halo_px) for place in tried]

        @cache
        def error_of(halo: int) -> int:
            error = 0
            for place, exact in zip(tried, wanted, strict=True):
                error = max(error, _largest_difference(self._tile(stack, *place, halo), exact))
                if error > TOLERANCE_COUNTS:
                    break
            return error

        halos = [halo for halo in HALOS_PX if halo < self.exact_halo_px]
        enough = next(
            (place for place, halo in enumerate(halos) if error_of(halo) <= TOLERANCE_COUNTS), None
        )
        if enough is not None and self.alignment_px > 1:
            enough += 1  # what was tried is not the whole grid
        if enough is None or enough == len(halos):
            return Halo(self.exact_halo_px, 0, self.exact_halo_px)
        return Halo(halos[enough], error_of(halos[enough]), self.exact_halo_px)

    def halo_error(self, stack: Images, halo_px: int, tile_px: int | None = None) -> Halo:
        """The error that a given halo leaves, measured like that of `measure_halo`."""
        if halo_px >= self.exact_halo_px:
            return Halo(halo_px, 0, self.exact_halo_px)
        errors = [
            _largest_difference(
                self._tile(stack, *place, halo_px), self._tile(stack, *place, self.exact_halo_px)
            )
            for place in self._tried(stack, tile_px)
        ]
        return Halo(halo_px, max(errors), self.exact_halo_px)

    def _tried(self, stack: Images, tile_px: int | None) -> list[Place]:
        """Where halos are tried: the busiest place, and the busiest corners of tiles."""
        image = stack[0]
        found = [_busiest(image)]
        if self.alignment_px == 1:
            return found
        shape = self.tile_shape_px if tile_px is None else (tile_px, tile_px)
        corners = _inner_corners(image.shape[0], image.shape[1], shape)
        corners.sort(key=lambda place: -float(image[place].std()))
        # One corner for each place in the grid first.
        step = self.alignment_px
        phases: dict[tuple[int, ...], Place] = {}
        for rows, columns in corners:
            ends = (rows.start, rows.stop, columns.start, columns.stop)
            phases.setdefault(tuple(end % step for end in ends), (rows, columns))
        return found + list(phases.values())[:TRIED_CORNERS]


def image_major(window: Images) -> Images:
    """Channels as in training: (image, y, x, 3) -> (image * 3, y, x)."""
    counts = np.ascontiguousarray(np.moveaxis(window, 3, 1))
    return counts.reshape(-1, *counts.shape[2:])


def _busiest(image: Images) -> Place:
    """The tile with most contrast."""
    places = list(tiles(image.shape[0], image.shape[1], (TRIED_PX, TRIED_PX)))
    return max(places, key=lambda place: float(image[place].std()))


def _inner_corners(height: int, width: int, largest: tuple[int, int]) -> list[Place]:
    """Corners of a frame's tiles, of `TRIED_PX` at most, those that lie beside another tile."""
    found = []
    for rows, columns in tiles(height, width, largest):
        for top, above in _ends(rows, height):
            for left, beside in _ends(columns, width):
                if above or beside:
                    found.append((top, left))
    return found


def _ends(whole: slice, length: int) -> list[tuple[slice, bool]]:
    """First and last part of a tile's rows or columns, and whether another tile follows there."""
    first = slice(whole.start, min(whole.start + TRIED_PX, whole.stop))
    last = slice(max(whole.stop - TRIED_PX, whole.start), whole.stop)
    return [(first, whole.start > 0), (last, whole.stop < length)]


def _largest_difference(first: Images, second: Images) -> int:
    return int(np.abs(first.astype(np.int16) - second).max())


def tiles(height: int, width: int, largest: tuple[int, int]) -> Iterator[Place]:
    """Rows and columns of tiles of nearly equal size that cover a frame."""
    for rows in _parts(height, largest[0]):
        for columns in _parts(width, largest[1]):
            yield rows, columns


def _parts(length: int, most: int) -> list[slice]:
    count = -(-length // most)
    edges = [round(index * length / count) for index in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _with_halo(
    inner: slice, length: int, halo: int, step: int, least: int, multiple: int = 1
) -> tuple[slice, slice]:
    """The range with its halo inside the frame, and its place there.

    It begins at a multiple of `step`, and has at least `least` px and a multiple of `multiple`
    where the frame allows.
    """
    start = max(inner.start - halo, 0) // step * step
    wanted = -(-(min(inner.stop + halo, length) - start) // multiple) * multiple
    stop = min(start + max(wanted, least), length)
    start = max(min(start, stop - max(wanted, least)), 0) // step * step
    return slice(start, stop), slice(inner.start - start, inner.stop - start)
