"""How many cells there are at each step: found, cut, left out, and used in each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from plsctl.acquire.store.folder import ScanFolder
from plsctl.process.cells.table import read_cells
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import SPLITS, count_splits, is_damaged, left_out
from plsctl.process.pages.pictures import tile_sets
from plsctl.process.pages.tables import table
from plsctl.process.report.dataset import as_image, sample_crops, spread_samples
from plsctl.process.report.page import Section

_SHOWN = 24
_USES = {"train": "training", "validation": "validation", "test": "the test"}
_FATES = {
    "": "not looked at by a build",
    "no_unstained_images": "the field was not scanned unstained",
    "position_unmatched": "the field was not found again in the unstained pass",
    "match_20x": "the cell was not found again in the unstained pass",
    "stained_out_of_focus": "the cell was not found again: the stained image is out of focus",
    "unstained_out_of_focus": "the cell was not found again: the unstained image is out of focus",
    "out_of_focus": "the cell was not found again: one of the images is out of focus",
    "damaged": "the field's files are missing or damaged",
    "match_100x": "the cell was not found again in the 100x pass",
}


def counts_section(data: Dataset, scans: Sequence[ScanFolder] = ()) -> Section:
    """One table from the cells that were found to the samples of each split.

    Parameters
    ----------
    scans
        Scans whose found cells are counted as well.
    """
    lines = [line for scan in scans for line in _found(scan)]
    lines.append(("samples in the data set", len(data)))
    excluded, dropped, overlapping = _out_of_splits(data.table)
    for count, why in (
        (is_damaged(data.table), "left out because their images are damaged"),
        (excluded, f"left out by quality control ({_reasons(data.table, excluded)})"),
        (dropped, "dropped in a review"),
        (overlapping, "in no split: they overlap samples of another split"),
    ):
        if count.any():
            lines.append((f"− {why}", -int(count.sum())))
    counts = count_splits(data.table)
    if "split" in data.table.columns:
        lines += [(f"used for {_USES[name]}", counts.get(name, 0)) for name in SPLITS]
    note = (
        "Cells at each step. Samples that are left out stay in the data set and in its table: "
        "their column <code>split</code> is empty, and <code>left_out_of</code> says where they "
        "would belong; training and evaluation pass them over."
    )
    body = table(("", "cells"), lines, short=True)
    return Section("From cells to samples", note, body + _scores(data.table))


def left_out_section(data: Dataset) -> Section | None:
    """The samples that quality control or a review has left out, with the reason; None without."""
    shown = left_out(data.table) & ~is_damaged(data.table)
    gone = [int(number) for number in data.table.loc[shown, "sample"]]
    if not gone:
        return None
    numbers = spread_samples(data, _SHOWN, gone)
    crops = sample_crops(data, numbers)
    rows = data.table.set_index("sample").loc[numbers]
    sets = [
        (
            f"#{number}: {_reason(row)}",
            [(as_image(images[index]), name) for name, images in crops.items()],
        )
        for index, (number, row) in enumerate(rows.iterrows())
    ]
    which = f"{len(numbers)} of the {len(gone)}" if len(numbers) < len(gone) else f"The {len(gone)}"
    note = (
        f"{which} samples that are not used, each as {', '.join(crops)}, with the flags that left "
        "it out. <code>plsctl review</code> shows the measures behind a flag, and takes back what "
        "is good."
    )
    columns = max(1, 12 // len(crops))
    return Section("Left out", note, tile_sets(sets, columns, um_per_px=data.pixel_um))


def _found(folder: ScanFolder) -> list[tuple[str, int]]:
    if not folder.cells.exists():
        return []
    cells = read_cells(folder)
    lines = [(f"white cells found on slide {folder.path.name}", len(cells))]
    if "fate" in cells.columns:
        outcomes = cells["fate"].fillna("").value_counts()
        lines += [
            (f"− {_FATES.get(str(fate), _plain(str(fate)))}", -int(count))
            for fate, count in outcomes.items()
            if fate != "sample"
        ]
    return lines


def _out_of_splits(samples: pd.DataFrame) -> tuple[pd.Series[bool], ...]:
    """Left out by quality control; dropped in a review; in no split. Each sample in one."""
    nothing = pd.Series("", index=samples.index)
    keep, excluded = (samples.get(name, nothing).fillna("") for name in ("keep", "excluded"))
    damaged = is_damaged(samples)
    dropped = (keep == "no") & ~damaged
    by_quality = (excluded != "") & (keep != "yes") & ~dropped & ~damaged
    split = samples.get("split", pd.Series("train", index=samples.index))
    return by_quality, dropped, (split == "") & ~left_out(samples)


def _reasons(samples: pd.DataFrame, chosen: pd.Series[bool]) -> str:
    if not chosen.any():
        return ""
    each = samples.loc[chosen, "excluded"].str.split(";").explode()
    return ", ".join(f"{_plain(str(name))} {count}" for name, count in each.value_counts().items())


def _reason(row: Mapping[str, object] | pd.Series) -> str:
    if row.get("keep", "") == "no":
        return "dropped in a review"
    return ", ".join(_plain(name) for name in str(row["excluded"]).split(";"))


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _scores(samples: pd.DataFrame) -> str:
    names = [name for name in samples.columns if name.startswith("score_")]
    if not names:
        return ""
    lines = [
        (
            f"match with the {name.removeprefix('score_')} image",
            *(float(v) for v in np.nanpercentile(samples[name].astype(float), [5, 50, 95])),
        )
        for name in names
        if samples[name].notna().any()
    ]
    columns = ("similarity", "5 %", "median", "95 %")
    return "<h3>How well the passes match</h3>" + table(columns, lines, short=True)
