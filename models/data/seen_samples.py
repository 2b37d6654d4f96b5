"""Which samples a run has seen: after a new split none of them may be used to evaluate it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location, real_path
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.data.batches import some_of
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.run import Run
from plsctl.process.dataset.reader import Dataset

FILE = "learned.csv"


def seen_samples(config: TrainingConfig, data: Dataset) -> dict[str, NDArray[np.int64]]:
    """Numbers of the samples that a run trains on, and of those that choose its best epoch."""
    samples = {name: data.split(name, config.target) for name in ("train", "validation")}
    samples["train"] = some_of(samples["train"], config.train_share)
    return samples


def write_seen_samples(folder: Path, samples: dict[str, NDArray[np.int64]]) -> None:
    """Write them into a run folder, one row per sample."""
    parts = [pd.DataFrame({"sample": numbers, "split": name}) for name, numbers in samples.items()]
    write_whole(folder / FILE, pd.concat(parts).to_csv(index=False, lineterminator="\n"))


def read_seen_samples(folder: Path) -> dict[str, NDArray[np.int64]] | None:
    """What `write_seen_samples` wrote; None of a run that noted nothing."""
    file = folder / FILE
    if not file.is_file():
        return None
    table = pd.read_csv(io.StringIO(file.read_text(encoding="utf-8")))
    return {
        name: table.loc[table["split"] == name, "sample"].to_numpy(np.int64)
        for name in ("train", "validation")
    }


def require_unseen(run: Run, data: Dataset, split: str, numbers: NDArray[np.int64]) -> None:
    """Raise UserError if samples of a split belonged to another split in the run's training.

    Parameters
    ----------
    numbers
        The samples that are to judge the run, as those of the split `split`.
    """
    noted = read_seen_samples(run.path)
    places = (location(run.metadata.data), location(data.path))
    same = str(real_path(places[0])) == str(real_path(places[1]))
    if split == "train" or noted is None or not same:
        return
    others = np.concatenate([held for name, held in noted.items() if name != split])
    seen = int(np.isin(numbers, others).sum())
    if seen:
        raise UserError(
            f"the data set was split anew since the run {run.path} was trained: it has learned "
            f"from {seen} of the {len(numbers)} {split} samples.",
            file=data.path,
            hint="Split it as it was before (plsctl dataset split), or train again.",
        )
