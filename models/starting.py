"""A start for short trainings: the network begins as the best linear map from stack to colour."""

from __future__ import annotations

import torch
from torch import Tensor

from plsctl.models.rrdb import RRDBNet

RIDGE = 1e-3
"""Added to the covariance's diagonal; inputs have unit variance."""

OTHER_SCALE = 0.1
"""Scale of the remaining weights of the last convolution, so that the linear map shows through."""


def linear_map(inputs: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares matrix (3, C) and offset (3,) from a pixel's stack to its stained colour.

    Parameters
    ----------
    inputs
        Normalised stacks (B, C, H, W).
    colours
        Stained images (B, 3, H, W) in [-1, 1].
    """
    x = inputs.transpose(0, 1).flatten(1).double()
    y = colours.transpose(0, 1).flatten(1).double()
    mean_x, mean_y = x.mean(dim=1, keepdim=True), y.mean(dim=1, keepdim=True)
    x, y = x - mean_x, y - mean_y
    covariance = x @ x.T / x.shape[1] + RIDGE * torch.eye(len(x), dtype=x.dtype)
    matrix = torch.linalg.solve(covariance, x @ y.T / x.shape[1]).T
    return matrix.float(), (mean_y - matrix @ mean_x)[:, 0].float()


@torch.no_grad()
def start_linear(network: RRDBNet, inputs: Tensor, colours: Tensor) -> None:
    """Set the outer convolutions so that three of the features are the linear map of the stack.

    The first convolution makes them, the last passes them on; the way through the blocks adds
    nothing to them yet. Everything else keeps its random start.

    Raises
    ------
    ValueError
        If the network has fewer than three channels inside.
    """
    if network.body.out_channels < 3:
        raise ValueError("a linear start needs a width of at least 3")
    matrix, offset = linear_map(inputs, colours)
    first, body, last = network.first, network.body, network.last
    first.weight[:3] = 0
    first.weight[:3, :, 1, 1] = matrix
    body.weight[:3] = 0
    last.weight.mul_(OTHER_SCALE)
    last.weight[:, :3] = 0
    last.weight[:, :3, 1, 1] = torch.eye(3)
    for convolution in (first, body):
        convolution.bias[:3] = 0  # type: ignore[index]
    last.bias.copy_(offset)  # type: ignore[union-attr]
