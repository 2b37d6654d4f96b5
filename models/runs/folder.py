"""Reading and checking a run folder, before torch is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location, real_path
from plsctl.acquire.files.mistakes import mistake_in_data
from plsctl.acquire.files.settings import load_settings
from plsctl.models.runs.anew import entries, holds_old_run, lies_in, refuse_loss
from plsctl.models.runs.config import BUILT_IN_PERCEPTUAL, TrainingConfig, read_config
from plsctl.models.runs.metadata import VERSION, RunMetadata
from plsctl.process.dataset.reader import Dataset

DEVICES = ("auto", "cpu", "cuda")


def read_run(folder: Path) -> tuple[TrainingConfig, RunMetadata]:
    """Settings and metadata of a run folder.

    Raises
    ------
    UserError
        If it is none, or another version wrote it.
    """
    file = folder / "facts.json"
    if not file.is_file():
        if holds_old_run(folder):
            raise UserError(
                f"the run {folder} was being begun anew when that was stopped.",
                hint="Run the same `plsctl train` again; without --fresh the old run goes on.",
            )
        missing = "" if folder.exists() else ": it does not exist"
        raise UserError(
            f"{folder} is not a run folder{missing}.",
            hint="Name one, or make one with `plsctl train`.",
        )
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(
            "the run cannot be read: this file is damaged.",
            file=file,
            hint="Take it from a copy, or train the run again with --fresh.",
        ) from None
    if content.get("version") != VERSION:
        raise UserError(
            f"the run has version {content.get('version')}, this plsctl reads {VERSION}.",
            file=file,
            hint="Train it again, or use the plsctl that wrote it.",
        )
    try:
        metadata = RunMetadata.model_validate(content)
    except ValidationError as error:
        field, mistake = mistake_in_data(error)
        raise UserError(
            f"the run cannot be read: {mistake}.",
            file=file,
            field=field,
            hint="Take it from a copy, or train the run again with --fresh.",
        ) from None
    config = read_config(folder / "config.yaml")
    return config.model_copy(update={"data": _data_of(folder, config, metadata)}), metadata


def _data_of(folder: Path, config: TrainingConfig, metadata: RunMetadata) -> Path:
    """Where the data set of a run lies now: seen from the run, or where it lay in training.

    Runs of before tell it as it was seen from the folder in which training was begun.
    """
    told = load_settings(folder / "config.yaml", TrainingConfig).data
    places = [config.data, location(metadata.data), location(told)]
    return next((place for place in places if (place / "zarr.json").exists()), config.data)


def open_data(folder: Path, config: TrainingConfig, data: Path | None = None) -> Dataset:
    """The data set that a command names for a run, or that the run was trained on.

    Raises
    ------
    UserError
        It is not where it lay, neither seen from the run nor on this machine; or it is none.
    """
    if data is None and not (config.data / "zarr.json").exists():
        raise UserError(
            f"the data set that this run was trained on is not at {config.data}.",
            file=folder,
            field="--data",
            hint="Name it with --data, or put it back beside the run.",
        )
    return Dataset.open(config.data if data is None else data)


def is_own(config: TrainingConfig, data: Dataset) -> bool:
    """Whether a data set is the one that a run was trained on, as it lies now."""
    return str(real_path(location(data.path))) == str(real_path(location(config.data)))


def score_tag(
    config: TrainingConfig,
    metadata: RunMetadata,
    data: Dataset,
    split: str,
    numbers: NDArray[np.int64],
) -> str:
    """What stands in the names of files about some samples, so that no other take their place.

    The split, and for another data set than the run's own also its name and a digest of its cells.
    """
    if is_own(config, data):
        return split
    digest = hashlib.sha256(data.read_target(metadata.target, numbers).tobytes()).hexdigest()
    return f"{split}_{data.path.stem}-{digest[:8]}"


def read_trained(folder: Path) -> tuple[TrainingConfig, RunMetadata]:
    """The same of a run that has weights; else `UserError`."""
    found = read_run(folder)
    if not (folder / "best.safetensors").is_file():
        raise UserError(
            f"the run {folder} has no weights yet.",
            hint="Run the same `plsctl train` again to continue it.",
        )
    return found


def check_request(config: TrainingConfig, data: Dataset, fresh: bool) -> None:
    """Make sure that a data set and a run folder are what a training asks for.

    Raises
    ------
    UserError
        If the data set lacks the target, images, margin or splits, a folder is no run, or what the
        run reads would be written over or thrown away.
    """
    _refuse_own_inputs(config, fresh)
    data.require_target(config.target)
    data.channels_for(config.recipe)
    data.require_margin(config.margin or 0)
    data.split("train", config.target)
    folder = config.out
    if (folder / "facts.json").is_file():
        if not fresh:
            read_run(folder)
    elif folder.exists() and not _is_free(folder):
        raise UserError(f"{folder} exists and is not a run folder.", hint="Choose another --out.")
    if config.from_run is not None and not (folder / "facts.json").is_file():
        read_trained(config.from_run)


def _refuse_own_inputs(config: TrainingConfig, fresh: bool) -> None:
    folder, start = config.out, config.from_run
    if start is not None and lies_in(start, folder) and lies_in(folder, start):
        raise UserError(
            f"the run {folder} cannot start from itself: --from and --out name the same folder.",
            field="from",
            hint="Choose another --out.",
        )
    if lies_in(folder, config.data):
        raise UserError(
            f"--out {folder} lies in the data set {config.data}.",
            field="out",
            hint="Choose a folder outside of it.",
        )
    if fresh:
        inputs = {"--data": config.data}
        if start is not None:
            inputs["--from"] = start
        if config.losses.perceptual and config.perceptual not in BUILT_IN_PERCEPTUAL:
            inputs["--perceptual"] = Path(config.perceptual)
        refuse_loss(folder, inputs)


def _is_free(folder: Path) -> bool:
    """Whether a folder is empty, or was left before its run began."""
    if not folder.is_dir():
        return False
    own = (folder / "config.yaml").is_file() or holds_old_run(folder)
    return own or not entries(folder)
