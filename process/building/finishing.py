"""The end of a build: quality control, labels, splits, and the outcome of each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.words import counted
from plsctl.process.aperture.orientation_check import TableFit
from plsctl.process.building.kept_samples import CutPosition
from plsctl.process.cells.table import read_cells, write_cells
from plsctl.process.dataset.labels import join_labels, read_labels
from plsctl.process.dataset.same_cells import Looks, shared_cells
from plsctl.process.dataset.splits import SplitSettings, count_splits, with_split
from plsctl.process.quality.flags import QualitySettings, flag_samples
from plsctl.process.quality.frames import FrameReference
from plsctl.process.quality.slides import SlideVerdict, exclude_rejected, slide_verdicts
from plsctl.process.samples.highres_scale import HighresScale

Notify = Callable[[str], None]


@dataclass(frozen=True)
class QualityResult:
    """A table with its flags, and the verdict on each of its slides."""

    table: pd.DataFrame
    slides: tuple[SlideVerdict, ...]

    def attributes(self, settings: QualitySettings) -> dict[str, object]:
        """The entry on quality control in a data set's attributes."""
        return {
            "settings": settings.model_dump(mode="json"),
            "slides": [verdict.as_dict() for verdict in self.slides],
        }

    def sentences(self, settings: QualitySettings) -> list[str]:
        """Messages about rejected slides and excluded samples."""
        fate = "used all the same" if settings.keep_rejected_slides else "left out"
        said = [
            f"Slide {verdict.slide} is rejected, with {counted(verdict.samples, 'sample')} {fate}: "
            f"{'; '.join(verdict.reasons)}."
            for verdict in self.slides
            if not verdict.accepted
        ]
        said += [
            f"Slide {verdict.slide}: {note}" for verdict in self.slides for note in verdict.notes
        ]
        excluded = int((self.table["excluded"] != "").sum())
        if excluded:
            said.append(
                f"{excluded} of {len(self.table)} samples are left out of all splits; plsctl "
                "review shows them, and takes back what is good."
            )
        return said


def slide_notes(scale: HighresScale | None, fit: TableFit | None) -> tuple[str, ...]:
    """What a user should know of a slide besides its samples' quality, a sentence each."""
    notes = []
    if scale is not None and not scale.fields:
        notes.append(
            f"too few 100x fields were found in the stained images to measure the 100x scale: the "
            f"nominal one is used, {scale.ratio:.3f} to 1 and not turned. At an error of 1 % "
            "targets are off by 0.3 px at the crop's edge."
        )
    if fit is not None and fit.sentence:
        notes.append(fit.sentence)
    return tuple(notes)


def check_quality(
    table: pd.DataFrame,
    positions: Mapping[str, Sequence[CutPosition]],
    references: Mapping[str, FrameReference | None],
    settings: QualitySettings,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> QualityResult:
    """Flag the samples of a build and accept or reject its slides.

    Parameters
    ----------
    table
        Rows of all samples.
    positions
        The positions cut of each slide.
    references
        The reference for each slide's frames.
    notes
        What else is said of each slide (`slide_notes`).
    """
    dropped = {
        slide: Counter(fate for done in cut for fate in done.outcomes.values() if fate != "sample")
        for slide, cut in positions.items()
    }
    doubts = {
        slide: found.doubts if found is not None else () for slide, found in references.items()
    }
    flagged = flag_samples(table, settings)
    verdicts = slide_verdicts(flagged, dropped, doubts, settings, notes)
    return QualityResult(exclude_rejected(flagged, verdicts, settings), tuple(verdicts))


def shared_by(slides: Sequence[str], table: pd.DataFrame, looks: Looks, notify: Notify) -> None:
    """Report which slides show the same cells: one may have been scanned twice.

    Parameters
    ----------
    table
        Rows of all samples.
    looks
        How they look, in their order.
    """
    rows = {slide: np.flatnonzero(table["slide"] == slide) for slide in slides}
    for one, other in combinations(slides, 2):
        here, there = rows[one], rows[other]
        pairs, how = shared_cells(
            table.iloc[here], looks.of(here), table.iloc[there], looks.of(there)
        )
        if pairs:
            notify(
                f"{counted(len(pairs), 'cell')} of slide {other} and of slide {one} {how}. If it "
                "is one slide, build it once: its cells may be learnt from and tested on."
            )


def with_labels(table: pd.DataFrame, labels: Path, notify: Notify) -> pd.DataFrame:
    """The table with a user's labels; reports how many samples have one."""
    labelled = join_labels(table, read_labels(labels), labels)
    notify(labelled.sentence)
    return labelled.table


def with_splits(
    table: pd.DataFrame, split: SplitSettings, reach_um: float, notify: Notify
) -> pd.DataFrame:
    """The table with the split of each sample; reports how many are in none.

    Parameters
    ----------
    reach_um
        Side of what a sample shows of the slide: nearer ones overlap.
    """
    divided = with_split(table, split.divide(table, reach_um))
    nowhere = count_splits(divided).get("none", 0)
    if nowhere:
        are = "is" if nowhere == 1 else "are"
        notify(f"{counted(nowhere, 'sample')} {are} in no split: crops of another split overlap.")
    return divided


def write_outcomes(
    folder: ScanFolder,
    slide: str,
    table: pd.DataFrame,
    positions: Sequence[CutPosition],
) -> None:
    """Write into `cells.csv` the outcome of each cell, and where and how well it was matched.

    What the cell finder wrote stays as it is: passes and other builds rely on it.
    """
    outcomes: Mapping[int, str] = {
        cell: fate for done in positions for cell, fate in done.outcomes.items()
    }
    cells = read_cells(folder)
    damaged = cells["position"].isin(folder.left_out.get("stained", ()))
    cells["fate"] = [outcomes.get(int(cell), "") for cell in cells["cell"]]
    cells.loc[damaged, "fate"] = "damaged"
    mine = table[table["slide"] == slide].set_index("cell")
    for name in ("x_um", "y_um"):
        cells[f"matched_{name}"] = cells["cell"].map(mine[name])
    for name in ("score_20x", "score_100x"):
        if name in mine.columns:
            cells[name] = cells["cell"].map(mine[name])
    write_cells(folder, cells, decimals=4)


def dropped_cells(
    positions: Sequence[CutPosition], folders: Sequence[ScanFolder] = ()
) -> dict[str, int]:
    """How many cells were dropped for each reason; of the scans, those of damaged positions."""
    found = Counter(
        fate for done in positions for fate in done.outcomes.values() if fate != "sample"
    )
    damaged = sum(
        int(read_cells(folder)["position"].isin(folder.left_out.get("stained", ())).sum())
        for folder in folders
        if folder.left_out
    )
    if damaged:
        found["damaged"] = damaged
    return dict(sorted(found.items()))
