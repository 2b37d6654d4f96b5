"""How far a prediction is off, pixel by pixel: predicted by a network of its own, and calibrated.

The staining network is left as it is. A small network reads its input and its prediction and gives
the error to expect at every pixel: the scale b of an exponential distribution, which the loss
log b + e / b is least for where b is the mean of the errors e (Kendall and Gal, "What uncertainties
do we need in Bayesian deep learning for computer vision?", NeurIPS 2017, with absolute errors). It
learns on the validation split, whose errors are those of images the staining network was not
trained on; a part of it is kept back to correct the scale (isotonic regression), and the test split
tells how true it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import isotonic_regression
from torch import Tensor

from plsctl.acquire.config import Settings
from plsctl.acquire.errors import UserError
from plsctl.models.data import InputScale, to_colour
from plsctl.models.device import choose_device
from plsctl.models.facts import write_text
from plsctl.models.fast import FastNet
from plsctl.models.perceptual import file_digest
from plsctl.models.prediction import Predictor
from plsctl.models.run import Run, read_tensors, write_tensors
from plsctl.process.dataset import Dataset

FloatArray = NDArray[np.float32]
Images = NDArray[np.uint8]

WEIGHTS, FACTS = "uncertainty.safetensors", "uncertainty.json"

KEPT_BACK = 4
"""Every so many-th sample of the validation split corrects the scale and is not learned from."""

BLOCKS, WIDTH = 1, 16
LEAST_ERROR = 1 / 255
"""No error below one grey value can be told from rounding."""

KNOTS = 33
BINS = 10
PIXELS = 400_000
"""Pixels that the correction and the calibration curve are drawn from."""


class UncertaintySettings(Settings):
    """How the error network is trained."""

    epochs: int = Field(default=30, ge=1)
    batch: int = Field(default=20, ge=1)
    rate: float = Field(default=1e-3, gt=0)
    seed: int = 0


class UncertaintyFacts(Settings):
    """What belongs to the weights: of which network's errors they tell, and the correction."""

    weights: str
    """Digest of the staining network's weights."""
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    """Errors as predicted and the errors they stand for, as shares of full scale, both rising."""


class ErrorModel:
    """Predicts the absolute error of a run's predictions.

    Raises
    ------
    UserError
        If the run has no error network, or it belongs to other weights.
    """

    def __init__(self, run: Run, device: str = "auto") -> None:
        file = run.path / WEIGHTS
        if not file.is_file():
            raise UserError(
                f"the run {run.path} has no uncertainty yet.",
                hint=f"Train it first: plsctl uncertainty {run.path}.",
            )
        self.facts = UncertaintyFacts.model_validate_json((run.path / FACTS).read_text())
        if self.facts.weights != file_digest(run.path / "best.safetensors"):
            raise UserError(
                "the uncertainty belongs to other weights than the run has now.",
                file=file,
                hint=f"Train it again: plsctl uncertainty {run.path}.",
            )
        self._device = choose_device(device)
        network = _error_network(run)
        network.load_state_dict(read_tensors(file)[0])
        self._network = network.to(self._device).eval()
        self._scale = InputScale(run.facts.normalisation).to(self._device)

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
        with torch.inference_mode():
            logarithm = _read(
                self._network,
                self._scale,
                torch.from_numpy(stacks).flatten(1, 2).to(self._device),
                torch.from_numpy(prediction).to(self._device),
            )
        raw = logarithm.exp().cpu().numpy()
        return corrected(raw, self.facts)


def corrected(raw: FloatArray, facts: UncertaintyFacts) -> FloatArray:
    """Predicted errors on the scale of measured ones, any shape."""
    found = np.interp(raw, facts.predicted, facts.measured)
    return np.asarray(found, dtype=np.float32)


def _error_network(run: Run) -> FastNet:
    return FastNet(run.facts.channels + 3, BLOCKS, WIDTH)


def _read(network: FastNet, scale: InputScale, stacks: Tensor, prediction: Tensor) -> Tensor:
    """Logarithm of the expected error, (B, H, W)."""
    seen = torch.cat([scale(stacks), to_colour(prediction)], dim=1)
    logarithm: Tensor = network(seen).float().mean(dim=1)
    return logarithm.clamp(-8.0, 1.0)


