"""A classifier of stained cells as the network of the perceptual loss.

Nearer to the domain than VGG19 and made offline: what tells types of white cells apart is what a
prediction should not lose. Needs a data set whose table has types.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plsctl.models.cell_type_net import CellTypeNet

STAGES = 3
"""Stages of the classifier that are compared: full, half and a quarter size."""


class ClassifierFeatures(nn.Module):
    """Maps of a trained classifier before their activation, each scaled to unit variance.

    With unit variance they have the size of VGG's, so that the paper's weight keeps its meaning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = CellTypeNet(2).features
        scaled = [
            (place, layer.num_features)
            for place, layer in enumerate(self.features)
            if isinstance(layer, nn.BatchNorm2d)
        ]
        # There are two of them a stage; the second one's convolution halves the size.
        compared = scaled[::2][:STAGES]
        self._compared = [place for place, _ in compared]
        for index, (_, width) in enumerate(compared):
            self.register_buffer(f"deviation{index}", torch.ones(1, width, 1, 1))
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_classifier(cls, classifier: CellTypeNet, targets: Tensor) -> ClassifierFeatures:
        """Take a trained classifier over.

        Parameters
        ----------
        targets
            (B, 3, H, W), colours in [-1, 1]: stained images on which the maps are scaled.
        """
        network = cls()
        network.features.load_state_dict(
            {name: tensor.cpu() for name, tensor in classifier.features.state_dict().items()}
        )
        with torch.no_grad():
            for index, maps in enumerate(network(targets)):
                spread = maps.std(dim=(0, 2, 3), keepdim=True)
                # A map that answers to nothing in stained cells must not be blown up.
                getattr(network, f"deviation{index}").copy_(spread.clamp_min(1e-3))
        return network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Three maps of (B, 3, H, W) colours in [-1, 1], at full, half and a quarter size."""
        maps: list[Tensor] = []
        found = image
        for place, layer in enumerate(self.features):
            if len(maps) == STAGES:
                break
            # Not in place: the maps before an activation are the ones that are compared.
            found = functional.relu(found) if isinstance(layer, nn.ReLU) else layer(found)
            if place in self._compared:
                maps.append(found / getattr(self, f"deviation{len(maps)}"))
        return tuple(maps)
