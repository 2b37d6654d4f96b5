"""The files of an evaluation in a run folder, and the scores in them, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.runs.folder import is_own, score_tag
from plsctl.process.dataset.reader import Dataset

if TYPE_CHECKING:  # which loads torch
    from plsctl.models.runs.run import Run

LATEST = "metrics.json"
JUDGING = ("test", "validation")
"""Splits that judge a run, the better one first."""


@dataclass(frozen=True)
class ScoreFiles:
    """Where an evaluation is written: one set of files for each split and each data set.

    `metrics_TAG.json`, `samples_TAG.csv`, `worst_TAG.csv` and `.png` (papers/002 table 4.3),
    `gallery_TAG.png` and `gallery_TAG_by_loss.png`. TAG is the split, and for another data set
    than the run's own also its name and a digest of its cells.
    """

    folder: Path
    tag: str
    own: bool

    @classmethod
    def of(cls, run: Run, data: Dataset, split: str, numbers: NDArray[np.int64]) -> ScoreFiles:
        """Those of some samples of a data set."""
        tag = score_tag(run.config, run.metadata, data, split, numbers)
        return cls(run.path, tag, is_own(run.config, data))

    @property
    def metrics(self) -> Path:
        """All scores."""
        return self.folder / f"metrics_{self.tag}.json"

    @property
    def samples(self) -> Path:
        """Scores of each sample."""
        return self.folder / f"samples_{self.tag}.csv"

    @property
    def worst(self) -> Path:
        """The worst samples."""
        return self.folder / f"worst_{self.tag}.csv"

    @property
    def gallery(self) -> Path:
        """Best and worst samples by SSIM."""
        return self.folder / f"gallery_{self.tag}.png"

    @property
    def gallery_by_loss(self) -> Path:
        """Best and worst samples by the run's own loss."""
        return self.folder / f"gallery_{self.tag}_by_loss.png"

    def names(self) -> dict[str, str]:
        """Of all files, in the run folder."""
        files = (self.metrics, self.samples, self.worst, self.gallery, self.gallery_by_loss)
        names = ("metrics", "samples", "worst", "gallery", "gallery_by_loss")
        return {name: file.name for name, file in zip(names, files, strict=True)}

    def write(self, result: Mapping[str, object]) -> None:
        """Write the scores; `metrics.json` holds those that judge the run best.

        That is the test split of its own data set, before that its validation split, before that
        whatever was measured last.
        """
        text = json.dumps(result, indent=1)
        write_whole(self.metrics, text)
        try:
            before = read_results(self.folder / LATEST, "evaluate")
        except UserError:
            before = None
        same = before is not None and before.get("weights_sha256") == result["weights_sha256"]
        if before is None or not same or _rank(result) >= _rank(before):
            write_whole(self.folder / LATEST, text)


def _rank(result: Mapping[str, object]) -> int:
    split = str(result["split"])
    return len(JUDGING) - JUDGING.index(split) if result["own_data"] and split in JUDGING else 0


def seen_text(split: str, samples: int, seen: Mapping[str, Any] | None) -> str:
    """What a run knows of the cells that were measured, as a clause after "cells of ..., ".

    Parameters
    ----------
    seen
        The field of an evaluation; None of one of before.
    """
    if seen is None or not seen["known"]:
        return "of which it was not noted whether the network has learned from them"
    if seen["train"]:
        count = "" if seen["train"] == samples else f"{seen['train']} of "
        return (
            f"{count}which the network has learned from: they tell how well it remembers them, not "
            "how good it is"
        )
    if seen["validation"]:
        return (
            "from which the network has not learned, but by which its best epoch was chosen, so "
            "that the figures are a little too good"
        )
    return "which the network never saw"


def read_scores(path: Path) -> dict[str, Any] | None:
    """What the evaluation that judges a run best has found, or None.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    return read_results(path / LATEST, "evaluate")


def read_results(file: Path, command: str) -> dict[str, Any] | None:
    """The content of a file of scores, or None; `command` writes it anew."""
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(
            "the scores of the run cannot be read.", file=file, hint=f"Run plsctl {command} again."
        ) from None
    return found
