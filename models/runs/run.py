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

from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location
from plsctl.models.networks.generators import Generator, make_network
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.folder import read_run
from plsctl.models.runs.metadata import RunMetadata
from plsctl.models.runs.tensors import load_weights, read_tensors


class Run:
    """The files of a run folder and the network in them."""

    def __init__(self, path: Path, config: TrainingConfig, metadata: RunMetadata) -> None:
        self.path = path
        self.config = config
        self.metadata = metadata

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Raises
        ------
        UserError
            If there is none, or another version wrote it.
        """
        folder = location(path)
        return cls(folder, *read_run(folder))

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
        network = build_network(self.config, self.metadata.channels)
        load_weights(network, tensors, file)
        return network.eval()


def build_network(config: TrainingConfig, channels: int) -> Generator:
    """The untrained network of a run."""
    return make_network(
        config.spec.network, channels, config.depth, config.growth_channels, config.inner_width
    )
