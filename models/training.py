"""Training a named model: the loop, its checkpoints, and going on after a stop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plsctl.models.adversary import Adversary
from plsctl.models.augmentation import LightAugmentation, array_symmetries
from plsctl.models.averaging import update_average
from plsctl.models.checkpoint import Progress, Row, load_checkpoint, save_checkpoint
from plsctl.models.config import TrainingConfig
from plsctl.models.curves import draw_curves, write_curves
from plsctl.models.data import SampleSource, epoch_order, to_colour, to_counts
from plsctl.models.device import autocast, choose_device, choose_precision, memory_errors
from plsctl.models.divergence import diverged
from plsctl.models.losses import weighted_loss
from plsctl.models.metrics import METRICS
from plsctl.models.networks import Generator
from plsctl.models.preparation import prepare_run, run_features
from plsctl.models.run import Run, build_network, write_tensors
from plsctl.models.schedule import learning_rate
from plsctl.process.dataset import Dataset

DRAW_EVERY_S = 30


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of `train`."""

    run: Path
    epochs: int
    best_epoch: int
    seconds: float
    stopped: str
    metrics: Row

    def as_dict(self) -> dict[str, object]:
        """The fields that `plsctl train --json` prints."""
        return {
            "run": str(self.run),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 1),
            "stopped": self.stopped,
            "metrics": self.metrics,
        }


