"""Teaching a network how far a run's predictions are off (`plsctl.models.uncertainty.error_model`).

It learns on the validation split, whose errors are those of images the staining network was not
trained on. Some positions of it are kept back to correct the scale (isotonic regression), and the
test split, which neither has seen, tells how true it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import isotonic_regression

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import Settings
from plsctl.acquire.files.whole_files import locked, write_whole
from plsctl.models.compute.placement import Compute
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import file_digest, write_tensors
from plsctl.models.runs.training_settings import LARGEST_SEED, TrainingSettings
from plsctl.models.training.trainer import Trainer
from plsctl.models.uncertainty.calibration import measure_calibration
from plsctl.models.uncertainty.error_model import (
    METADATA_FILE,
    WEIGHTS,
    ErrorNetwork,
    UncertaintyMetadata,
    corrected,
)
from plsctl.models.uncertainty.split_errors import SplitErrors, read_errors
from plsctl.models.uncertainty.task import LEAST_ERROR, ErrorTask
from plsctl.process.dataset.reader import Dataset

KEPT_BACK = 4
"""Every so many-th position of the validation split corrects the scale and is not learned from."""

KNOTS = 33
LIMITS = (0.5, 0.9, 0.99)
"""Shares of the pixels whose error stays below a limit."""

PIXELS = 400_000
"""Pixels that the correction is drawn from."""


class UncertaintySettings(Settings):
    """How the error network is trained."""

    steps: int = Field(default=400, ge=1)
    batch: int = Field(default=8, ge=1)
    rate: float = Field(default=1e-3, gt=0)
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)


def train_uncertainty(
    run: Run,
    data: Dataset | None = None,
    settings: UncertaintySettings | None = None,
    *,
    device: str = "auto",
    on_share: Callable[[float], None] = lambda share: None,
) -> dict[str, object]:
    """Train the error network of a run and measure it on the test split.

    Writes `uncertainty.safetensors` and `uncertainty.json`, and what `measure_calibration` writes,
    into the run folder.

    Returns
    -------
    dict
        As `measure_calibration`.

    Raises
    ------
    UserError
        If the run has no weights, the data set lacks validation or test samples, or another
        process trains in the run folder.
    """
    data = data or Dataset.open(run.config.data)
    settings = settings or UncertaintySettings()
    with locked(run.path, "Wait until it has ended."):
        predictor = Predictor(run, device=device, precision="float32")
        data.split("test", run.metadata.target)  # before the work, not after it
        found = read_errors(predictor, data, "validation")
        if len(found.stacks) < 2 * KEPT_BACK:
            raise UserError(
                f"the validation split has {len(found.stacks)} samples; uncertainty needs "
                f"{2 * KEPT_BACK} at least.",
                file=data.path,
                hint="Divide the samples with a larger one (plsctl dataset split), and train on "
                "them.",
            )
        kept = kept_back(found.positions)
        network = _fit(ErrorNetwork(run, predictor.device), settings, found, ~kept, on_share)
        raw = network.raw_errors(found.stacks[kept], found.prediction[kept])
        digest = file_digest(run.path / "best.safetensors")
        metadata = fit_correction(raw, found.error[kept], digest, settings.seed)
        # Killed in between, the run has no uncertainty rather than one of two parts.
        (run.path / METADATA_FILE).unlink(missing_ok=True)
        write_tensors(run.path / WEIGHTS, network.network.state_dict(), {})
        write_whole(run.path / METADATA_FILE, metadata.model_dump_json(indent=1))
        result = measure_calibration(run, data, device=device)
        on_share(1.0)
        return result


def kept_back(positions: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which samples correct the scale: those of every fourth position, or every fourth sample.

    Cells of one field share its light and focus, so that whole positions are kept where there are
    enough of them.
    """
    names, numbers = np.unique(positions, return_inverse=True)
    if len(names) < 2 * KEPT_BACK:
        numbers = np.arange(len(positions))
    return np.asarray(numbers % KEPT_BACK == 0)


def _fit(
    network: ErrorNetwork,
    settings: UncertaintySettings,
    found: SplitErrors,
    learned: NDArray[np.bool_],
    on_share: Callable[[float], None],
) -> ErrorNetwork:
    how = TrainingSettings(
        batch=settings.batch,
        learning_rate=settings.rate,
        betas=(0.9, 0.999),
        schedule="one_cycle",
        epochs=1,
        seed=settings.seed,
    )
    task = ErrorTask(how, network, found, learned, settings.steps)
    trainer = Trainer(
        how,
        task,
        Compute(network.device),
        on_step=lambda report: on_share(report.step / (report.steps + 1)),
    )
    trainer.train()
    network.network.eval()
    return network


def fit_correction(
    raw: FloatArray, error: FloatArray, weights: str, seed: int = 0
) -> UncertaintyMetadata:
    """The rising curve from predicted to measured errors, and limits that errors stay below.

    The curve goes through knots of equally many pixels each (isotonic regression).

    Parameters
    ----------
    raw, error
        Predicted and measured errors of the same pixels, any shape.
    """
    chosen = np.arange(raw.size)
    if raw.size > PIXELS:
        chosen = np.random.default_rng(seed).choice(raw.size, PIXELS, replace=False)
    predicted, measured = raw.ravel()[chosen], error.ravel()[chosen]
    groups = np.array_split(np.argsort(predicted), KNOTS)
    x = np.array([predicted[group].mean() for group in groups], dtype=np.float64)
    y = np.array([measured[group].mean() for group in groups], dtype=np.float64)
    x = np.maximum.accumulate(x + np.arange(KNOTS) * 1e-9)
    curve = UncertaintyMetadata(
        weights=weights, predicted=tuple(x), measured=tuple(isotonic_regression(y).x), limits={}
    )
    times = measured / np.maximum(corrected(predicted, curve), LEAST_ERROR / 4)
    limits = {str(share): float(np.quantile(times, share)) for share in LIMITS}
    return curve.model_copy(update={"limits": limits})
