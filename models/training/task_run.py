"""A run folder for any task: made or recognised, and trained in.

config.yaml            repeats the run
task.json              what the task says of itself and its data
best.safetensors       weights of the best epoch
last.safetensors       everything that continues the run after its last finished epoch
curve.csv, curves.png  one row an epoch
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch

from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.settings import load_settings
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.compute.device import (
    choose_device,
    choose_precision,
    compiler_errors,
    keep_freed_memory,
    memory_errors,
)
from plsctl.models.compute.placement import LAYOUTS, Compute
from plsctl.models.compute.processes import Processes, launched_processes
from plsctl.models.runs.anew import (
    begun_anew,
    entries,
    holds_old_run,
    only_training,
    refuse_loss,
)
from plsctl.models.runs.training_settings import TrainingSettings
from plsctl.models.training.checkpoint import Row, StepReport, TrainingResult
from plsctl.models.training.curves import require_tensorboard
from plsctl.models.training.task import Batches, Task
from plsctl.models.training.trainer import Trainer

MARK = "task.json"
"""The file that makes a folder a run."""


def train_task(
    config: TrainingSettings,
    open_task: Callable[[Compute, Processes], Task[Batches]],
    *,
    fresh: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> TrainingResult:
    """Train a task in a run folder, or go on with a run that was stopped.

    Parameters
    ----------
    config
        `out` becomes the run folder.
    open_task
        Opens the data and gives the task; what it raises is raised before a folder is made.
    fresh
        Throw a run of the same name away instead of continuing it.
    on_epoch, on_step
        Called after each epoch and step, in the first process.

    Raises
    ------
    UserError
        If the folder holds a run with other settings or data, the loss becomes NaN, memory runs
        out, or torch.compile fails. The last good checkpoint stays.
    """
    if config.out is None:
        raise ValueError("a run needs a folder")
    if config.tensorboard:
        require_tensorboard()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    keep_freed_memory(device)
    advice = f"Begin anew with a smaller batch ({max(1, config.batch_size // 2)})."
    with (
        launched_processes(device) as processes,
        compiler_errors(config.compile),
        memory_errors(advice),
        ExitStack() as held,
    ):
        compute = Compute(
            processes.device(device),
            choose_precision(config.precision, device),
            LAYOUTS.get(config.memory_format, torch.contiguous_format),
            config.memory_format == "winograd",
        )
        with processes.first_goes_ahead():
            task = open_task(compute, processes)
            if processes.first:
                check_folder(config.out, fresh)
                held.enter_context(only_training(config.out, MARK))
                open_folder(config.out, config, task.metadata, fresh)
            else:
                on_epoch = on_step = None
        trainer = Trainer(
            config, task, compute, processes=processes, folder=config.out, on_step=on_step
        )
        return trainer.fit(on_epoch)


def open_folder(
    folder: Path, config: TrainingSettings, metadata: Mapping[str, object], fresh: bool
) -> None:
    """Make the run folder, or find that it holds the beginning of the same run.

    Raises
    ------
    UserError
        If it holds a run with other settings or data, or something else.
    """
    check_folder(folder, fresh)
    file = folder / MARK
    text = json.dumps(metadata, indent=1)
    begun = file.is_file()
    if begun and not fresh:
        config.require_same(load_settings(folder / "config.yaml", type(config)), folder)
        if file.read_text(encoding="utf-8") != text:
            raise UserError(
                f"the run {folder} was begun on other data.",
                field="data",
                hint="Give the same data set to continue it, another folder, or begin it anew.",
            )
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with begun_anew(folder, MARK) if begun and fresh else nullcontext():
        write_whole(folder / "config.yaml", config.to_yaml(folder))
        # Last: a folder with this file is a run that can be continued.
        write_whole(file, text)


def check_folder(folder: Path, fresh: bool) -> None:
    """Raise UserError where a run cannot lie in a folder, or cannot be begun anew there."""
    if fresh:
        refuse_loss(folder, {})
    if not (folder / MARK).is_file() and folder.exists() and not _is_free(folder):
        raise UserError(f"{folder} exists and is not a run folder.", hint="Choose another one.")


def _is_free(folder: Path) -> bool:
    """Whether a folder is empty, or was left before its run began."""
    if not folder.is_dir():
        return False
    names = [path.name for path in entries(folder)]
    return holds_old_run(folder) or names in ([], ["config.yaml"])
