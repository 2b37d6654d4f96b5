"""The models one can train by name, and how large their networks are. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from plsctl.acquire.config import suggest
from plsctl.acquire.errors import UserError

DENSE_BLOCKS = 3
"""Dense blocks in a residual-in-residual block."""

DENSE_LAYERS = 4
"""Growing convolutions in a dense block; a fifth one closes it."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; a weight of 0 leaves the term out."""

    mae: float = 1.0
    perceptual: float = 0.0
    fourier: float = 0.0


@dataclass(frozen=True)
class ModelSpec:
    """A named model: the generator's depth and growth, and what it is trained on."""

    name: str
    summary: str
    losses: LossWeights
    blocks: int = 4
    growth: int = 32


# Weights of papers/002 table 3.2; generators of section 3.3.
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
            LossWeights(perceptual=0.0125, fourier=0.0125),
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


def default_batch(blocks: int) -> int:
    """Samples in a batch: 20, and 12 for the deeper generator (papers/002 section 3.6)."""
    return 20 if blocks < 8 else 12


def receptive_radius_px(blocks: int) -> int:
    """How far one output pixel looks: one pixel for each 3 x 3 convolution on the longest way.

    63 for 4 blocks, 123 for 8.
    """
    return blocks * DENSE_BLOCKS * (DENSE_LAYERS + 1) + 3


def parameter_count(channels: int, blocks: int, growth: int, width: int | None = None) -> int:
    """Weights and biases of the RRDB generator.

    With width = channels and growth 32 these are the counts of papers/002 table 4.1.
    """
    inner = channels if width is None else width
    dense = sum(
        _convolution(inner + layer * growth, growth) for layer in range(DENSE_LAYERS)
    ) + _convolution(inner + DENSE_LAYERS * growth, inner)
    ends = _convolution(channels, inner) + _convolution(inner, inner) + _convolution(inner, 3)
    return ends + blocks * DENSE_BLOCKS * dense


def _convolution(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs
