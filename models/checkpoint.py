"""What continues a run: weights, their average, the optimiser and the curve, in one file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from plsctl.models.networks import Generator
from plsctl.models.run import load_weights, read_tensors, write_tensors

Row = dict[str, float]


@dataclass
class Progress:
    """Where a run stands; stored with the weights after every epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    history: list[Row] = field(default_factory=list)


def save_checkpoint(
    file: Path,
    network: Generator,
    average: Generator | None,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write everything at once: the file is that of one epoch or of the next, never between."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    write_tensors(file, tensors, vars(progress))


def load_checkpoint(
    file: Path,
    network: Generator,
    average: Generator | None,
    optimiser: torch.optim.Optimizer,
) -> Progress:
    """Put a checkpoint back into network, average and optimiser.

    Raises
    ------
    UserError
        If the file is damaged or of another network.
    """
    tensors, state = read_tensors(file)
    load_weights(network, _part(tensors, "network."), file)
    if average is not None:
        load_weights(average, _part(tensors, "average."), file)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimiser.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    return Progress(**state)  # type: ignore[arg-type]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
