"""Which cells a run has seen: none of them may judge it, in whatever data set they lie.

Cells are told by their stained images and by their places on the slide, so that copies, merged data
sets and other splits are recognised, and slides that were built or scanned again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import poisson

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location, real_path
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.data.batches import some_of, spread
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.run import Run
from plsctl.process.dataset.merge import SAME_CELL_UM
from plsctl.process.dataset.reader import Dataset

FILE = "learned.csv"

SPLITS = ("train", "validation")
"""A run learns from the one, the other chooses its best epoch."""

OF_START = -1
"""The `sample` of cells that the run's start has seen, which may lie in another data set."""

UNKNOWN = "unknown"
"""The `split` of a row that stands for cells of which nothing was noted."""

PLACES = ["slide", "position", "x_um", "y_um"]
COLUMNS = ["sample", "split", *PLACES, "content"]

BATCH = 256
DIGESTED_SAMPLES = 32
"""So many stacks of each split enter the digest of a data set; all targets do."""

SHIFTS = 16
CHANCE = 0.01
"""Cells of two slides of one name meet by chance. Their places are evidence where so many would
meet with less than this probability, judged by the places shifted."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """How many of the samples that judge a run it has trained on, and chosen its epoch by.

    `known` is False where the run, or the one it began with, has noted too little to tell.
    """

    train: int
    validation: int
    known: bool

    def as_dict(self) -> dict[str, object]:
        """The field `seen` of an evaluation."""
        return dict(vars(self))


def seen_cells(config: TrainingConfig, data: Dataset) -> pd.DataFrame:
    """The cells that a run trains on, and those that choose its best epoch: `COLUMNS`."""
    parts = []
    for name in SPLITS:
        if name == "train" or data.has_split(name, config.target):
            numbers = data.split(name, config.target)
            numbers = some_of(numbers, config.train_share) if name == "train" else numbers
            parts.append(_cells(data, numbers, config.target).assign(split=name))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def count_cells(cells: pd.DataFrame) -> dict[str, int]:
    """How many of them each split has."""
    return {name: int((cells["split"] == name).sum()) for name in SPLITS}


def write_seen_cells(folder: Path, cells: pd.DataFrame) -> None:
    """Write them into a run folder, one row a cell."""
    write_whole(folder / FILE, cells.to_csv(index=False, lineterminator="\n"))


def read_seen_cells(folder: Path) -> pd.DataFrame | None:
    """What `write_seen_cells` wrote; None of a run that noted nothing.

    Runs of before noted `sample` and `split` only.

    Raises
    ------
    UserError
        The file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    texts = {"split": str, "slide": str, "position": str, "content": str}
    try:
        table = pd.read_csv(
            io.StringIO(file.read_text(encoding="utf-8")), dtype=texts, keep_default_na=False,
            na_values={"x_um": [""], "y_um": [""]},
        )  # fmt: skip
        table = table.astype({"sample": np.int64, "split": str})
    except (ValueError, KeyError):
        raise UserError(
            "the list of the cells that the run has learned from cannot be read.",
            file=file,
            hint="Take it from a copy, or train the run again with --fresh.",
        ) from None
    return table


def same_cells(now: pd.DataFrame, before: pd.DataFrame | None) -> bool:
    """Whether a run goes on with the cells that it was begun with, as far as it noted them."""
    if before is None:
        return True
    own = before[before["sample"] != OF_START].reset_index(drop=True)
    names = [name for name in ("sample", "split", "content") if name in own.columns]
    return bool(own[names].equals(now[names].reset_index(drop=True)))


def learned_before(start: Run | None) -> pd.DataFrame:
    """The cells that the run a new one starts from has seen, as rows of `OF_START`."""
    if start is None:
        return pd.DataFrame(columns=COLUMNS)
    found = _known_cells(start)
    if found is None:
        found = pd.DataFrame([{"split": UNKNOWN}], columns=COLUMNS)
    return found.assign(sample=OF_START)


