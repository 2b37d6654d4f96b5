"""Loss terms of an epoch, summed over its samples without holding up the device."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from plsctl.acquire.errors import UserError
from plsctl.models.compute.processes import Processes


class EpochLog:
    """Means of the loss terms over an epoch; raises as soon as the loss is no longer a number.

    Reading a value from a GPU waits for it. The values of a step are read after the next one has
    been queued, so that the device always has work.

    Parameters
    ----------
    diverged
        The error for a loss and the step (within the run) that gave it.
    loss
        The last one of the epoch before.
    """

    def __init__(
        self,
        processes: Processes,
        diverged: Callable[[float, int], UserError],
        loss: float | None = None,
    ) -> None:
        self._processes = processes
        self._diverged = diverged
        self._waiting: tuple[int, int, tuple[str, ...], Tensor] | None = None
        self._sums: dict[str, float] = {}
        self._samples = 0
        self.loss = loss
        """The last loss that was read."""

    def add(self, step: int, terms: dict[str, Tensor], size: int, weight: float) -> None:
        """Take the terms of a step; those of the step before are read and checked.

        Parameters
        ----------
        size
            Samples of the batch in all processes.
        weight
            That of this process's share, see `Batch`.
        """
        values = torch.stack([value.detach() for value in terms.values()]).float() * weight
        values = self._processes.mean(values)
        before, self._waiting = self._waiting, (step, size, tuple(terms), values)
        self._read(before)

    def means(self) -> dict[str, float]:
        """Means over all samples."""
        self._read(self._waiting)
        self._waiting = None
        return {name: total / max(self._samples, 1) for name, total in self._sums.items()}

    def _read(self, entry: tuple[int, int, tuple[str, ...], Tensor] | None) -> None:
        if entry is None:
            return
        step, size, names, values = entry
        found = dict(zip(names, values.tolist(), strict=True))
        if not math.isfinite(found["loss"]):
            raise self._diverged(found["loss"], step)
        self.loss = found["loss"]
        for name, value in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * size
        self._samples += size
