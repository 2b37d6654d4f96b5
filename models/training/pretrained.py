"""Starting a run from the weights of another one."""

from __future__ import annotations

import torch

from plsctl.acquire.errors import UserError
from plsctl.models.networks.generators import Generator
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.run import Run, build_network
from plsctl.models.runs.tensors import file_digest
from plsctl.process.dataset.reader import Dataset


def open_start(config: TrainingConfig, data: Dataset) -> Run | None:
    """The run whose weights a new run begins with, or None where it begins at random.

    Raises
    ------
    UserError
        If the model needs such a run and none is given, or the run does not fit: another model or
        network, other images, no weights yet.
    """
    wanted = config.spec.starts_from
    if config.from_run is None:
        if wanted is None:
            return None
        raise UserError(
            f"{config.model} starts from a trained {wanted}.",
            field="from",
            hint=f"Train one with `plsctl train {wanted}`, then name its folder: --from RUN.",
        )
    start = Run.open(config.from_run)
    if wanted is not None and start.metadata.model != wanted:
        raise UserError(
            f"{config.model} starts from a trained {wanted}, the run {start.path} is a "
            f"{start.metadata.model}.",
            field="from",
            hint=f"Name the folder of a {wanted}.",
        )
    _require_same_network(config, start)
    labels = [data.labels[index] for index in data.channels_for(config.recipe)]
    if labels != list(start.metadata.labels):
        raise UserError(
            f"the run {start.path} takes {len(start.metadata.labels)} images "
            f"({start.metadata.recipe}), the new one {len(labels)}.",
            field="from",
            hint=f"Use --recipe {start.metadata.recipe}.",
        )
    start.network()  # missing or damaged weights are reported before anything is written
    return start


def first_network(config: TrainingConfig, channels: int, resumed: bool) -> Generator:
    """The network that a run begins with: random weights by its seed, or those of its start.

    A resumed run has weights of its own, and its start need not be there any more.
    """
    torch.manual_seed(config.seed)
    network = build_network(config, channels)
    if config.from_run is not None and not resumed:
        network.load_state_dict(Run.open(config.from_run).network().state_dict())
    return network


def describe_start(start: Run | None) -> dict[str, str] | None:
    """Which weights a run began with."""
    if start is None:
        return None
    return {"run": str(start.path), "sha256": file_digest(start.path / "best.safetensors")}


def _require_same_network(config: TrainingConfig, start: Run) -> None:
    before = start.config
    if before.spec.network != config.spec.network:
        raise UserError(
            f"{config.model} has another network than the run {start.path} ({before.model}).",
            field="from",
            hint="Start from a run of the same network.",
        )
    sizes = {
        "blocks": (before.depth, config.depth),
        "growth": (before.growth_channels, config.growth_channels),
        "width": (before.inner_width, config.inner_width),
    }
    for name, (theirs, mine) in sizes.items():
        if theirs != mine:
            raise UserError(
                f"the run {start.path} has {name} {theirs}, the new one {mine}.",
                field=name,
                hint=f"Leave --{name} out to take over that of the run.",
            )