def train_uncertainty(
    run: Run,
    data: Dataset | None = None,
    settings: UncertaintySettings | None = None,
    *,
    device: str = "auto",
    on_share: Callable[[float], None] = lambda share: None,
) -> dict[str, object]:
    """Train the error network of a run and measure it on the test split.

    Writes `uncertainty.safetensors`, `uncertainty.json`, `uncertainty_test.json` and
    `uncertainty_test.png` (the calibration curve) into the run folder.

    Returns
    -------
    dict
        As `measure_calibration`.

    Raises
    ------
    UserError
        If the run has no weights, or the data set lacks validation or test samples.
    """
    data = data or Dataset.open(run.config.data)
    settings = settings or UncertaintySettings()
    predictor = Predictor(run, device=device)
    stacks, prediction, error = _read_split(predictor, data, "validation")
    if len(stacks) < 2 * KEPT_BACK:
        raise UserError(
            f"the validation split has {len(stacks)} samples; uncertainty needs "
            f"{2 * KEPT_BACK} at least.",
            file=data.path,
            hint="Build the data set with a larger validation split.",
        )
    kept = np.arange(len(stacks)) % KEPT_BACK == 0
    network = _fit(run, settings, predictor.device, (stacks, prediction, error), ~kept, on_share)
    scale = InputScale(run.facts.normalisation).to(predictor.device)
    raw = _raw_errors(network, scale, predictor.device, stacks[kept], prediction[kept])
    facts = _correction(raw, error[kept], file_digest(run.path / "best.safetensors"), settings.seed)
    write_tensors(run.path / WEIGHTS, network.state_dict(), {})
    write_text(run.path / FACTS, facts.model_dump_json(indent=1))
    result = measure_calibration(run, data, device=device)
    on_share(1.0)
    return result


def _read_split(
    predictor: Predictor, data: Dataset, split: str
) -> tuple[Images, Images, FloatArray]:
    """Stacks, predictions and their errors (n, y, x) of a split."""
    numbers = data.split(split, predictor.run.facts.target)
    channels = data.channels_of(predictor.run.facts.labels)
    stacks, predictions = [], []
    for start in range(0, len(numbers), 64):
        part = numbers[start : start + 64]
        stacks.append(data.read_images(part, channels, 0).astype(np.uint8))
        predictions.append(predictor.predict_samples(data, part)[0])
    target = data.read_target(predictor.run.facts.target, numbers).astype(np.uint8)
    prediction = np.concatenate(predictions)
    return np.concatenate(stacks), prediction, absolute_error(prediction, target)


def absolute_error(prediction: Images, target: Images) -> FloatArray:
    """Mean over the colours of the absolute difference (n, 3, y, x), as a share of full scale."""
    difference = np.abs(prediction.astype(np.int16) - target.astype(np.int16))
    return np.asarray(difference.mean(axis=1) / 255, dtype=np.float32)


def _fit(
    run: Run,
    settings: UncertaintySettings,
    device: torch.device,
    samples: tuple[Images, Images, FloatArray],
    learned: NDArray[np.bool_],
    on_share: Callable[[float], None],
) -> FastNet:
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    stacks, prediction, error = samples
    network = _error_network(run).to(device)
    scale = InputScale(run.facts.normalisation).to(device)
    # The network begins with the mean error everywhere.
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.constant_(network.last.bias, float(np.log(max(error.mean(), LEAST_ERROR))))  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate)
    places = np.flatnonzero(learned)
    batches = -(-len(places) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.epochs * batches
    )
    for epoch in range(settings.epochs):
        order = rng.permutation(places)
        for start in range(0, len(order), settings.batch):
            part = order[start : start + settings.batch]
            logarithm = _read(
                network,
                scale,
                torch.from_numpy(stacks[part]).flatten(1, 2).to(device),
                torch.from_numpy(prediction[part]).to(device),
            )
            measured = torch.from_numpy(error[part]).to(device).clamp_min(LEAST_ERROR / 4)
            loss = (logarithm + measured * torch.exp(-logarithm)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        on_share((epoch + 1) / (settings.epochs + 1))
    return network.eval()


def _raw_errors(
    network: FastNet,
    scale: InputScale,
    device: torch.device,
    stacks: Images,
    prediction: Images,
) -> FloatArray:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(stacks), 32):
            part = slice(start, start + 32)
            counts = torch.from_numpy(stacks[part]).flatten(1, 2).to(device)
            seen = torch.from_numpy(prediction[part]).to(device)
            parts.append(_read(network, scale, counts, seen).exp().cpu().numpy())
    return np.concatenate(parts)


