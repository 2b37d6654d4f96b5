"""The models that can be trained by name, and their networks. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import suggest
from plsctl.models.networks.sizes import NetworkName


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; a weight of 0 leaves the term out."""

    mae: float = 1.0
    perceptual: float = 0.0
    fourier: float = 0.0
    adversarial: float = 0.0


@dataclass(frozen=True)
class ModelSpec:
    """A named model: its network, the network's default size, and what it is trained on.

    `blocks` and `growth` are None where the network has none to choose; a `width` of None stands
    for as many channels as the input has. `starts_from` names the model whose trained weights it
    needs to begin with.
    """

    name: str
    summary: str
    losses: LossWeights
    network: NetworkName = "rrdb"
    blocks: int | None = 4
    growth: int | None = 32
    width: int | None = None
    starts_from: str | None = None


MAEPF = LossWeights(perceptual=0.0125, fourier=0.0125)

# Weights of papers/002 table 3.2; generators of section 3.3, the U-Net of appendix A.2.
MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("maenet", "RRDB generator, mean absolute error", LossWeights()),
        ModelSpec(
            "maepnet",
            "RRDB generator, mean absolute error and perceptual loss",
            LossWeights(perceptual=0.0125),
        ),
        ModelSpec(
            "maepfnet",
            "RRDB generator, mean absolute error, perceptual and Fourier loss",
            MAEPF,
        ),
        ModelSpec(
            "maepf-rpgan-sn",
            "a trained maepfnet, taught further against a discriminator",
            LossWeights(perceptual=0.0125, fourier=0.0125, adversarial=0.005),
            starts_from="maepfnet",
        ),
        ModelSpec(
            "unet",
            "pix2pix U-Net, the losses of maepfnet",
            MAEPF,
            network="unet",
            blocks=None,
            growth=None,
            width=64,
        ),
        ModelSpec(
            "fast",
            "U-shaped network of gated blocks (NAFNet), the losses of maepfnet",
            MAEPF,
            network="fast",
            growth=None,
            width=32,
        ),
    )
}


def model_spec(name: str) -> ModelSpec:
    """The named model.

    Raises
    ------
    UserError
        There is no model of that name.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise UserError(
            f"there is no model '{name}'.", field="model", hint=suggest(name, MODELS)
        ) from None
