"""The training loop: steps, validation, the best epoch, checkpoints after each of them."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from plsctl.acquire.errors import UserError
from plsctl.models.compute.choice import LAYOUTS, PRECISIONS
from plsctl.models.compute.device import autocast, choose_device
from plsctl.models.compute.processes import Processes
from plsctl.models.data.augmentation import LightAugmentation, array_symmetries
from plsctl.models.data.batches import (
    Batch,
    InputScale,
    SampleSource,
    epoch_order,
    to_colour,
    without_margin,
)
from plsctl.models.networks.features import VggFeatures
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import write_tensors
from plsctl.models.staining.adversary import Adversary
from plsctl.models.staining.checkpoint import (
    Progress,
    Row,
    StepReport,
    TrainingResult,
    load_checkpoint,
    save_checkpoint,
)
from plsctl.models.staining.losses import FeatureNetwork, Maps, weighted_loss
from plsctl.models.staining.perceptual import run_features
from plsctl.models.staining.validation import validate
from plsctl.models.training.curves import CurveFiles
from plsctl.models.training.epoch_log import EpochLog
from plsctl.models.training.pretrained import first_network
from plsctl.models.training.schedule import learning_rate, update_average
from plsctl.process.dataset.reader import Dataset


class Trainer:
    """A network, its optimiser and the data of one run."""

    def __init__(
        self,
        config: TrainingConfig,
        data: Dataset,
        run: Run,
        processes: Processes,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> None:
        if run.facts.compute is None:
            raise ValueError("the run was not prepared for training")
        self.config = config
        self.run = run
        self.processes = processes
        self.device = processes.device(choose_device(config.device))
        self.dtype = PRECISIONS[run.facts.compute.precision]
        self.layout = LAYOUTS[run.facts.compute.memory_format]
        self.train_data, self.validation = (self._source(data, x) for x in ("train", "validation"))
        self.scale = InputScale(run.facts.normalisation).to(self.device)
        symmetries = array_symmetries(config, data)
        self.augmentation = LightAugmentation(symmetries) if symmetries else None
        self.losses = weighted_loss(
            config.losses, self._perceptual_network(), config.tolerate_shift_px
        )
        self.random = torch.Generator()
        network = first_network(config, run.facts.channels, self._last.is_file())
        self.network = network.to(self.device).to(memory_format=self.layout)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network) if config.average else None
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, betas=config.betas, fused=True
        )
        self.adversary = (
            Adversary(data.crop_px, config.betas, config.seed, self.device, processes, self.dtype)
            if config.losses.adversarial
            else None
        )
        self.progress = Progress()
        self._on_step = on_step
        if self._last.is_file():
            self.progress = load_checkpoint(
                self._last, self.network, self.average, self.optimiser, self.adversary
            )
        # What is called in training; names and weights are those of `network`.
        self.shared: Callable[[Tensor], Tensor] = processes.wrapped(self.network)
        if config.compile:
            self.shared = torch.compile(self.shared)
        self.curve = (
            CurveFiles(run.path, self.progress.epoch, config.tensorboard)
            if processes.first
            else None
        )

    def _perceptual_network(self) -> FeatureNetwork | None:
        """The network of the perceptual loss; maps of targets that stay as they are are kept."""
        network = run_features(self.run)
        if network is None:
            return None
        # Forward and the gradient of the image: this order measures faster on every processor.
        network.to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def features(image: Tensor) -> Maps:
            with autocast(self.device, self.dtype):
                found: Maps = network(image)
            return found

        # Other networks than VGG19 take less time than their maps take to be read.
        moved = self.augmentation is not None or self.config.tolerate_shift_px
        if isinstance(network, VggFeatures) and not moved:
            for source in (self.train_data, self.validation):
                source.keep_maps(features, self.config.memory_gb / 2)
        return features

    def _source(self, data: Dataset, split: str) -> SampleSource:
        config, facts = self.config, self.run.facts
        images = data.channels_of(facts.labels)
        return SampleSource(
            data,
            split,
            images,
            config.target,
            config.memory_gb,
            facts.margin_px,
            self.device,
            config.train_share if split == "train" else 1.0,
        )

    @property
    def _last(self) -> Path:
        return self.run.path / "last.safetensors"

    @property
    def _steps_per_epoch(self) -> int:
        return -(-len(self.train_data) // self.config.batch_size)

    def fit(self, on_epoch: Callable[[Row], None] | None = None) -> TrainingResult:
        """Train until the epochs, the time or the patience are used up."""
        while (reason := self._finished()) is None:
            row = self._epoch()
            self._note(row)
            if on_epoch is not None:
                on_epoch(row)
        if self.curve is not None:
            self.curve.draw(self.progress.history)
        best = self.progress.history[self.progress.best_epoch - 1]
        return TrainingResult(
            self.run.path,
            self.progress.epoch,
            self.progress.best_epoch,
            self.progress.seconds,
            reason,
            {name: value for name, value in best.items() if name.startswith("validation")},
        )

    @property
    def _all_steps(self) -> int:
        """Steps of the whole run, unless time or patience end it before."""
        steps = self.config.epochs * self._steps_per_epoch
        return steps if self.config.steps is None else min(steps, self.config.steps)

    def _finished(self) -> str | None:
        done = self.progress
        if self.config.steps is not None and done.step >= self.config.steps:
            return "steps"
        if done.epoch >= self.config.epochs:
            return "epochs"
        if self.config.minutes is not None and done.seconds >= 60 * self.config.minutes:
            return "time"
        if done.epoch - done.best_epoch >= self.config.patience:
            return "patience"
        return None

    def _share(self, began: float) -> float:
        """How much of the run is done, by steps or by time, whichever ends first."""
        share = self.progress.step / self._all_steps
        if self.config.minutes is not None:
            seconds = self.processes.from_first(time.perf_counter() - began, self.device)
            share = max(share, seconds / (60 * self.config.minutes))
        return min(share, 1.0)

    def _epoch(self) -> Row:
        config, progress = self.config, self.progress
        began = time.perf_counter() - progress.seconds
        order = epoch_order(len(self.train_data), config.seed, progress.epoch)
        # What is drawn within an epoch is the same whenever that epoch is run; of dropout every
        # process draws its own, of augmentation all draw for the whole batch.
        seed = config.seed + (progress.epoch + 1) * 1_000_003
        self.random.manual_seed(seed)
        torch.manual_seed(seed + self.processes.rank)
        log = EpochLog(self.processes, self._diverged)
        self.network.train()
        rate, first, taken, started = 0.0, progress.step, 0, time.perf_counter()
        for batch in self.train_data.batches(order, config.batch_size, self.processes):
            share = self._share(began)
            if share >= 1 and progress.step > first:  # one step at least: it cannot be for nothing
                break
            rate = learning_rate(config, share)
            terms = self._step(batch, rate)
            progress.step += 1
            taken += batch.size
            log.add(progress.step, terms, batch.size, batch.weight)
            if self.average is not None:
                update_average(self.average, self.network, config.average, progress.step)
            if self._on_step is not None:
                spent = time.perf_counter() - started
                self._on_step(
                    StepReport(progress.step, self._all_steps, share, log.loss, taken / spent)
                )
        trained = log.means()
        progress.epoch += 1
        row: Row = {"epoch": progress.epoch, "learning_rate": rate}
        row |= {f"train_{name}": value for name, value in trained.items()}
        row |= {f"validation_{name}": value for name, value in self._validate().items()}
        progress.seconds = self.processes.from_first(time.perf_counter() - began, self.device)
        return row | {"seconds": progress.seconds}

    def _diverged(self, loss: float, step: int) -> UserError:
        return diverged(loss, step, self.run.path, self.config, self.progress)

    def _step(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        scaled, wanted = self.scale(batch.stacks), to_colour(batch.targets)
        if self.augmentation is None:
            prediction = self._predict(self.shared, scaled)
        else:
            drawn = self.augmentation.draw(batch.size, self.random)
            mine = torch.from_numpy(self.processes.share(drawn.numpy()))
            scaled, wanted, valid = self.augmentation(scaled, wanted, mine)
            prediction = self._predict(self.shared, scaled)
            # What a turn brought in is not asked for.
            prediction = torch.where(valid, prediction, wanted)
        terms = self.losses(prediction, wanted, batch.maps)
        if self.adversary is not None:
            weight = self.config.losses.adversarial
            terms["adversarial"] = weight * self.adversary.generator_loss(prediction, wanted)
            terms["loss"] = terms["loss"] + terms["adversarial"]
        self.optimiser.zero_grad(set_to_none=True)
        (terms["loss"] * batch.weight).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if self.adversary is not None:
            slower = rate / self.config.learning_rate
            terms["discriminator"] = self.adversary.update(
                prediction, wanted, self.config.discriminator_rate * slower, batch.weight
            )
        return terms

    def _predict(self, network: Callable[[Tensor], Tensor], scaled: Tensor) -> Tensor:
        """Colours of the crop without its margin."""
        with autocast(self.device, self.dtype):
            prediction = network(scaled.contiguous(memory_format=self.layout))
        return without_margin(prediction, self.run.facts.margin_px).float()

    def _validate(self) -> dict[str, float]:
        network = (self.average or self.network).eval()
        self.processes.align_buffers(network)

        def predict(stacks: Tensor) -> Tensor:
            return self._predict(network, self.scale(stacks))

        batch = self.config.batch_size
        return validate(self.validation, predict, self.losses, batch, self.processes)

    def _note(self, row: Row) -> None:
        """Take an epoch into the curve, and write the checkpoint and the curve."""
        progress = self.progress
        if not math.isfinite(row["validation_loss"]):
            raise self._diverged(row["validation_loss"], progress.step)
        progress.history.append(row)
        better = row["validation_loss"] < progress.best_loss
        if better:
            progress.best_loss, progress.best_epoch = row["validation_loss"], progress.epoch
        if self.curve is None:
            return
        if better:
            best = self.average or self.network
            file = self.run.path / "best.safetensors"
            write_tensors(file, best.state_dict(), {"epoch": progress.epoch})
        save_checkpoint(
            self._last, self.network, self.average, self.optimiser, self.adversary, progress
        )
        self.curve.write(progress.history)


def diverged(
    value: float, step: int, folder: Path, config: TrainingConfig, progress: Progress
) -> UserError:
    """The error that names the step, what is kept and the remedy."""
    finished = len(progress.history)
    kept = f"The weights up to epoch {finished} are kept in {folder}. " if finished else ""
    return UserError(
        f"the loss became {value} in epoch {finished + 1}, step {step}.",
        hint=f"{kept}Train into another folder with a lower --learning-rate "
        f"(now {config.learning_rate:g}) or with --precision float32.",
    )