def _correction(raw: FloatArray, error: FloatArray, weights: str, seed: int) -> UncertaintyFacts:
    """The rising curve from predicted to measured errors, through knots of equal pixel counts."""
    chosen = _some_pixels(raw.size, seed)
    predicted, measured = raw.ravel()[chosen], error.ravel()[chosen]
    order = np.argsort(predicted)
    groups = np.array_split(order, KNOTS)
    x = np.array([predicted[group].mean() for group in groups], dtype=np.float64)
    y = np.array([measured[group].mean() for group in groups], dtype=np.float64)
    x = np.maximum.accumulate(x + np.arange(KNOTS) * 1e-9)
    fitted = isotonic_regression(y).x
    return UncertaintyFacts(weights=weights, predicted=tuple(x), measured=tuple(fitted))


def _some_pixels(count: int, seed: int) -> NDArray[np.int64]:
    if count <= PIXELS:
        return np.arange(count)
    return np.random.default_rng(seed).choice(count, PIXELS, replace=False)


def measure_calibration(
    run: Run, data: Dataset | None = None, split: str = "test", *, device: str = "auto"
) -> dict[str, object]:
    """How true the predicted errors are on a split.

    Returns
    -------
    dict
        `split`, `samples`, `curve` (one entry for each tenth of the pixels, from the most certain:
        `predicted` and `measured` error), `calibration_error` (mean distance of the two),
        `worst_tenth_share` (share of all error in the tenth of the pixels that is said to be worst;
        0.1 for a map that says nothing) and `sample_correlation` (between a sample's predicted and
        measured mean error, by rank).
    """
    from scipy.stats import spearmanr

    data = data or Dataset.open(run.config.data)
    predictor = Predictor(run, device=device)
    stacks, prediction, error = _read_split(predictor, data, split)
    model = ErrorModel(run, device)
    predicted = np.concatenate(
        [
            model.errors(stacks[start : start + 32], prediction[start : start + 32])
            for start in range(0, len(stacks), 32)
        ]
    )
    order = np.argsort(predicted, axis=None)
    groups = np.array_split(order, BINS)
    curve = [
        {
            "predicted": float(predicted.ravel()[group].mean()),
            "measured": float(error.ravel()[group].mean()),
        }
        for group in groups
    ]
    apart = [abs(point["predicted"] - point["measured"]) for point in curve]
    by_sample = spearmanr(predicted.mean(axis=(1, 2)), error.mean(axis=(1, 2))).statistic
    result: dict[str, object] = {
        "split": split,
        "samples": len(stacks),
        "curve": curve,
        "mean_error": float(error.mean()),
        "calibration_error": float(np.mean(apart)),
        "worst_tenth_share": float(error.ravel()[groups[-1]].sum() / max(error.sum(), 1e-12)),
        "sample_correlation": float(by_sample),
    }
    write_text(run.path / f"uncertainty_{split}.json", json.dumps(result, indent=1))
    _draw(run.path / f"uncertainty_{split}.png", curve)
    return result


def _draw(file: Path, curve: list[dict[str, float]]) -> None:
    figure = Figure(figsize=(4, 4), layout="constrained")
    axis = figure.subplots()
    predicted = [255 * point["predicted"] for point in curve]
    measured = [255 * point["measured"] for point in curve]
    highest = max(*predicted, *measured)
    axis.plot([0, highest], [0, highest], color="0.7", linewidth=1)
    axis.plot(predicted, measured, marker="o")
    axis.set(xlabel="error predicted (grey values)", ylabel="error measured (grey values)")
    figure.savefig(file, dpi=110)
