"""The worst predictions and why they may be bad: papers/002 table 4.3, filled in beforehand.

The paper looked at its 100 worst test samples, by the generator's loss without the adversary, one
by one and sorted them by what was wrong with the data. The flags of quality control say most of it
already; a person may correct the column.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.tables import read_table
from plsctl.models.figures.crop_axes import bar_text, draw_bar
from plsctl.models.prediction.predictor import Predictor
from plsctl.process.dataset.reader import Dataset

COUNT = 100
OK = "OK data"

CATEGORIES: dict[str, tuple[str, ...]] = {
    "PLS mismatch": ("frame_shift", "frame_swap", "frame_misfit", "frame_light"),
    "true mismatch": ("lost_cell", "missing_neighbour", "weak_match"),
    "artefact in target only": ("artefact",),
    "dirt in input only": ("dirt",),
    "colour artefacts": ("leak",),
    "dirt or damaged cell": ("smudge", "cut_off", "saturated"),
    "out of focus": ("blurred_input", "blurred_20x", "blurred_100x"),
}
"""Category: the flags of quality control that put a sample there; the first that fits holds."""

COLUMNS = 5
"""Samples beside each other, each of them three crops wide."""

INCHES = 0.8
"""Side of a crop."""


def category(flags: str) -> str:
    """The category of a sample by its flags (";" between them)."""
    raised = set(flags.split(";"))
    return next((name for name, of in CATEGORIES.items() if raised & set(of)), OK)


def worst_samples(
    table: pd.DataFrame, error: NDArray[np.float64], count: int = COUNT
) -> pd.DataFrame:
    """The rows of a data set's table with the greatest errors, worst first, with their category.

    Parameters
    ----------
    table
        One row a sample, in the order of `error`.
    error
        The run's own loss of each sample, (n,).
    """
    order = np.argsort(-error, kind="stable")[:count]
    flags = table["flags"] if "flags" in table.columns else pd.Series("", index=table.index)
    categories = [category(str(text)) for text in flags.fillna("").iloc[order]]
    chosen = table.iloc[order]
    return chosen.assign(error=error[order], category=categories).reset_index(drop=True)


def keep_corrections(worst: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The list with what a person has corrected in that of an earlier evaluation.

    Raises
    ------
    UserError
        If the earlier list cannot be read.
    """
    if not file.is_file():
        return worst
    try:
        rows = read_table(file, ("sample", "category"))
    except UserError as error:
        raise UserError(
            f"the corrected list cannot be read: {error.message.rstrip('.')}.",
            file=file,
            line=error.line,
            hint=f"{error.hint or ''} Or delete it.".strip(),
        ) from None
    earlier = pd.DataFrame([row for _, row in rows], dtype=str)
    by_flags = earlier.get("flags", pd.Series("", index=earlier.index)).map(category)
    corrected = earlier[earlier["category"] != by_flags]
    known = dict(zip(_cells(corrected), corrected["category"], strict=True))
    found = zip(_cells(worst), worst["category"], strict=True)
    return worst.assign(category=[known.get(cell, name) for cell, name in found])


def _cells(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Which cell each row is about; numbers alone are those of one data set."""
    names = [name for name in ("slide", "position") if name in rows.columns]
    return list(rows[["sample", *names]].astype(str).itertuples(index=False, name=None))


def count_categories(worst: pd.DataFrame) -> dict[str, int]:
    """How many of the worst samples are in each category, as in table 4.3."""
    found = worst["category"].value_counts()
    return {name: int(found.get(name, 0)) for name in (*CATEGORIES, OK)}


def write_worst(file: Path, worst: pd.DataFrame) -> None:
    """Write the list; the columns that say which sample and why come first."""
    first = ["sample", "category", "error", "flags"]
    rest = [name for name in worst.columns if name not in first]
    worst[[name for name in first if name in worst.columns] + rest].to_csv(file, index=False)


def draw_worst(file: Path, predictor: Predictor, data: Dataset, worst: pd.DataFrame) -> None:
    """Draw each of the worst samples as bright field, prediction and stained image.

    Parameters
    ----------
    worst
        What `worst_samples` chose, worst first: `sample`, `error` and `category` are used.
    """
    numbers = worst["sample"].to_numpy(np.int64)
    prediction, bright = predictor.predict_samples(data, numbers)
    target = data.read_target(predictor.run.metadata.target, numbers).astype(np.uint8)
    joined = np.concatenate([bright, prediction, target], axis=3)
    columns = min(COLUMNS, len(numbers))
    rows = -(-len(numbers) // columns)
    size = (3 * INCHES * columns + 0.2, (INCHES + 0.2) * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, crops, row in zip(axes, joined, worst.itertuples(), strict=False):
        axis.imshow(np.moveaxis(crops, 0, -1))
        axis.set_title(f"#{row.sample}: {row.error:.3f}, {row.category}", fontsize=7)
        for place in range(3):
            draw_bar(axis, data.crop_px, data.pixel_um, left_px=place * data.crop_px)
    run = predictor.run
    figure.suptitle(
        f"{run.path.name} ({run.metadata.model}, target {run.metadata.target}), worst first: "
        "bright field, prediction, stained; sample: loss, category; "
        f"{bar_text(data.crop_px, data.pixel_um)}",
        fontsize=8,
    )
    figure.savefig(file, dpi=110)
