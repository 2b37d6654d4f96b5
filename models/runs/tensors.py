"""Tensors in files: weights written, read and loaded into a network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import write_whole


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, by number and name."""
    return {
        f"{prefix}{index}.{name}": value
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave (without its prefix); rates stay as they are."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    # In the memory order of the weights again: GPUs update equal orders many tensors at once.
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, by which a run records its perceptual network."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(network: nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    """Put weights into a network.

    Raises
    ------
    UserError
        If they belong to a network of another recipe, depth or width.
    """
    wanted = network.state_dict()
    found, channels = tensors.get("first.weight"), getattr(network, "channels", None)
    if found is not None and channels is not None and found.shape[1] != channels:
        raise UserError(
            f"the weights are for {found.shape[1] // 3} images, the recipe has {channels // 3}.",
            file=file,
            hint="Use the run's own recipe, or train for this one.",
        )
    other = [
        name for name in wanted
        if name not in tensors or tensors[name].shape != wanted[name].shape
    ] + [name for name in tensors if name not in wanted]  # fmt: skip
    if other:
        raise UserError(
            f"the weights are of another network ({other[0]} does not fit).",
            file=file,
            hint="Check blocks, growth and width in config.yaml.",
        )
    network.load_state_dict(tensors)


def write_tensors(path: Path, tensors: dict[str, Tensor], state: dict[str, object]) -> None:
    """Write tensors with a JSON state in one file; the old one stays until it is whole.

    Raises
    ------
    UserError
        If the disk is full or does not take it.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # The library's own writing of files leaves them readable to nobody else on a shared disk.
    write_whole(path, save(plain, metadata={"state": json.dumps(state)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and state of a file that `write_tensors` wrote.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = json.loads((file.metadata() or {}).get("state", "{}"))
    except Exception as error:  # the library raises its own type, which has no stable name
        raise UserError(
            f"the weights cannot be read ({error}).",
            file=path,
            hint="Take them from a copy, or train the run again with --fresh.",
        ) from None
    return tensors, state