def data_digest(data: Dataset, cells: pd.DataFrame, images: list[int], margin_px: int) -> str:
    """SHA-256 of what a run sees of a data set: all cells, exposures, and stacks of some.

    Parameters
    ----------
    cells
        What `seen_cells` gave.
    images, margin_px
        What the run takes of the stacks.
    """
    digest = hashlib.sha256()
    frames = [data.frames[index].model_dump(mode="json") for index in images]
    digest.update(json.dumps([frames, data.pixel_um, data.crop_px, margin_px]).encode())
    digest.update("\n".join(cells["split"] + cells["content"]).encode())
    for name in SPLITS:
        numbers = cells.loc[cells["split"] == name, "sample"].to_numpy(np.int64)
        if len(numbers):
            chosen = spread(numbers, DIGESTED_SAMPLES)
            digest.update(data.read_images(chosen, images, margin_px).tobytes())
    return digest.hexdigest()


def require_unseen(run: Run, data: Dataset, split: str, numbers: NDArray[np.int64]) -> Seen:
    """Raise UserError if a run has seen cells of a split in the training, as those of another one.

    Parameters
    ----------
    numbers
        The samples that are to judge the run, as those of the split `split`. What is asked about
        the training split is told, and not refused.
    """
    marks, known, how = _seen(run, data, numbers)
    others = np.zeros(len(numbers), dtype=bool)
    for name, mark in marks.items():
        if name != split:
            others |= mark
    count = int(others.sum())
    if count and split != "train":
        told = f"it has learned from {count} of the {len(numbers)} {split} samples{how}."
        raise UserError(
            f"the data set was split anew since the run {run.path} was trained: {told}"
            if _is_own(run, data)
            else f"these cells cannot judge the run {run.path}: {told}",
            file=data.path,
            hint="Split it as it was before (plsctl dataset split), take cells of other slides, or "
            "train again.",
        )
    return _count(marks, known)


def count_seen(run: Run, data: Dataset, numbers: NDArray[np.int64]) -> Seen:
    """How many of the samples a run has seen in the training."""
    marks, known, _ = _seen(run, data, numbers)
    return _count(marks, known)


def _count(marks: dict[str, NDArray[np.bool_]], known: bool) -> Seen:
    return Seen(int(marks["train"].sum()), int(marks["validation"].sum()), known)


def _seen(
    run: Run, data: Dataset, numbers: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.bool_]], bool, str]:
    """Which samples each split of a run has seen, whether that is known, and how it is told."""
    noted = read_seen_cells(run.path)
    if noted is not None and "content" not in noted.columns and _is_own(run, data):
        # A run of before: its samples are known by their numbers.
        marks = {
            name: np.isin(numbers, noted.loc[noted["split"] == name, "sample"]) for name in SPLITS
        }
        return marks, True, ""
    cells = _known_cells(run)
    known = cells is not None and not (cells["split"] == UNKNOWN).any()
    if not known:
        log.warning(
            "whether the run %s has learned from these cells cannot be judged: it, or the run "
            "it began with, is of an earlier version, and the data set of its training is not "
            "at %s.",
            run.path,
            run.config.data,
        )
    marks, how = _met(cells, _cells(data, numbers, run.metadata.target))
    return marks, known, how


def _is_own(run: Run, data: Dataset) -> bool:
    return any(_is_same(place, data) for place in (location(run.metadata.data), run.config.data))


def _is_same(place: Path, data: Dataset) -> bool:
    return str(real_path(place)) == str(real_path(location(data.path)))


def _known_cells(run: Run) -> pd.DataFrame | None:
    """What a run has seen, with places and images; None where that cannot be known.

    Those of a run of before are looked up in the data set it was trained on.
    """
    noted = read_seen_cells(run.path)
    if noted is None or "content" in noted.columns:
        return noted
    try:
        own = Dataset.open(run.config.data)
        if noted["sample"].max() >= len(own):
            return None
        cells = _cells(own, noted["sample"].to_numpy(np.int64), run.metadata.target)
    except UserError:
        return None
    return cells.assign(split=noted["split"])[COLUMNS]


