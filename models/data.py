"""Batches for training: samples held in memory or streamed, and the scale of the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from plsctl.acquire.config import Settings
from plsctl.acquire.errors import UserError
from plsctl.process.dataset import Dataset

Counts = NDArray[np.uint8]

STATISTICS_SAMPLES = 512
"""Training samples from which mean and deviation of the inputs are taken."""


class Normalisation(Settings):
    """Mean and deviation of every input channel over the training split, in camera counts.

    Frames differ in level by orders of magnitude (steep dark field against bright field), so each
    image and colour gets its own scale; [-1, 1] for all would leave the dark field near constant.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...] = Field(min_length=1)

    @classmethod
    def of(cls, stacks: NDArray[np.generic]) -> Normalisation:
        """Measure stacks (sample, image, 3, y, x)."""
        flat = stacks.reshape(len(stacks), -1, *stacks.shape[-2:])
        mean = flat.mean(axis=(0, 2, 3), dtype=np.float64)
        # At least one count: an image without any signal must not blow up its noise.
        std = np.maximum(flat.std(axis=(0, 2, 3), dtype=np.float64), 1.0)
        return cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def apply(self, counts: Tensor) -> Tensor:
        """Float input of the network from camera counts, both (B, C, H, W)."""
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, device=counts.device).view(shape)
        scale = 1 / torch.tensor(self.std, device=counts.device).view(shape)
        return (counts.float() - mean) * scale


def to_colour(counts: Tensor) -> Tensor:
    """Colours in [-1, 1] from 8-bit counts."""
    return counts.float() / 127.5 - 1


def to_counts(colour: Tensor) -> Tensor:
    """8-bit counts from colours in [-1, 1]; what lies outside is clipped."""
    return ((colour.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class SampleSource:
    """Stacks and targets of one split as uint8 tensors, in memory where they fit.

    Parameters
    ----------
    images
        Indices on the data set's image axis, in the order the network takes them.
    memory_gb
        Larger splits are read from the disk as they are asked for.

    Raises
    ------
    UserError
        If the data set lacks the target or the split, or is not 8 bit.
    """

    def __init__(
        self, data: Dataset, split: str, images: Sequence[int], target: str, memory_gb: float
    ) -> None:
        self.numbers = data.split(split, target)
        self._data = data
        self._images = list(images)
        self._target = target
        self._held: tuple[Counts, Counts] | None = None
        _require_8_bit(data, int(self.numbers[0]))
        size = len(self.numbers) * (3 * len(images) + 3) * data.crop_px**2
        if size <= memory_gb * 1e9:
            self._held = self._hold()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def in_memory(self) -> bool:
        """Whether the split is held in memory."""
        return self._held is not None

    def _hold(self) -> tuple[Counts, Counts]:
        # Channels last as the network wants them, so that a batch is one gather of memory.
        side = self._data.crop_px
        stacks = np.empty((len(self), side, side, 3 * len(self._images)), dtype=np.uint8)
        for start in range(0, len(self), 64):
            part = slice(start, start + 64)
            stacks[part] = self._read(self.numbers[part]).permute(0, 2, 3, 1).numpy()
        return stacks, self._data.read_target(self._target, self.numbers).astype(np.uint8)

    def _read(self, numbers: NDArray[np.int64]) -> Tensor:
        stacks = torch.from_numpy(self._data.read_images(numbers, self._images))
        return stacks.flatten(1, 2)  # (B, images * 3, H, W)

    def take(self, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Stacks (B, C, H, W) and targets (B, 3, H, W) at places within the split, uint8."""
        if self._held is not None:
            # NumPy copies whole samples at memory speed; torch takes uint8 value by value.
            stacks, targets = (torch.from_numpy(held[places]) for held in self._held)
            return stacks.permute(0, 3, 1, 2), targets
        numbers = self.numbers[places]
        target = torch.from_numpy(self._data.read_target(self._target, numbers))
        stack = self._read(numbers).contiguous(memory_format=torch.channels_last)
        return stack, target

    def batches(self, order: NDArray[np.int64], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in the given order; the next one is fetched while one is used."""
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = pool.submit(self.take, parts[0])
            for following in parts[1:]:
                ready, coming = coming, pool.submit(self.take, following)
                yield ready.result()
            yield coming.result()


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch: the same whenever that epoch is run."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def measure_normalisation(data: Dataset, images: Sequence[int], target: str) -> Normalisation:
    """Scale of the inputs, from evenly chosen training samples."""
    numbers = data.split("train", target)
    step = max(1, len(numbers) // STATISTICS_SAMPLES)
    return Normalisation.of(data.read_images(numbers[::step][:STATISTICS_SAMPLES], images))


def _require_8_bit(data: Dataset, number: int) -> None:
    found = data.read_images([number], [0]).dtype
    if found != np.uint8:
        raise UserError(
            f"the data set {data.path} holds {found}, training takes uint8.",
            hint="Build it again from 8-bit images.",
        )
