"""The error to expect at every pixel of a run's predictions, by a network of its own.

The staining network is left as it is. A small network reads its input and its prediction and gives
the error to expect at every pixel: the scale b of an exponential distribution, which the loss
log b + e / b is least for where b is the mean of the errors e (Kendall and Gal, "What uncertainties
do we need in Bayesian deep learning for computer vision?", NeurIPS 2017, with absolute errors). A
rising curve then brings what it says to the scale of errors measured on images it did not learn
from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from plsctl.acquire.arrays import FloatArray, Images
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import Settings
from plsctl.models.compute.device import choose_device
from plsctl.models.data.batches import InputScale, to_colour
from plsctl.models.networks.fast import FastNet
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import file_digest, read_tensors

WEIGHTS, METADATA_FILE = "uncertainty.safetensors", "uncertainty.json"

BLOCKS, WIDTH = 1, 16
BATCH = 32

MOST = 3.0
"""Expected errors end at so many times the worst that the correction was made of."""


class UncertaintyMetadata(Settings):
    """Metadata of the weights: the network whose errors they predict, and the correction."""

    weights: str
    """Digest of the staining network's weights."""
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    """Errors as predicted and the errors they stand for, as shares of full scale, both rising."""
    limits: dict[str, float]
    """Share of the pixels (`0.9`): their error is at most so many times the expected one."""


class ErrorNetwork:
    """The network with its input scale, on a device."""

    def __init__(self, run: Run, device: torch.device) -> None:
        self.device = device
        self.network = FastNet(run.metadata.channels + 3, BLOCKS, WIDTH).to(device)
        self._scale = InputScale(run.metadata.normalisation).to(device)

    def logarithm(
        self,
        stacks: Images,
        prediction: Images,
        called: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Logarithm of the expected error, (n, y, x), for (n, image, 3, y, x) and (n, 3, y, x).

        `called` is the network as it is called in training, where that is wrapped.
        """
        counts = torch.from_numpy(stacks).flatten(1, 2).to(self.device)
        colours = to_colour(torch.from_numpy(prediction).to(self.device))
        inputs = torch.cat([self._scale(counts), colours], dim=1)
        found = self.network(inputs) if called is None else called(inputs)
        logarithm: Tensor = found.float().mean(dim=1)
        return logarithm.clamp(-8.0, 1.0)

    def raw_errors(self, stacks: Images, prediction: Images) -> FloatArray:
        """Expected errors (n, y, x) before they are corrected."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(stacks), BATCH):
                part = slice(start, start + BATCH)
                found = self.logarithm(stacks[part], prediction[part])
                parts.append(found.exp().cpu().numpy())
        return np.concatenate(parts)


class ErrorModel:
    """Predicts the absolute error of a run's predictions.

    Raises
    ------
    UserError
        If the run has no error network, or it belongs to other weights.
    """

    def __init__(self, run: Run, device: str = "auto") -> None:
        file = run.path / WEIGHTS
        again = f"Train it again: plsctl uncertainty {run.path}."
        if not file.is_file() or not (run.path / METADATA_FILE).is_file():
            raise UserError(
                f"the run {run.path} has no uncertainty yet.",
                hint=f"Train it first: plsctl uncertainty {run.path}.",
            )
        try:
            text = (run.path / METADATA_FILE).read_text(encoding="utf-8")
            self.metadata = UncertaintyMetadata.model_validate_json(text)
        except ValidationError:
            raise UserError(
                "the uncertainty cannot be read.", file=run.path / METADATA_FILE, hint=again
            ) from None
        if self.metadata.weights != file_digest(run.path / "best.safetensors"):
            raise UserError(
                "the uncertainty belongs to other weights than the run has now.",
                file=file,
                hint=again,
            )
        self.sha256 = file_digest(file)
        self._network = ErrorNetwork(run, choose_device(device))
        self._network.network.load_state_dict(read_tensors(file)[0])
        self._network.network.eval()

    def errors(self, stacks: Images, prediction: Images) -> FloatArray:
        """Expected absolute error, mean over the colours, as a share of full scale.

        Parameters
        ----------
        stacks
            (n, image, 3, y, x), the run's recipe.
        prediction
            What the run makes of them, (n, 3, y, x).

        Returns
        -------
        (n, y, x) float32.
        """
        return corrected(self._network.raw_errors(stacks, prediction), self.metadata)


def corrected(raw: FloatArray, metadata: UncertaintyMetadata) -> FloatArray:
    """Predicted errors on the scale of measured ones, any shape.

    Beyond the ends of the curve they grow and shrink in proportion: what is worse than all that
    the curve was made of must not look the same as the worst of it. They end at `MOST` times the
    worst.
    """
    found = np.interp(raw, metadata.predicted, metadata.measured)
    low, high = metadata.predicted[0], metadata.predicted[-1]
    found = np.where(raw > high, raw * (metadata.measured[-1] / high), found)
    found = np.where(raw < low, raw * (metadata.measured[0] / low), found)
    return np.asarray(np.minimum(found, MOST * metadata.measured[-1]), dtype=np.float32)
