"""Networks that read the grey image of an optics layer, by name, and the two together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from plsctl.models.learned_optics.layer import OpticsLayer
from plsctl.models.learned_optics.settings import OpticsRun
from plsctl.models.networks.classifier import CellTypeNet

COLOURS = 3


class _Small(nn.Module):
    """The small classifier of cell types, on grey images."""

    def __init__(self, types: int) -> None:
        super().__init__()
        self.network = CellTypeNet(types)

    def forward(self, grey: Tensor) -> Tensor:
        scores: Tensor = self.network(grey.expand(-1, COLOURS, -1, -1))
        return scores


READERS: Mapping[str, Callable[[int], nn.Module]] = {"small": _Small}
"""Each from the number of types to a network from (B, 1, y, x) to their scores (B, types)."""


class OpticsNet(nn.Module):
    """An optics layer and the network behind it: (B, 3, H, W), 0 to 1, to scores (B, types)."""

    def __init__(self, config: OpticsRun, types: int) -> None:
        super().__init__()
        self.optics = OpticsLayer(
            COLOURS,
            config.pooling,
            config.blur,
            config.blur_px,
            blur_each=config.blur_each,
            order=config.order,
            edge=config.edge,
        )
        if config.optics == "frozen":
            self.optics.freeze()
        # Whatever light is chosen, the network sees the contrast it makes.
        self.exposure = nn.BatchNorm2d(1)
        self.reader = READERS[config.network](types)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the types."""
        scores: Tensor = self.reader(self.exposure(self.optics(images)))
        return scores
