"""A run folder: what was trained, on what, and the weights.

config.yaml            repeats the run
facts.json             frames, scale of the inputs, sizes, perceptual network, versions
learned.csv            samples that it learned from
best.safetensors       weights with the lowest validation loss
last.safetensors       everything that continues the run after its last finished epoch
curve.csv, curves.png  one row an epoch
metrics.json           the evaluation
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from plsctl.acquire.config import load_settings
from plsctl.acquire.errors import UserError, disk_errors
from plsctl.models.config import TrainingConfig
from plsctl.models.facts import KEPT, VERSION, RunFacts
from plsctl.models.networks import Generator, make_network


class Run:
    """The files of a run folder and the network in them."""

    def __init__(self, path: Path, config: TrainingConfig, facts: RunFacts) -> None:
        self.path = path
        self.config = config
        self.facts = facts

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Raises
        ------
        UserError
            If there is none, or another version wrote it.
        """
        folder = Path(path)
        file = folder / "facts.json"
        if not file.is_file():
            raise UserError(f"{folder} is not a run folder.", hint="Make one with `plsctl train`.")
        try:
            content = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise UserError(
                "the run cannot be read: this file is damaged.",
                file=file,
                hint="Take it from a copy, or train the run again with --fresh.",
            ) from None
        if content.get("version") != VERSION:
            raise UserError(
                f"the run has version {content.get('version')}, this plsctl reads {VERSION}.",
                file=file,
                hint="Train it again, or use the plsctl that wrote it.",
            )
        try:
            facts = RunFacts.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            raise UserError(
                f"the run cannot be read: {problem['loc']}: {problem['msg']}.", file=file
            ) from None
        return cls(folder, load_settings(folder / "config.yaml", TrainingConfig), facts)

    def network(self) -> Generator:
        """The network with the weights of its best epoch, in evaluation mode, on the CPU.

        Raises
        ------
        UserError
            If no epoch has been finished, or the weights are of another network.
        """
        file = self.path / "best.safetensors"
        if not file.is_file():
            raise UserError(
                f"the run {self.path} has no weights yet.",
                hint="Run the same `plsctl train` again to continue it.",
            )
        tensors, _ = read_tensors(file)
        network = build_network(self.config, self.facts.channels)
        load_weights(network, tensors, file)
        return network.eval()


def build_network(config: TrainingConfig, channels: int) -> Generator:
    """The untrained network of a run."""
    return make_network(
        config.spec.network, channels, config.depth, config.growth_channels, config.inner_width
    )


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
    partial = path.with_name(path.name + ".part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # The library's own writing of files leaves them readable to nobody else on a shared disk.
    content = save(plain, metadata={"state": json.dumps(state)})
    with disk_errors(path, KEPT):
        partial.write_bytes(content)
        partial.replace(path)


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