def train(
    config: TrainingConfig,
    *,
    fresh: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
    on_batch: Callable[[float], None] | None = None,
) -> TrainingResult:
    """Train a model, or go on with a run that was stopped.

    After every epoch everything that continues the run is written in one file, so a run killed
    at any moment repeats at most one epoch; the order of the samples depends on seed and epoch
    only, so that the curve is the one of a run that was not stopped. (With `minutes` and a
    cosine schedule the rate follows the clock, and the curve the machine.)

    Parameters
    ----------
    config
        What to train; `config.out` becomes the run folder.
    fresh
        Throw a run of the same name away instead of continuing it.
    on_epoch
        Called with the row of the curve after each epoch.
    on_batch
        Called with the share of the run that is done, in [0, 1].

    Raises
    ------
    UserError
        If the data do not fit the request, the folder holds a run with other settings, the loss
        becomes NaN, or memory runs out. The last good checkpoint stays.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    data = Dataset.open(config.data)
    run = prepare_run(config, data, fresh)
    advice = (
        f"Run again with a smaller batch (--batch {max(1, config.batch_size // 2)}), fewer "
        "images or a smaller --width; finished epochs are kept."
    )
    with memory_errors(advice):
        return Trainer(config, data, run, on_batch).fit(on_epoch)


class Trainer:
    """A network, its optimiser and the data of one run."""

    def __init__(
        self,
        config: TrainingConfig,
        data: Dataset,
        run: Run,
        on_batch: Callable[[float], None] | None = None,
    ) -> None:
        self.config = config
        self.run = run
        self.device = choose_device(config.device)
        self.dtype = choose_precision(config.precision, self.device)
        images = data.channels_of(run.facts.labels)
        self.train_data = SampleSource(data, "train", images, config.target, config.memory_gb)
        self.validation = SampleSource(data, "validation", images, config.target, config.memory_gb)
        features = run_features(run, self.train_data)
        self.losses = weighted_loss(
            config.losses,
            None if features is None else features.to(self.device),
            config.tolerate_shift_px,
        )
        symmetries = array_symmetries(config, data)
        self.augmentation = LightAugmentation(symmetries) if symmetries else None
        self.network = self._new_network()
        self.average = copy.deepcopy(self.network) if config.average else None
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, betas=config.betas
        )
        self.adversary = (
            Adversary(data.crop_px, config.betas, config.seed, self.device)
            if config.losses.adversarial
            else None
        )
        self.progress = Progress()
        self._on_batch = on_batch
        self._drawn = time.monotonic()
        if self._last.is_file():
            self.progress = load_checkpoint(
                self._last, self.network, self.average, self.optimiser, self.adversary
            )

    @property
    def _last(self) -> Path:
        return self.run.path / "last.safetensors"

    @property
    def _steps_per_epoch(self) -> int:
        return -(-len(self.train_data) // self.config.batch_size)

    def _new_network(self) -> Generator:
        torch.manual_seed(self.config.seed)
        network = build_network(self.config, self.run.facts.channels)
        if self.config.from_run is not None and not self._last.is_file():
            start = Run.open(self.config.from_run).network()
            network.load_state_dict(start.state_dict())
        return network.to(self.device)

    def fit(self, on_epoch: Callable[[Row], None] | None = None) -> TrainingResult:
        """Train until the epochs, the time or the patience are used up."""
        while (reason := self._finished()) is None:
            row = self._epoch()
            self._checkpoint(row)
            if on_epoch is not None:
                on_epoch(row)
        draw_curves(self.run.path / "curves.png", self.progress.history)
        best = self.progress.history[self.progress.best_epoch - 1]
        return TrainingResult(
            self.run.path,
            self.progress.epoch,
            self.progress.best_epoch,
            self.progress.seconds,
            reason,
            {name: value for name, value in best.items() if name.startswith("validation")},
        )

    def _finished(self) -> str | None:
        done = self.progress
        if done.epoch >= self.config.epochs:
            return "epochs"
        if self.config.minutes is not None and done.seconds >= 60 * self.config.minutes:
            return "time"
        if done.epoch - done.best_epoch >= self.config.patience:
            return "patience"
        return None

    def _share(self, seconds: float) -> float:
        """How much of the run is done, by steps or by time, whichever ends first."""
        share = self.progress.step / (self.config.epochs * self._steps_per_epoch)
        if self.config.minutes is not None:
            share = max(share, seconds / (60 * self.config.minutes))
        return min(share, 1.0)

    def _epoch(self) -> Row:
        config, progress = self.config, self.progress
        began = time.perf_counter() - progress.seconds
        order = epoch_order(len(self.train_data), config.seed, progress.epoch)
        # What is drawn within an epoch (dropout) is the same whenever that epoch is run.
        torch.manual_seed(config.seed + (progress.epoch + 1) * 1_000_003)
        sums: dict[str, float] = {}
        seen = 0
        self.network.train()
        rate = 0.0
        for stacks, targets in self.train_data.batches(order, config.batch_size):
            share = self._share(time.perf_counter() - began)
            if share >= 1:
                break
            rate = learning_rate(config, share)
            terms = self._step(stacks, targets, rate)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value * len(stacks)
            seen += len(stacks)
            if self._on_batch is not None:
                self._on_batch(share)
        progress.epoch += 1
        row: Row = {"epoch": progress.epoch, "learning_rate": rate}
        row |= {f"train_{name}": total / max(seen, 1) for name, total in sums.items()}
        row |= {f"validation_{name}": value for name, value in self._validate().items()}
        progress.seconds = time.perf_counter() - began
        return row | {"seconds": progress.seconds}

    def _step(self, stacks: Tensor, targets: Tensor, rate: float) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        scaled, wanted = self._scaled(stacks), to_colour(targets.to(self.device))
        if self.augmentation is None:
            prediction = self._predict(self.network, scaled)
        else:
            scaled, wanted, valid = self.augmentation(scaled, wanted)
            prediction = self._predict(self.network, scaled)
            # What a turn brought in is not asked for.
            prediction = torch.where(valid, prediction, wanted)
        terms = self.losses(prediction, wanted)
        if self.adversary is not None:
            weight = self.config.losses.adversarial
            terms["adversarial"] = weight * self.adversary.generator_loss(prediction, wanted)
            terms["loss"] = terms["loss"] + terms["adversarial"]
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            raise diverged(values["loss"], self.run.path, self.config, self.progress)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if self.adversary is not None:
            slower = rate / self.config.learning_rate
            values["discriminator"] = self.adversary.update(
                prediction, wanted, self.config.discriminator_rate * slower
            )
        self.progress.step += 1
        if self.average is not None:
            update_average(self.average, self.network, self.config.average, self.progress.step)
        return values

    def _scaled(self, stacks: Tensor) -> Tensor:
        return self.run.facts.normalisation.apply(stacks.to(self.device))

    def _predict(self, network: Generator, scaled: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            prediction: Tensor = network(scaled)
        return prediction.float()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        network = (self.average or self.network).eval()
        sums: dict[str, float] = {}
        order = np.arange(len(self.validation))
        for stacks, targets in self.validation.batches(order, self.config.batch_size):
            prediction = self._predict(network, self._scaled(stacks))
            terms = self.losses(prediction, to_colour(targets.to(self.device)))
            values = {name: float(value) for name, value in terms.items()}
            counts = to_counts(prediction).cpu().numpy()
            values["ssim"] = float(METRICS["ssim"](counts, targets.numpy()).mean())
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value * len(stacks)
        return {name: total / len(order) for name, total in sums.items()}

    def _checkpoint(self, row: Row) -> None:
        progress = self.progress
        progress.history.append(row)
        if not math.isfinite(row["validation_loss"]):
            raise diverged(row["validation_loss"], self.run.path, self.config, progress)
        if row["validation_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = row["validation_loss"], progress.epoch
            best = self.average or self.network
            write_tensors(
                self.run.path / "best.safetensors", best.state_dict(), {"epoch": progress.epoch}
            )
        save_checkpoint(
            self._last, self.network, self.average, self.optimiser, self.adversary, progress
        )
        write_curves(self.run.path / "curve.csv", progress.history)
        # Drawing takes longer than a short epoch: now and then is enough for looking on.
        if time.monotonic() - self._drawn > DRAW_EVERY_S:
            draw_curves(self.run.path / "curves.png", progress.history)
            self._drawn = time.monotonic()
