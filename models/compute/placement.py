"""Where and in which format a network is computed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from plsctl.models.compute.device import autocast
from plsctl.models.networks.rrdb import RRDBNet
from plsctl.models.runs.metadata import ComputeMetadata

LAYOUTS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
    "winograd": torch.contiguous_format,
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """A device, the number format of the convolutions, and the order of the memory.

    Weights and losses are float32.

    Attributes
    ----------
    winograd
        Whether RRDB networks are trained by minimal filtering (plsctl.models.networks.winograd).
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.contiguous_format
    winograd: bool = False

    @classmethod
    def of(cls, metadata: ComputeMetadata, device: torch.device) -> Compute:
        """What a run has recorded, on the device of this process."""
        name = metadata.memory_format
        return cls(device, PRECISIONS[metadata.precision], LAYOUTS[name], name == "winograd")

    def place(self, network: Network) -> Network:
        """The network on the device, in the order of memory."""
        network.to(self.device)
        network.to(memory_format=self.layout)  # type: ignore[call-overload]
        if isinstance(network, RRDBNet):
            network.winograd = self.winograd
        return network

    def autocast(self) -> AbstractContextManager[object]:
        """A block, entered as often as one likes, whose convolutions are in the number format."""
        return autocast(self.device, self.dtype)

    def run(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """The network's output for (B, C, H, W) in the number format."""
        with self.autocast():
            return network(images.contiguous(memory_format=self.layout))
