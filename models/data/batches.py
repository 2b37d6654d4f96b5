"""Batches for training: samples on the device, in memory or streamed; the scale of the inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import EllipsisType
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from plsctl.acquire.errors import UserError
from plsctl.models.compute.processes import ALONE, Processes
from plsctl.models.runs.metadata import Normalisation
from plsctl.process.dataset.reader import Dataset

Counts = NDArray[np.uint8]

STATISTICS_SAMPLES = 512
"""At most so many training samples give mean and deviation of the inputs."""

DEVICE_SHARE = 0.5
"""Share of a GPU's free memory that samples may take; the rest is the network's."""

AHEAD = 3
"""Batches that are fetched while one is used."""

CPU = torch.device("cpu")


class InputScale(nn.Module):
    """Float input of the network from camera counts, both (B, C, H, W)."""

    offset: Tensor
    scale: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        mean = torch.tensor(normalisation.mean).view(1, -1, 1, 1)
        scale = 1 / torch.tensor(normalisation.std).view(1, -1, 1, 1)
        self.register_buffer("offset", -mean * scale, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, counts: Tensor) -> Tensor:
        """Every channel centred and divided by its deviation over the training split."""
        return torch.addcmul(self.offset, counts.float(), self.scale)


def to_colour(counts: Tensor) -> Tensor:
    """Colours in [-1, 1] from 8-bit counts."""
    return counts.float() / 127.5 - 1


def to_counts(colour: Tensor) -> Tensor:
    """8-bit counts from colours in [-1, 1]; what lies outside is clipped."""
    return ((colour.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


Window = tuple[EllipsisType, slice, slice]


def inner_window(margin_px: int) -> Window:
    """The middle of images (..., H, W) that reach so far beyond their crop, as an index."""
    inner = slice(margin_px, -margin_px or None)
    return ..., inner, inner


class Batch(NamedTuple):
    """Stacks (B, C, H, W) and targets (B, 3, h, w), uint8, on the device.

    `size` counts the batch's samples in all processes; `weight` is what makes the mean over the
    processes' losses the mean over samples. `maps` are the targets' feature maps, where the source
    keeps them.
    """

    stacks: Tensor
    targets: Tensor
    size: int
    weight: float
    maps: tuple[Tensor, ...] | None = None


def some_of(numbers: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """A share of the samples, drawn at random and always the same ones, in their order."""
    if share == 1.0:
        return numbers
    count = max(1, round(share * len(numbers)))
    return np.sort(np.random.default_rng(0).choice(numbers, count, replace=False))


def spread(numbers: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many samples, at even distances over all of them, from slide to slide."""
    return numbers[:: -(-len(numbers) // most)]


class SampleSource:
    """Stacks and targets of one split as uint8 tensors, kept as near to the device as they fit.

    Parameters
    ----------
    images
        Indices on the data set's image axis, in the order the network takes them.
    memory_gb
        Larger splits are read from the disk as they are asked for.
    margin_px
        Surroundings of the crop that the stacks have.
    device
        Where batches are used; a GPU holds the split itself where it has room.
    share
        Share of the split's samples that is taken.

    Raises
    ------
    UserError
        If the data set lacks the target, the split or the margin, or is not 8 bit.
    """

    def __init__(
        self,
        data: Dataset,
        split: str,
        images: Sequence[int],
        target: str,
        memory_gb: float,
        margin_px: int = 0,
        device: torch.device = CPU,
        share: float = 1.0,
    ) -> None:
        self.numbers = some_of(data.split(split, target), share)
        self._data = data
        self._images = list(images)
        self._target = target
        self._margin_px = margin_px
        self._device = device
        self._side = data.crop_px + 2 * margin_px
        self._held: tuple[Counts, Counts] | None = None
        self._on_device: tuple[Tensor, Tensor] | None = None
        self._maps: tuple[Tensor, ...] | None = None
        _require_8_bit(data, int(self.numbers[0]))
        size = len(self.numbers) * (3 * len(images) * self._side**2 + 3 * data.crop_px**2)
        if device.type == "cuda" and size <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._on_device = self._hold_on_device()
        elif size <= memory_gb * 1e9:
            self._held = self._hold()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def kept(self) -> Literal["device", "memory", "disk"]:
        """Where the split's samples are while it is used."""
        if self._on_device is not None:
            return "device"
        return "disk" if self._held is None else "memory"

    @torch.no_grad()
    def keep_maps(self, features: Callable[[Tensor], tuple[Tensor, ...]], memory_gb: float) -> None:
        """Compute the targets' feature maps once for all epochs, where they fit into memory.

        All at once and in one order: a run that is continued compares with the very same numbers.

        Parameters
        ----------
        features
            Maps of colours (B, 3, h, w) in [-1, 1].
        """
        kept: list[Tensor] = []
        for part in self._blocks():
            places = np.arange(part.start, min(part.stop, len(self)))
            maps = features(to_colour(self._targets(places)))
            if not kept:
                size = len(self) * sum(each[0].nbytes for each in maps)
                if size > memory_gb * 1e9:
                    return
                kept = [each.new_empty((len(self), *each.shape[1:])) for each in maps]
            for held, found in zip(kept, maps, strict=True):
                held[part] = found
        self._maps = tuple(kept)

    def _targets(self, places: NDArray[np.int64]) -> Tensor:
        if self._on_device is not None:
            return self._on_device[1].index_select(0, self._sent(places))
        if self._held is not None:
            return self._sent(self._held[1][places])
        return self._sent(self._data.read_target(self._target, self.numbers[places]))

    def _hold(self) -> tuple[Counts, Counts]:
        # Channels last as the network wants them, so that a batch is one gather of memory.
        stacks = np.empty((len(self), self._side, self._side, self._channels), dtype=np.uint8)
        for part in self._blocks():
            stacks[part] = self._read(self.numbers[part]).permute(0, 2, 3, 1).numpy()
        return stacks, self._data.read_target(self._target, self.numbers).astype(np.uint8)

    def _hold_on_device(self) -> tuple[Tensor, Tensor]:
        shape = (len(self), self._side, self._side, self._channels)
        stacks = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for part in self._blocks():
            stacks[part] = self._read(self.numbers[part]).to(self._device).permute(0, 2, 3, 1)
        targets = torch.from_numpy(self._data.read_target(self._target, self.numbers))
        return stacks, targets.to(self._device)

    def _blocks(self) -> Iterator[slice]:
        return (slice(start, start + 64) for start in range(0, len(self), 64))

    @property
    def _channels(self) -> int:
        return 3 * len(self._images)

    def _read(self, numbers: NDArray[np.int64]) -> Tensor:
        stacks = self._data.read_images(numbers, self._images, self._margin_px)
        return torch.from_numpy(stacks).flatten(1, 2)  # (B, images * 3, H, W)

    def take(self, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Stacks (B, C, H, W) and targets (B, 3, h, w) at places within the split, uint8."""
        targets = self._targets(places)
        if self._on_device is not None:
            return self._on_device[0].index_select(0, self._sent(places)).permute(
                0, 3, 1, 2
            ), targets
        if self._held is not None:
            # NumPy copies whole samples at memory speed; torch takes uint8 value by value.
            return self._sent(self._held[0][places]).permute(0, 3, 1, 2), targets
        numbers = self.numbers[places]
        stacks = self._sent(self._data.read_images(numbers, self._images, self._margin_px))
        return stacks.flatten(1, 2).contiguous(memory_format=torch.channels_last), targets

    def _sent(self, counts: NDArray[np.generic]) -> Tensor:
        found = torch.from_numpy(counts)
        if self._device.type == "cpu":
            return found
        # From pinned memory the copy is queued without waiting for the network.
        return found.pin_memory().to(self._device, non_blocking=True)

    def batches(
        self, order: NDArray[np.int64], size: int, processes: Processes = ALONE
    ) -> Iterator[Batch]:
        """Batches in the given order, of each the share of this process.

        The next ones are fetched while one is used, which a split on the device does not need.
        """
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        shares = [processes.share(part) for part in parts]
        weights = [processes.weight(part) for part in parts]
        taken = map(self.take, shares) if self.kept == "device" else self._ahead(shares)
        for part, share, weight, (stacks, targets) in zip(
            parts, shares, weights, taken, strict=True
        ):
            yield Batch(stacks, targets, len(part), weight, self._maps_at(share))

    def _maps_at(self, places: NDArray[np.int64]) -> tuple[Tensor, ...] | None:
        if self._maps is None:
            return None
        chosen = self._sent(places)
        return tuple(each.index_select(0, chosen) for each in self._maps)

    def _ahead(self, shares: Sequence[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        coming: deque[Future[tuple[Tensor, Tensor]]] = deque()
        with ThreadPoolExecutor(max_workers=AHEAD) as pool:
            try:
                for share in shares:
                    coming.append(pool.submit(self.take, share))
                    if len(coming) > AHEAD:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                # An epoch that ends early does not wait for what it will not use.
                pool.shutdown(wait=False, cancel_futures=True)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch: the same whenever that epoch is run."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def measure_normalisation(data: Dataset, images: Sequence[int], target: str) -> Normalisation:
    """Scale of the inputs, from evenly chosen training samples."""
    numbers = spread(data.split("train", target), STATISTICS_SAMPLES)
    return Normalisation.of(data.read_images(numbers, images))


def _require_8_bit(data: Dataset, number: int) -> None:
    found = data.read_images([number], [0]).dtype
    if found != np.uint8:
        raise UserError(
            f"the data set {data.path} holds {found}, training takes uint8.",
            hint="Build it again from 8-bit images.",
        )
