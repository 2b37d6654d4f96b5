"""The training loop of any task: steps, validation, the best epoch, checkpoints after each of them.

What is trained, on which data and by which losses is the task's matter
(`plsctl.models.training.task`).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor

from plsctl.acquire.errors import UserError
from plsctl.models.compute.placement import Compute
from plsctl.models.compute.processes import ALONE, Processes
from plsctl.models.runs.tensors import (
    load_weights,
    optimiser_tensors,
    restore_optimiser,
    write_tensors,
)
from plsctl.models.runs.training_settings import TrainingSettings
from plsctl.models.training.checkpoint import (
    Progress,
    Row,
    StepReport,
    TrainingResult,
    load_checkpoint,
    save_checkpoint,
)
from plsctl.models.training.curves import CurveFiles
from plsctl.models.training.epoch_log import EpochLog
from plsctl.models.training.schedule import group_settings, update_average
from plsctl.models.training.task import Batches, Task, epoch_seed


class Trainer(Generic[Batches]):
    """A task's network and its optimiser, and where its training stands.

    Parameters
    ----------
    compute
        Where and in which format the network is trained.
    processes
        Those that share every batch.
    folder
        Of the checkpoints and the curve; None keeps nothing.
    on_step
        Called after each step.

    Raises
    ------
    UserError
        If the folder's checkpoint is damaged or of another network.
    """

    def __init__(
        self,
        config: TrainingSettings,
        task: Task[Batches],
        compute: Compute,
        *,
        processes: Processes = ALONE,
        folder: Path | None = None,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> None:
        self.config = config
        self.task = task
        self.compute = compute
        self.processes = processes
        self.folder = folder
        resumed = folder is not None and _last(folder).is_file()
        torch.manual_seed(config.seed)
        self.network = compute.place(task.network(resumed))
        self.average = copy.deepcopy(self.network) if config.average else None
        self.optimiser = task.optimiser(self.network)
        self.opponent = task.opponent()
        self.progress = Progress()
        self._on_step = on_step
        self._loss: float | None = None
        if folder is not None and resumed:
            self._restore(_last(folder))
        # What is called in training; names and weights are those of `network`.
        self.shared: Callable[[Any], Tensor] = processes.wrapped(self.network)
        if config.compile:
            self.shared = torch.compile(self.shared)
        self.curve = (
            CurveFiles(folder, self.progress.epoch, config.tensorboard, task.drawn, task.shown)
            if folder is not None and processes.first
            else None
        )

    def _restore(self, file: Path) -> None:
        parts, self.progress = load_checkpoint(file)
        load_weights(self.network, parts.get("network", {}), file)
        if self.average is not None:
            load_weights(self.average, parts.get("average", {}), file)
        restore_optimiser(self.optimiser, parts.get("optimiser", {}))
        if self.opponent is not None:
            self.opponent.restore(parts.get("adversary", {}))
        self.task.restore(parts.get("task", {}))

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        """Everything that continues the run, by the names it has in the checkpoint."""
        parts = {
            "network": self.network.state_dict(),
            "optimiser": optimiser_tensors(self.optimiser, ""),
            "task": self.task.tensors(),
        }
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        if self.opponent is not None:
            parts["adversary"] = self.opponent.tensors()
        return parts

    def fit(self, on_epoch: Callable[[Row], None] | None = None) -> TrainingResult:
        """Train until the epochs, the time or the patience are used up."""
        if self.folder is None:
            raise ValueError("a training in memory has no run folder: call train()")
        reason = self.train(on_epoch)
        if self.curve is not None:
            self.curve.draw(self.progress.history)
        best = self.progress.history[self.progress.best_epoch - 1]
        split = "validation" if self.task.validation_samples else "train"
        return TrainingResult(
            self.folder,
            self.progress.epoch,
            self.progress.best_epoch,
            self.progress.seconds,
            reason,
            {name: value for name, value in best.items() if name.startswith(split)},
        )

    def train(self, on_epoch: Callable[[Row], None] | None = None) -> str:
        """Run the epochs; what ended them: "epochs", "steps", "time" or "patience"."""
        while (reason := self._finished()) is None:
            row = self._epoch()
            self._note(row)
            if on_epoch is not None:
                on_epoch(row)
        return reason

    @property
    def _all_steps(self) -> int:
        """Steps of the whole run, unless time or patience end it before."""
        steps = self.config.epochs * self.task.steps_per_epoch
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
            seconds = self.processes.from_first(time.perf_counter() - began, self.compute.device)
            share = max(share, seconds / (60 * self.config.minutes))
        return min(share, 1.0)

    def _epoch(self) -> Row:
        config, progress = self.config, self.progress
        began = time.perf_counter() - progress.seconds
        # Of dropout every process draws its own.
        torch.manual_seed(epoch_seed(config.seed, progress.epoch) + self.processes.rank)
        log = EpochLog(self.processes, self._diverged, self._loss)
        self.network.train()
        rate, first, taken, started = 0.0, progress.step, 0, time.perf_counter()
        for batch in self.task.batches(progress.epoch, self.processes):
            share = self._share(began)
            if share >= 1 and progress.step > first:  # one step at least: it cannot be for nothing
                break
            rate = self._set_rate(share)
            terms = self._step(batch)
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
        self._loss = log.loss
        progress.epoch += 1
        row: Row = {"epoch": progress.epoch, "learning_rate": rate}
        row |= {f"train_{name}": value for name, value in trained.items()}
        row |= {f"validation_{name}": value for name, value in self._validate().items()}
        device = self.compute.device
        progress.seconds = self.processes.from_first(time.perf_counter() - began, device)
        return row | {"seconds": progress.seconds}

    def _diverged(self, loss: float, step: int) -> UserError:
        return diverged(loss, step, self.folder, self.config, self.progress)

    def _set_rate(self, share: float) -> float:
        settings = group_settings(self.config, share, self.progress.step, self._all_steps)
        for group in self.optimiser.param_groups:
            group.update(settings)
        return float(self.optimiser.param_groups[0]["lr"])

    def _step(self, batch: Batches) -> dict[str, Tensor]:
        output, wanted, terms = self.task.step(self.shared, batch)
        if self.opponent is not None:
            terms["adversarial"] = self.opponent.generator_loss(output, wanted)
            terms["loss"] = terms["loss"] + terms["adversarial"]
        self.optimiser.zero_grad(set_to_none=True)
        (terms["loss"] * batch.weight).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if self.opponent is not None:
            slower = self.optimiser.param_groups[0]["lr"] / self.config.learning_rate
            terms["discriminator"] = self.opponent.update(output, wanted, slower, batch.weight)
        return terms

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Means over the validation split, each process taking its share."""
        count = self.task.validation_samples
        if not count:
            return {}
        network = (self.network if self.average is None else self.average).eval()
        self.processes.align_buffers(network)
        total: dict[str, Tensor] = {}
        for batch in self.task.validation_batches(self.processes):
            for name, value in self.task.scores(network, batch).items():
                share = value.double() * (batch.weight * batch.size / count)
                total[name] = total[name] + share if name in total else share
        means = self.processes.mean(torch.stack(list(total.values())))
        return dict(zip(total, means.tolist(), strict=True))

    def _note(self, row: Row) -> None:
        """Take an epoch into the curve, and write the checkpoint and the curve."""
        progress = self.progress
        loss = row.get("validation_loss", row["train_loss"])
        if not math.isfinite(loss):
            raise self._diverged(loss, progress.step)
        progress.history.append(row)
        score = self.task.best
        value = row.get(score.column, loss)
        value = -value if score.higher_is_better else value
        better = value < progress.best_loss
        if better:
            progress.best_loss, progress.best_epoch = value, progress.epoch
        if self.curve is None or self.folder is None:
            return
        if better:
            best = self.network if self.average is None else self.average
            file = self.folder / "best.safetensors"
            write_tensors(file, best.state_dict(), {"epoch": progress.epoch})
        save_checkpoint(_last(self.folder), self._parts(), progress)
        self.curve.write(progress.history)


def _last(folder: Path) -> Path:
    """The checkpoint after the last finished epoch."""
    return folder / "last.safetensors"


def diverged(
    value: float, step: int, folder: Path | None, config: TrainingSettings, progress: Progress
) -> UserError:
    """The error that names the step, what is kept and the remedy."""
    if folder is None:
        return UserError(
            f"the loss became {value} in step {step}.",
            hint=f"Check the data, or train with a lower rate (now {config.learning_rate:g}).",
        )
    finished = len(progress.history)
    kept = f"The weights up to epoch {finished} are kept in {folder}. " if finished else ""
    return UserError(
        f"the loss became {value} in epoch {finished + 1}, step {step}.",
        hint=f"{kept}Train into another folder with a lower --learning-rate "
        f"(now {config.learning_rate:g}) or with --precision float32.",
    )
