"""Training a named model, or going on with a run that was stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch

from plsctl.models.compute.device import (
    choose_device,
    compiler_errors,
    keep_freed_memory,
    memory_errors,
)
from plsctl.models.compute.processes import launched_processes
from plsctl.models.runs.anew import only_training
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.run import Run
from plsctl.models.staining.preparation import check_training, prepare_run
from plsctl.models.staining.task import open_stain_task
from plsctl.models.training.checkpoint import Row, StepReport, TrainingResult
from plsctl.models.training.curves import require_tensorboard
from plsctl.models.training.trainer import Trainer
from plsctl.process.dataset.reader import Dataset


def train(
    config: TrainingConfig,
    *,
    fresh: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> TrainingResult:
    """Train a model, or go on with a run that was stopped.

    After every epoch everything that continues the run is written in one file, so a run killed
    at any moment repeats at most one epoch; the order of the samples depends on seed and epoch
    only, so that the curve is the one of a run that was not stopped. (With `minutes` and a
    cosine schedule the rate follows the clock, and the curve the machine.) Begun by `torchrun`,
    its processes share every batch, and the first of them writes the files.

    Parameters
    ----------
    config
        What to train; `config.out` becomes the run folder.
    fresh
        Throw a run of the same name away instead of continuing it.
    on_epoch
        Called with the row of the curve after each epoch, in the first process.
    on_step
        Called after each step with how far the run has come, in the first process.
    on_phase
        Called with what is done next, in words, in the first process.

    Raises
    ------
    UserError
        If the data do not fit the request, the folder holds a run with other settings or data, or
        another process trains in it; the loss becomes NaN, memory runs out, or torch.compile
        fails. The last good checkpoint stays.
    """
    if config.tensorboard:
        require_tensorboard()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    data = Dataset.open(config.data)
    device = choose_device(config.device)
    keep_freed_memory(device)
    advice = (
        f"Begin anew (--fresh) with a smaller batch (--batch {max(1, config.batch_size // 2)}), "
        "fewer images or a smaller --width; or, where another program took it, run the same "
        "command again: finished epochs are kept."
    )
    with (
        launched_processes(device) as processes,
        compiler_errors(config.compile),
        memory_errors(advice),
        ExitStack() as held,
    ):
        with processes.first_goes_ahead():
            # One writes; the others would tear each other's files apart.
            if processes.first:
                check_training(config, data, fresh)
                held.enter_context(only_training(config.out))
                on_phase("measuring the scale of the images")
                run = prepare_run(config, data, fresh)
            else:
                run = Run.open(config.out)
        if not processes.first:
            task = open_stain_task(config, data, run, processes)
            return Trainer(config, task, task.compute, processes=processes, folder=run.path).fit()
        on_phase("reading the samples")
        task = open_stain_task(config, data, run, processes)
        trainer = Trainer(
            config, task, task.compute, processes=processes, folder=run.path, on_step=on_step
        )
        on_phase("training")
        return trainer.fit(on_epoch)
