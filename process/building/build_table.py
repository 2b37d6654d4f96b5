"""The table of a data set when all is cut: labels joined, samples divided among the splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from plsctl.acquire.words import counted
from plsctl.process.dataset.labels import join_labels, read_labels
from plsctl.process.dataset.splits import SplitSettings

Say = Callable[[str], None]


def with_labels(table: pd.DataFrame, labels: Path, say: Say) -> pd.DataFrame:
    """The table with a user's labels; says how many samples have one."""
    labelled = join_labels(table, read_labels(labels), labels)
    say(labelled.sentence)
    return labelled.table


def with_splits(
    table: pd.DataFrame, split: SplitSettings, reach_um: float, say: Say
) -> pd.DataFrame:
    """The table with the split of each sample; says how many are in none.

    Parameters
    ----------
    reach_um
        Side of what a sample shows of the slide: nearer ones overlap.
    """
    divided = table.assign(split=split.divide(table, reach_um))
    left_out = int((divided["split"] == "").sum())
    if left_out:
        are = "is" if left_out == 1 else "are"
        say(f"{counted(left_out, 'sample')} {are} in no split: crops of another split overlap.")
    return divided