def _cells(data: Dataset, numbers: NDArray[np.int64], target: str) -> pd.DataFrame:
    """Samples with their places and a digest of their stained image, "" where that is one grey."""
    rows = data.table.set_index("sample").loc[numbers].reset_index()
    contents = []
    for start in range(0, len(numbers), BATCH):
        for crop in data.read_target(target, numbers[start : start + BATCH]):
            flat = crop.min() == crop.max()
            content = np.ascontiguousarray(crop).tobytes()
            contents.append("" if flat else hashlib.blake2b(content, digest_size=16).hexdigest())
    found = rows.reindex(columns=["sample", *PLACES]).assign(content=contents)
    return found.assign(
        slide=found["slide"].fillna("").astype(str),
        position=found["position"].fillna("").astype(str),
        x_um=found["x_um"].astype(float),
        y_um=found["y_um"].astype(float),
    )


def _met(
    cells: pd.DataFrame | None, judged: pd.DataFrame
) -> tuple[dict[str, NDArray[np.bool_]], str]:
    """Which of the judged cells are among those that each split of a run has seen, and how."""
    if cells is None:
        return {name: np.zeros(len(judged), dtype=bool) for name in SPLITS}, ""
    content = {
        name: (judged["content"] != "").to_numpy()
        & judged["content"].isin(cells.loc[cells["split"] == name, "content"]).to_numpy()
        for name in SPLITS
    }
    place = met_by_place(cells, judged)
    found = {name: content[name] | place[name] for name in SPLITS}
    how = []
    if any(mark.any() for mark in content.values()):
        how.append("the same images")
    if any((place[name] & ~content[name]).any() for name in SPLITS):
        how.append(f"the same slide and place within {SAME_CELL_UM:g} µm")
    return found, f" ({' or '.join(how)})" if how else ""


def met_by_place(cells: pd.DataFrame, judged: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which judged cells lie where a run has seen one, by the split of that one.

    Slides may share a name: places of a slide count only where more cells meet than would by
    chance.

    Parameters
    ----------
    cells, judged
        Rows with `slide`, `x_um` and `y_um`; `cells` also with `split`.
    """
    found = {name: np.zeros(len(judged), dtype=bool) for name in SPLITS}
    first, second = _placed(cells), _placed(judged)
    for slide, rows in second.groupby("slide", sort=False):
        there = first[first["slide"] == slide]
        if there.empty:
            continue
        places = rows[["x_um", "y_um"]].to_numpy(float)
        if not _is_evidence(there[["x_um", "y_um"]].to_numpy(float), places):
            continue
        for name in SPLITS:
            own = there.loc[there["split"] == name, ["x_um", "y_um"]].to_numpy(float)
            if len(own):
                off_um, _ = cKDTree(own).query(places)
                found[name][rows.index[off_um < SAME_CELL_UM]] = True
    return found


def _placed(cells: pd.DataFrame) -> pd.DataFrame:
    """Those with a place of their own: many at one point tell that places were not known."""
    known = cells.reset_index(drop=True)
    known = known[(known["slide"] != "") & known["x_um"].notna() & known["y_um"].notna()]
    once = known.drop_duplicates(["slide", "x_um", "y_um", "content"])
    crowded = once.duplicated(["slide", "x_um", "y_um"], keep=False)
    crowded_places = set(once.loc[crowded, ["slide", "x_um", "y_um"]].itertuples(index=False))
    rows = known[["slide", "x_um", "y_um"]].itertuples(index=False)
    return known[[row not in crowded_places for row in rows]]


def _is_evidence(there: NDArray[np.float64], here: NDArray[np.float64]) -> bool:
    tree = cKDTree(there)

    def met(places: NDArray[np.float64]) -> int:
        return int((tree.query(places)[0] < SAME_CELL_UM).sum())

    angles = 2.4 * np.arange(SHIFTS)
    far_um = SAME_CELL_UM * (4 + np.arange(SHIFTS))
    shifts = np.stack([np.cos(angles), np.sin(angles)], axis=1) * far_um[:, None]
    expected = float(np.mean([met(here + shift) for shift in shifts]))
    count = met(here)
    return count > 0 and float(poisson.sf(count - 1, expected)) < CHANCE
