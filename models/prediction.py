"""Prediction with a trained run: crops in batches, and whole frames in tiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plsctl.acquire.errors import UserError
from plsctl.models.config import Precision
from plsctl.models.data import to_counts
from plsctl.models.device import autocast, choose_device, choose_precision, memory_errors
from plsctl.models.run import Run

Images = NDArray[np.uint8]

TILE_PX = 256
HALOS_PX = (8, 16, 24, 32, 48, 64, 96, 128, 192)
"""Halos that are tried, below the radius that is exact."""

TRIED_PX = 64
"""Side of the tile on which a halo is tried."""

TOLERANCE_COUNTS = 1
"""A halo is wide enough when no value of the tried window differs by more (of 255)."""


@dataclass(frozen=True)
class Halo:
    """How far tiles overlap, and the largest error this was seen to leave (of 255 counts)."""

    px: int
    error_counts: int
    exact_px: int


class Predictor:
    """A run's network, ready on a device.

    Parameters
    ----------
    run
        The trained run.
    device, precision
        As for training; "auto" takes the fastest there is.
    batch
        Crops predicted at once.

    Raises
    ------
    UserError
        If the run has no weights, or the device is not there.
    """

    def __init__(
        self,
        run: Run,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        batch: int = 16,
    ) -> None:
        self.run = run
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.batch = batch
        self._network = run.network().to(self.device)

    def predict(self, stacks: Images) -> Images:
        """Stained crops (n, 3, y, x) for stacks (n, image, 3, y, x) in the run's recipe.

        Raises
        ------
        ValueError
            If the number of images is another.
        """
        expected = (len(self.run.facts.labels), 3)
        if stacks.ndim != 5 or stacks.shape[1:3] != expected:
            raise ValueError(f"expected (n, {expected[0]}, 3, y, x), got {stacks.shape}")
        parts = [
            self._run(torch.from_numpy(stacks[start : start + self.batch]).flatten(1, 2))
            for start in range(0, len(stacks), self.batch)
        ]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def _run(self, counts: Tensor) -> Tensor:
        """8-bit colours (B, 3, H, W) on the CPU for 8-bit stacks (B, C, H, W)."""
        stacks = counts.to(self.device).contiguous(memory_format=torch.channels_last)
        scaled = self.run.facts.normalisation.apply(stacks)
        with autocast(self.device, self.dtype):
            prediction = self._network(scaled)
        return to_counts(prediction).cpu()

    def stain_frame(
        self,
        stack: Images,
        *,
        tile_px: int = TILE_PX,
        halo_px: int | None = None,
        on_tile: Callable[[], None] | None = None,
    ) -> Images:
        """The stained frame (y, x, 3) of a stack (image, y, x, 3), in tiles.

        Every tile is predicted with a halo of its surroundings, which is thrown away; at the
        frame's own border there is none. A halo of the network's receptive radius (63 px for the
        RRDB generator of 4 blocks, 123 px for 8) gives what one pass over the whole frame would
        give.

        Parameters
        ----------
        halo_px
            None takes the exact radius; `measure_halo` finds a smaller one.
        on_tile
            Called after each tile.

        Raises
        ------
        UserError
            If the stack has another number of images, or memory runs out.
        """
        labels = self.run.facts.labels
        if stack.ndim != 4 or stack.shape[0] != len(labels) or stack.shape[3] != 3:
            raise UserError(
                f"a stack of shape {stack.shape} does not fit the run's {len(labels)} images of "
                "3 colours, (image, y, x, 3).",
                hint=f"The run takes {self.run.facts.recipe}.",
            )
        halo = self.run.config.exact_halo_px if halo_px is None else halo_px
        height, width = stack.shape[1:3]
        step = self.run.config.alignment_px
        stained = np.empty((height, width, 3), dtype=np.uint8)
        advice = f"Use smaller tiles than {tile_px} px (--tile)."
        with memory_errors(advice):
            for rows, columns in tiles(height, width, tile_px):
                outer_rows, inner_rows = _with_halo(rows, height, halo, step)
                outer_columns, inner_columns = _with_halo(columns, width, halo, step)
                # (image, y, x, 3) -> (1, image * 3, y, x), image-major as in training
                window = np.moveaxis(stack[:, outer_rows, outer_columns], 3, 1)
                counts = torch.from_numpy(np.ascontiguousarray(window)).flatten(0, 1)
                tile = self._run(counts[None])[0, :, inner_rows, inner_columns]
                stained[rows, columns] = tile.permute(1, 2, 0).numpy()
                if on_tile is not None:
                    on_tile()
        return stained

    def measure_halo(self, stack: Images) -> Halo:
        """The smallest halo whose tile agrees with the exact one to one count of 255.

        How far a trained network really looks is a matter of its weights; the exact radius is
        only the farthest it can.

        Parameters
        ----------
        stack
            (image, y, x, 3); the tile with most contrast in the first image is tried.
        """
        exact = self.run.config.exact_halo_px
        wanted = self._busiest_tile(stack, exact)
        for halo in (halo for halo in HALOS_PX if halo < exact):
            error = _largest_difference(self._busiest_tile(stack, halo), wanted)
            if error <= TOLERANCE_COUNTS:
                return Halo(halo, error, exact)
        return Halo(exact, 0, exact)

    def halo_error(self, stack: Images, halo_px: int) -> Halo:
        """The error that a given halo leaves, measured like that of `measure_halo`."""
        exact = self.run.config.exact_halo_px
        if halo_px >= exact:
            return Halo(halo_px, 0, exact)
        wanted = self._busiest_tile(stack, exact)
        error = _largest_difference(self._busiest_tile(stack, halo_px), wanted)
        return Halo(halo_px, error, exact)

    def _busiest_tile(self, stack: Images, halo: int) -> Images:
        """The tile with most contrast in the first image, predicted with a halo around it."""
        rows, columns = _busiest(stack[0])
        step = self.run.config.alignment_px
        outer_rows, inner_rows = _with_halo(rows, stack.shape[1], halo, step)
        outer_columns, inner_columns = _with_halo(columns, stack.shape[2], halo, step)
        window = stack[:, outer_rows, outer_columns]
        stained = self.stain_frame(window, tile_px=max(window.shape[1:3]), halo_px=0)
        return stained[inner_rows, inner_columns]


def _busiest(image: Images) -> tuple[slice, slice]:
    places = list(tiles(image.shape[0], image.shape[1], TRIED_PX))
    return max(places, key=lambda place: float(image[place].std()))


def _largest_difference(first: Images, second: Images) -> int:
    return int(np.abs(first.astype(np.int16) - second).max())


def tiles(height: int, width: int, tile_px: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles of nearly equal size that cover a frame."""
    for rows in _parts(height, tile_px):
        for columns in _parts(width, tile_px):
            yield rows, columns


def _parts(length: int, most: int) -> list[slice]:
    count = -(-length // most)
    edges = [round(index * length / count) for index in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _with_halo(inner: slice, length: int, halo: int, step: int) -> tuple[slice, slice]:
    """The range with its halo inside the frame, begun at a multiple of `step`; its place there."""
    start, stop = max(inner.start - halo, 0) // step * step, min(inner.stop + halo, length)
    return slice(start, stop), slice(inner.start - start, inner.stop - start)
