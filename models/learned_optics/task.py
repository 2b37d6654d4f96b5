"""Learning optics with a classifier, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.classification.labelled_cells import CellBatch
from plsctl.models.compute.placement import Compute
from plsctl.models.compute.processes import Processes
from plsctl.models.learned_optics.labelled_images import LabelledData
from plsctl.models.learned_optics.readers import OpticsNet
from plsctl.models.learned_optics.settings import OpticsRun
from plsctl.models.training.task import Score, Step, Task


class OpticsTask(Task[CellBatch]):
    """Cross-entropy of the types of cells; the best epoch has the highest accuracy."""

    best = shown = Score("accuracy", "accuracy", higher_is_better=True)

    def __init__(self, config: OpticsRun, compute: Compute, data: LabelledData) -> None:
        self._config, self._compute, self._data = config, compute, data
        self.validation_samples = len(data.validation)
        self.metadata = data.metadata

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._data.train) // self._config.batch_size)

    def network(self, resumed: bool) -> OpticsNet:
        """With flat optics and random weights behind them."""
        return OpticsNet(self._config, len(self._data.types))

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam for all that is learned."""
        learned = [part for part in network.parameters() if part.requires_grad]
        return torch.optim.Adam(learned, fused=True)

    def batches(self, epoch: int, processes: Processes) -> Iterator[CellBatch]:
        """Every training image once, turned and mirrored at random."""
        config, train = self._config, self._data.train
        rng = np.random.default_rng((config.seed, epoch))
        order = rng.permutation(len(train))
        for start in range(0, len(order), config.batch_size):
            part = order[start : start + config.batch_size]
            angles = rng.uniform(-config.rotation_deg, config.rotation_deg, len(part))
            flips = rng.integers(0, 2, (len(part), 2)) * config.flips
            mine = processes.share(np.arange(len(part)))
            images = turned(
                torch.from_numpy(train.read(part[mine])).to(self._compute.device),
                angles[mine],
                flips[mine],
                self._data.crop_px,
            )
            yield self._batch(images, train.labels[part[mine]], part, processes)

    def validation_batches(self, processes: Processes) -> Iterator[CellBatch]:
        """The middle of every validation image."""
        held = self._data.validation
        for start in range(0, len(held), self._config.batch_size):
            part = np.arange(start, min(start + self._config.batch_size, len(held)))
            mine = processes.share(part)
            pixels = torch.from_numpy(held.read(mine)).to(self._compute.device)
            images = middle(pixels, self._data.crop_px)
            yield self._batch(images, held.labels[mine], part, processes)

    def _batch(
        self,
        images: Tensor,
        labels: NDArray[np.int64],
        whole: NDArray[np.int64],
        processes: Processes,
    ) -> CellBatch:
        taken = torch.from_numpy(labels).to(self._compute.device)
        return CellBatch(images, taken, len(whole), processes.weight(whole))

    def step(self, network: Callable[[Any], Tensor], batch: CellBatch) -> Step:
        """Scores of the types, and their cross-entropy."""
        output = self._compute.run(network, batch.images).float()
        return Step(output, batch.labels, {"loss": functional.cross_entropy(output, batch.labels)})

    def scores(self, network: Callable[[Any], Tensor], batch: CellBatch) -> dict[str, Tensor]:
        """Cross-entropy, and the share of images that are read right."""
        output, labels, terms = self.step(network, batch)
        return terms | {"accuracy": (output.argmax(dim=1) == labels).float().mean()}


def middle(images: Tensor, crop_px: int) -> Tensor:
    """The middle (B, 3, crop, crop) of images (B, 3, side, side), uint8, as 0 to 1."""
    first = (images.shape[-1] - crop_px) // 2
    part = slice(first, first + crop_px)
    return images[..., part, part].float() / 255


def turned(
    images: Tensor, angles_deg: NDArray[np.float64], flips: NDArray[np.int64], crop_px: int
) -> Tensor:
    """The same of images that are turned (anticlockwise) and then mirrored about their middle.

    Parameters
    ----------
    flips
        (B, 2): whether along x and along y.
    """
    if not angles_deg.any() and not flips.any():
        return middle(images, crop_px)
    zoom = crop_px / images.shape[-1]
    angle = np.deg2rad(angles_deg)
    x, y = (1.0 - 2.0 * flips).T
    matrix = np.zeros((len(images), 2, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = zoom * np.cos(angle) * x, -zoom * np.sin(angle) * y
    matrix[:, 1, 0], matrix[:, 1, 1] = zoom * np.sin(angle) * x, zoom * np.cos(angle) * y
    rows = torch.from_numpy(matrix).to(images.device, torch.float32)
    size = [len(images), images.shape[1], crop_px, crop_px]
    grid = functional.affine_grid(rows, size, align_corners=False)
    return functional.grid_sample(
        images.float() / 255, grid, padding_mode="reflection", align_corners=False
    )
