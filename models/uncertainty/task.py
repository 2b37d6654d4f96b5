"""Learning how far a staining run is off, pixel by pixel, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from plsctl.acquire.arrays import FloatArray, Images
from plsctl.models.compute.processes import Processes
from plsctl.models.runs.training_settings import TrainingSettings
from plsctl.models.training.task import Step, Task
from plsctl.models.uncertainty.error_model import ErrorNetwork
from plsctl.models.uncertainty.split_errors import SplitErrors

LEAST_ERROR = 1 / 255
"""No error below one grey value can be told from rounding."""

CLIP = 1.0
"""Largest norm of a gradient: a pixel that is far off must not throw the network about."""


@dataclass(frozen=True)
class ErrorBatch:
    """Stacks (n, image, 3, y, x), predictions (n, 3, y, x) and their errors (n, y, x)."""

    stacks: Images
    prediction: Images
    error: FloatArray
    size: int
    weight: float


class ErrorTask(Task[ErrorBatch]):
    """An error network, and samples whose errors are known.

    Parameters
    ----------
    learned
        Which of the samples it learns from.
    steps_per_epoch
        Batches in an epoch.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        network: ErrorNetwork,
        found: SplitErrors,
        learned: NDArray[np.bool_],
        steps_per_epoch: int,
    ) -> None:
        self._settings, self._errors, self._steps = settings, network, steps_per_epoch
        self._found, self._places = found, np.flatnonzero(learned)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._steps

    def network(self, resumed: bool) -> nn.Module:
        """The network begins with the mean error everywhere."""
        inner = self._errors.network
        start = float(np.log(max(self._found.error.mean(), LEAST_ERROR)))
        nn.init.zeros_(inner.last.weight)
        nn.init.constant_(inner.last.bias, start)  # type: ignore[arg-type]
        return inner

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam with decaying weights and clipped gradients."""

        def clip(*_: object) -> None:
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)

        chosen = torch.optim.AdamW(network.parameters())
        chosen.register_step_pre_hook(clip)
        return chosen

    def batches(self, epoch: int, processes: Processes) -> Iterator[ErrorBatch]:
        """Samples drawn without replacement, each batch mirrored and turned at random."""
        rng = np.random.default_rng((self._settings.seed, epoch))
        found, size = self._found, min(self._settings.batch_size, len(self._places))
        for _ in range(self._steps):
            part = rng.choice(self._places, size, replace=False)
            quarter, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            mine = processes.share(part)
            yield ErrorBatch(
                turned(found.stacks[mine], quarter, mirrored),
                turned(found.prediction[mine], quarter, mirrored),
                turned(found.error[mine], quarter, mirrored),
                size,
                processes.weight(part),
            )

    def step(self, network: Callable[[Any], Tensor], batch: ErrorBatch) -> Step:
        """Logarithms of the expected errors, and their loss log b + e / b."""
        logarithm = self._errors.logarithm(batch.stacks, batch.prediction, network)
        measured = torch.from_numpy(batch.error).to(self._errors.device)
        measured = measured.clamp_min(LEAST_ERROR / 4)
        loss = (logarithm + measured * torch.exp(-logarithm)).mean()
        return Step(logarithm, measured, {"loss": loss})


def turned(images: NDArray[np.generic], quarter: int, mirrored: bool) -> NDArray[Any]:
    """Images (..., y, x) mirrored and turned by quarters.

    Light then comes from elsewhere, which matters less here than that samples are few: what an
    error looks like does not depend on it.
    """
    images = images[..., ::-1] if mirrored else images
    return np.ascontiguousarray(np.rot90(images, quarter, axes=(-2, -1)))
