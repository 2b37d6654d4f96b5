"""Feature networks for the perceptual loss: VGG19 from a file, or one made from the targets.

`VggFeatures` is the paper's choice and needs weights that the user supplies. `StainFeatures` needs
nothing: its filters are the principal components of the stained targets' own patches, scale by
scale, so that it answers to what varies in stained cells and is made in seconds, without a seed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from plsctl.acquire.errors import UserError
from plsctl.models.networks.classifier import CellTypeNet

# Channels after each convolution of VGG19 up to block4_conv4; "M" is a 2 x 2 maximum.
VGG_LAYOUT: tuple[int | str, ...] = (
    64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512,
)  # fmt: skip
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ROUNDING = 1 / 255
"""Deviation of the targets below which there is nothing but rounding: it is not blown up."""

STAGES = 3
"""Stages of the classifier that are compared: full, half and a quarter size."""


class VggFeatures(nn.Module):
    """VGG19 up to block4_conv4, before its activation: 10,585,152 frozen weights.

    Layers are numbered as in torchvision's `features`, so that its weight files fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for entry in VGG_LAYOUT:
            if isinstance(entry, str):
                layers.append(nn.MaxPool2d(2))
                continue
            # Not in place: the map before the last activation is the one that is wanted.
            layers += [nn.Conv2d(inputs, entry, 3, padding=1), nn.ReLU()]
            inputs = entry
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), False)
        self.requires_grad_(False)

    @classmethod
    def load(cls, path: Path) -> VggFeatures:
        """Read the weights from a torchvision `.pth` or a `.safetensors` file.

        Raises
        ------
        UserError
            If the file is missing or does not hold VGG19.
        """
        state = _read_tensors(path)
        network = cls()
        wanted = network.state_dict()
        missing = [
            name for name, tensor in wanted.items()
            if name not in state or state[name].shape != tensor.shape
        ]  # fmt: skip
        if missing:
            raise UserError(
                f"the file does not hold VGG19: {missing[0]} is missing or of another shape.",
                file=path,
                field="perceptual",
                hint="Name torchvision's vgg19 weights, 'targets' or 'classifier'.",
            )
        network.load_state_dict({name: state[name] for name in wanted})
        return network.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """One map (B, 512, H/8, W/8) of (B, 3, H, W) colours in [-1, 1]."""
        scaled = ((image + 1) / 2 - self.mean) / self.std
        return (self.features(scaled),)


class StainFeatures(nn.Module):
    """Three scales of principal-component filters, learned from stained targets in closed form.

    At each scale the filters are the leading principal components of 3 x 3 patches of the maps
    before, each scaled to unit variance; their positive and negative parts, halved in size, are
    the input of the next. The maps before rectification are compared: with unit variance they
    have the size of VGG's, so that the paper's weight keeps its meaning.
    """

    WIDTHS = (12, 24, 48)

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        self.stages = nn.ModuleList()
        for width in self.WIDTHS:
            self.stages.append(nn.Conv2d(inputs, width, 3, padding=1))
            inputs = 2 * width
        self.requires_grad_(False)

    @classmethod
    def from_targets(cls, targets: Tensor) -> StainFeatures:
        """Learn the filters from stained images.

        Parameters
        ----------
        targets
            (B, 3, H, W), colours in [-1, 1], at least 16 x 16; a few hundred images are enough.
        """
        network = cls()
        maps = targets.float()
        for stage in network.stages:
            _set_principal_filters(stage, maps)  # type: ignore[arg-type]
            maps = _rectified_half(stage(maps))
        return network.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Three maps of (B, 3, H, W) colours in [-1, 1], at full, half and a quarter size."""
        maps = []
        for stage in self.stages:
            found = stage(image)
            maps.append(found)
            image = _rectified_half(found)
        return tuple(maps)


def _rectified_half(maps: Tensor) -> Tensor:
    both = torch.cat((maps.relu(), (-maps).relu()), dim=1)
    return functional.avg_pool2d(both, 2)


def _set_principal_filters(stage: nn.Conv2d, maps: Tensor) -> None:
    """Filters = leading eigenvectors of the patches' covariance, over their deviations."""
    size = stage.in_channels * 9
    total = torch.zeros(size, dtype=torch.float64)
    squares = torch.zeros(size, size, dtype=torch.float64)
    count = 0
    for part in torch.split(maps, 32):  # patches are nine times as large as the maps
        patches = functional.unfold(part, 3).transpose(1, 2).reshape(-1, size).double()
        total += patches.sum(0)
        squares += patches.T @ patches
        count += len(patches)
    mean = total / count
    values, vectors = torch.linalg.eigh(squares / count - torch.outer(mean, mean))
    strongest = vectors[:, -stage.out_channels :].flip(1)
    # The sign of an eigenvector is arbitrary: fix it, so that runs agree.
    signs = strongest.gather(0, strongest.abs().argmax(0, keepdim=True)).sign()
    least = max(1e-6 * float(values[-1]), ROUNDING**2)
    deviations = values[-stage.out_channels :].flip(0).clamp_min(least).sqrt()
    filters = (strongest * signs / deviations).T
    stage.weight.copy_(filters.reshape(stage.weight.shape))
    stage.bias.copy_(-(filters @ mean))  # type: ignore[union-attr]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(
            "there is no such file of VGG19 weights.",
            file=path,
            field="perceptual",
            hint="Name a file you have, 'targets' or 'classifier'.",
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever its unpickler does
        raise UserError(
            f"the weights cannot be read ({str(error).splitlines()[0][:150]}).",
            file=path,
            field="perceptual",
        ) from None


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
