"""Training in several processes, on one computer or several: one process a GPU (or CPU socket).

Plain `torch.distributed` and `DistributedDataParallel`, begun by `torchrun`. What a framework
would add (its own loop, callbacks, checkpoints) is here already; what is needed of it is that
every process takes its share of the same batch and that gradients are averaged, some dozen lines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from plsctl.acquire.errors import UserError


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; `local` is its number on its computer."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def device(self, kind: torch.device) -> torch.device:
        """Device of this process: the GPU with its number, or the CPU."""
        return torch.device("cuda", self.local) if kind.type == "cuda" else kind

    def share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """The part of a batch that this process takes; one sample at least."""
        mine = batch[self.rank :: self.count]
        return mine if len(mine) else batch[:1]

    def weight(self, batch: NDArray[np.int64]) -> float:
        """What makes the mean over the processes' means the mean over the batch's samples.

        0 for a process whose one sample is another's.
        """
        return len(batch[self.rank :: self.count]) * self.count / len(batch)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are the means over the processes."""
        return network if self.count == 1 else DistributedDataParallel(network)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values

    def from_first(self, value: float, device: torch.device) -> float:
        """The first process's value, for values that depend on the clock."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.broadcast(told, 0)
        return float(told)

    def align_buffers(self, network: nn.Module) -> None:
        """Give every process the first one's running means of normalisations."""
        if self.count > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The first process runs the block, then the others, who find its files.

        Where it fails the others end without a word (SystemExit): it has said why.
        """
        if self.count > 1 and not self.first and not self._told():
            raise SystemExit(UserError.exit_code)
        try:
            yield
        except Exception:
            if self.count > 1 and self.first:
                self._told(False)
            raise
        if self.count > 1 and self.first:
            self._told(True)

    def _told(self, well: bool = False) -> bool:
        """The first process's outcome."""
        said = [well]
        distributed.broadcast_object_list(said, 0)
        return said[0]


ALONE = Processes()


@contextmanager
def launched_processes(device: torch.device) -> Iterator[Processes]:
    """The processes that `torchrun` began, or this one alone.

    Parameters
    ----------
    device
        GPUs talk by NCCL, CPUs by gloo.

    Raises
    ------
    UserError
        If there is no GPU for this process, or it does not know its number.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if "RANK" not in os.environ:
        raise UserError(
            f"the environment says WORLD_SIZE={count}, but not which of the processes this is.",
            field="WORLD_SIZE",
            hint="Begin several processes with torchrun, or unset WORLD_SIZE for one.",
        )
    found = Processes(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        gpus = torch.cuda.device_count()
        if found.local >= gpus:
            raise UserError(
                f"torchrun began more processes on this computer than it has GPUs ({gpus}).",
                field="nproc-per-node",
                hint=f"Begin {gpus}, or use --device cpu.",
            )
        torch.cuda.set_device(found.local)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield found
    finally:
        distributed.destroy_process_group()
