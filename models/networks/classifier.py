"""The network that tells types of stained cells apart."""

from __future__ import annotations

from torch import Tensor, nn


class CellTypeNet(nn.Module):
    """Small convolutional network from a stained crop to the types' scores."""

    def __init__(self, types: int, width: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after in (width, 2 * width, 3 * width, 4 * width):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.Conv2d(after, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            before = after
        self.features = nn.Sequential(*layers)
        self.scores = nn.Linear(before, types)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, types) of stained crops (B, 3, H, W), colours in [-1, 1]."""
        found: Tensor = self.scores(self.features(x).mean(dim=(2, 3)))
        return found
