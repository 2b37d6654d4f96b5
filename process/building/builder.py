"""Scans in, data set out: every position cut, in parallel (papers/002, section 3.1.3)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import is_remote, location, written_at
from plsctl.acquire.files.whole_files import locked
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.journal import read_journal
from plsctl.acquire.words import counted
from plsctl.process.building.cutting import cut_positions
from plsctl.process.building.finishing import (
    check_quality,
    dropped_cells,
    shared_by,
    slide_notes,
    with_labels,
    with_splits,
    write_outcomes,
)
from plsctl.process.building.inputs import (
    cells_for_larger_crops,
    check_compatible,
    check_crop,
    identity,
    open_scan,
    position_jobs,
    text_hash,
    unfinished_passes,
    without_damaged,
)
from plsctl.process.building.kept_samples import SUFFIX, CutPosition
from plsctl.process.building.preparation import prepare
from plsctl.process.building.progress import FOLDER, BuildProgress, forget, recalled, sealed_as
from plsctl.process.cells.finder import StainedCellFinder
from plsctl.process.dataset.files import read_table, refuse_existing, unfinished_folder
from plsctl.process.dataset.format import TABLE_NAME
from plsctl.process.dataset.labels import read_labels
from plsctl.process.dataset.same_cells import looks_of
from plsctl.process.dataset.splits import SplitSettings, count_splits
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.quality.flags import QualitySettings, count_flags
from plsctl.process.quality.frames import FrameReference
from plsctl.process.quality.slides import reasons_for_none
from plsctl.process.samples.highres_scale import HighresScale
from plsctl.process.samples.settings import BuildSettings
from plsctl.process.workers.local import Workers, local_workers

Progress = Callable[[str, int, int], None]
"""Progress callback: what is being done, the count done, and the total (0: not counted)."""


FINDING = "finding white cells in scans"

LEAST_CROP_UM, MOST_CROP_UM = 14.1, 23.4
"""Crops for which the limits of quality control hold: 48 to 80 px of 0.293 um."""

SHARD = 128
"""Samples to a file of the data set."""


@dataclass(frozen=True)
class BuildResult:
    """Result of a build: samples, positions, and cells dropped by reason.

    `resumed` of the positions were taken over from a build that had been stopped. Of the samples
    `excluded` are in no split, for which reason; `splits` are those that are used, as
    `count_splits` counts; `slides` says of each slide whether it was accepted
    (`SlideVerdict.as_dict`). `damaged` says what was wrong with the positions that were
    left out for it.
    """

    path: Path
    samples: int
    positions: int
    dropped: dict[str, int]
    seconds: float
    resumed: int
    excluded: dict[str, int]
    slides: list[dict[str, object]]
    splits: dict[str, int]
    damaged: tuple[str, ...] = ()


def build_dataset(
    scans: Sequence[str | Path],
    out: str | Path,
    settings: BuildSettings | None = None,
    *,
    split: SplitSettings | None = None,
    labels: str | Path | None = None,
    quality: QualitySettings | None = None,
    workers: int | AbstractContextManager[Workers] = 1,
    overwrite: bool = False,
    skip_damaged: bool = False,
    shard: int = SHARD,
    progress: Progress = lambda what, done, total: None,
    notify: Callable[[str], None] = lambda text: None,
) -> BuildResult:
    """Cut the white cells of scans into a data set.

    A killed build resumes where it stopped when it is called again, unless settings or scans
    changed. The data set is the same, byte for byte, for any number of interruptions and workers.

    Parameters
    ----------
    scans
        Scan folders with an unstained and a stained pass; `cells.csv` is made where it is missing.
        When any of them has a 100x pass, every sample must have a 100x target.
    out
        The data set to write, `*.zarr`; it has this name only once it is whole.
    labels
        A table of labels of the samples, such as their types; see `join_labels`.
    quality
        Limits of quality control, and what it leaves out.
    workers
        Processes on this machine, or workers of another kind (`cluster_workers`).
    skip_damaged
        Read all frames before anything else, and leave out positions with damaged ones.
    shard
        Samples to a file of the data set.
    progress
        Called with what is being done, how much of it is done, and how much there is.
    notify
        Called with what a user should know.

    Raises
    ------
    UserError
        When a pass is missing, the scans' recipes differ, or no sample is left.
    DamagedData
        When a frame that is read is missing or is not what was taken.
    """
    began = time.monotonic()
    settings, split = settings or BuildSettings(), split or SplitSettings()
    folders, out = [location(scan) for scan in scans], written_at(location(out))
    labels = None if labels is None else location(labels)
    opened = [open_scan(folder) for folder in folders]
    damaged = without_damaged(opened, progress, notify) if skip_damaged else ()
    build = _Build(
        opened, out, settings, split, labels, quality or QualitySettings(), shard, notify, damaged
    )
    crew = local_workers(workers) if isinstance(workers, int) else workers
    if build.was_finishing():
        with local_workers(1) as alone:
            build.find_cells(alone, progress)
    if build.is_published():
        notify(f"{out} was whole already; only the last notes were missing.")
        return build.conclude(began)
    if not build.is_being_copied():
        refuse_existing(out, overwrite)
    (build.part / FOLDER).mkdir(parents=True, exist_ok=True)
    try:
        with locked(build.part / FOLDER), crew as hands:
            writer, resumed = build.run(hands, progress)
    except Exception as error:
        # What was cut is for the same command when it is given again; of nothing, nothing stays.
        if isinstance(error, NoSample) or not build.has_cut():
            forget(build.part, all_of_it=True)
        raise
    writer.publish()
    return build.conclude(began, resumed)


class NoSample(UserError):
    """Every cell was dropped."""


class _Build:
    """One build, step by step."""

    def __init__(
        self,
        folders: Sequence[ScanFolder],
        out: Path,
        settings: BuildSettings,
        split: SplitSettings,
        labels: Path | None,
        quality: QualitySettings,
        shard: int,
        notify: Callable[[str], None],
        damaged: tuple[str, ...],
    ) -> None:
        self._folders, self._damaged = folders, damaged
        self._readers = [folder.open_pass("unstained") for folder in self._folders]
        for text in (*check_compatible(self._readers), *unfinished_passes(self._folders)):
            notify(text)
        self._out, self._settings, self._split, self._shard = out, settings, split, shard
        self._labels, self._quality, self.notify = labels, quality, notify
        text = "" if labels is None else str(read_labels(labels).to_csv())
        limits = quality.model_dump_json()
        self._closing = {
            **split.as_dict(),
            "labels": text_hash([text]),
            "quality": text_hash([limits]),
        }
        check_crop(self._readers, settings)
        self.part = unfinished_folder(out)
        # Where a build that was sealed keeps its notes until it is concluded.
        self._whole = self.part if is_remote(out) else out
        highres = any(folder.pass_path("highres").is_dir() for folder in self._folders)
        self._targets = ("20x", "100x") if highres else ("20x",)

    def has_cut(self) -> bool:
        """Whether this build, or an earlier one that it goes on with, has cut a position."""
        journal = self.part / FOLDER / "journal.jsonl"
        kept = (self.part / FOLDER / "positions").glob(f"*{SUFFIX}")
        return any(event["event"] == "position" for event in read_journal(journal)) or any(kept)

    def was_finishing(self) -> bool:
        """Whether an earlier build may have been killed at its end; `identity` tells which."""
        return (self._whole / FOLDER).is_dir()

    def is_published(self) -> bool:
        """Whether an earlier build was killed after the data set's rename."""
        if is_remote(self._out) or not self.was_finishing():
            return False
        if sealed_as(self._out, self._identity()) == self._closing:
            return True
        forget(self._out)
        return False

    def is_being_copied(self) -> bool:
        """Whether an earlier build was killed while its data set went into an object store."""
        if not is_remote(self._out) or not self.was_finishing():
            return False
        if sealed_as(self.part, self._identity()) != self._closing:
            return False
        # Another one may stand there: data sets of one name share their unfinished folder.
        return not (self._out / "zarr.json").exists() or all(
            (self._out / name).read_text("utf-8") == (self.part / name).read_text("utf-8")
            for name in ("zarr.json", TABLE_NAME)
        )

    def _seal(
        self,
        writer: DatasetWriter,
        positions: Sequence[CutPosition],
        references: Sequence[FrameReference | None],
        notes: Sequence[tuple[str, ...]],
    ) -> None:
        """Add flags, labels and splits; afterwards only the rename is missing."""
        table = writer.table
        if not len(table):
            counts = dropped_cells(positions)
            dropped = ", ".join(f"{count} {reason}" for reason, count in counts.items())
            why = "".join(f"; {text}" for text in reasons_for_none(counts, self._quality))
            raise NoSample(
                f"no sample is left for {self._out}; cells dropped: {dropped or 'none found'}"
                f"{why}.",
                hint="docs/processing.md says what the reasons mean.",
            )
        slides = [reader.attributes.slide for reader in self._readers]
        by_slide = dict(zip(slides, self._by_scan(positions), strict=True))
        of_slide = dict(zip(slides, references, strict=True))
        said = dict(zip(slides, notes, strict=True))
        checked = check_quality(table, by_slide, of_slide, self._quality, said)
        table = checked.table
        writer.add_attributes({"quality": checked.attributes(self._quality)})
        for sentence in checked.sentences(self._quality):
            self.notify(sentence)
        if len(slides) > 1:
            shared_by(slides, table, looks_of(writer.stored("target_20x")), self.notify)
        side_um = self._settings.crop_px * self._readers[0].attributes.pixel_um
        if not LEAST_CROP_UM < side_um < MOST_CROP_UM:
            self.notify(
                f"Limits of quality control were found for crops of 18.8 um: with {side_um:.1f} um "
                "look at what it leaves out, and set others (docs/quality.md)."
            )
        if self._labels is not None:
            table = with_labels(table, self._labels, self.notify)
        reach_um = self._readers[0].attributes.pixel_um * (
            self._settings.crop_px + 2 * self._settings.margin_px
        )
        table = with_splits(table, self._split, reach_um, self.notify)
        writer.seal(table)

    def _identity(self) -> dict[str, str]:
        """Hashes of everything that the samples depend on; the cells must have been found."""
        return identity(self._folders, self._settings, self._shard)

    def run(self, workers: Workers, progress: Progress) -> tuple[DatasetWriter, int]:
        """Cut missing positions; returns all but the rename, and the number of positions kept."""
        self.find_cells(workers, progress)
        state = BuildProgress(self.part, self._identity())
        try:
            if state.changed:
                changed = " and ".join(state.changed)
                self.notify(f"{changed} changed since the build that was stopped: it starts over.")
            resumed = state.finished
            if resumed:
                were = "was" if resumed == 1 else "were"
                self.notify(f"{counted(resumed, 'position')} {were} finished before, and kept.")
            highres = "100x" in self._targets
            scales, references, fits = prepare(self._folders, workers, state, highres, progress)
            notes = [slide_notes(*one) for one in zip(scales, fits, strict=True)]
            jobs = [
                job
                for folder, scale, frames in zip(self._folders, scales, references, strict=True)
                for job in position_jobs(folder, scale, self._settings, frames)
            ]
            with self._writer(scales, state) as writer:
                state.go_on(writer)
                cut_positions(workers, jobs, state, writer, progress)
                progress("judging the samples", 0, 0)
                self._seal(writer, state.done, references, notes)
            state.note_sealed(self._closing)
        finally:
            state.close()
        return writer, resumed

    def find_cells(self, workers: Workers, progress: Progress) -> None:
        """Write `cells.csv` of the scans that have none yet."""
        missing = [folder for folder in self._folders if not folder.cells.exists()]
        if missing:
            progress(FINDING, 0, len(missing))
        side = self._settings.crop_px + 2 * self._settings.margin_px
        finder = StainedCellFinder(crop_px=side)
        for done, _ in enumerate(workers.run(finder.find, missing), start=1):
            progress(FINDING, done, len(missing))
        for folder in self._folders:
            if folder not in missing:
                for sentence in cells_for_larger_crops(folder, side):
                    self.notify(sentence)

    def _writer(self, scales: Sequence[HighresScale | None], state: BuildProgress) -> DatasetWriter:
        attributes = self._readers[0].attributes
        measured = [asdict(scale) for scale in scales if scale is not None]
        return DatasetWriter(
            self._out,
            attributes.frames,
            recipe=attributes.recipe,
            pixel_um=attributes.pixel_um,
            crop_px=self._settings.crop_px,
            margin_px=self._settings.margin_px,
            targets=self._targets,
            attributes={
                "slides": sorted({reader.attributes.slide for reader in self._readers}),
                "black_level": attributes.black_level * 255.0 / attributes.full_scale,  # 8 bits
                "full_scale": 255,
                "camera_rotation_deg": attributes.camera_rotation_deg,
                "camera_mirrored": attributes.camera_mirrored,
                "highres_scales": measured,
            },
            shard=self._shard,
            overwrite=True,  # refused before anything was cut
            kept=state.rows_written(self._targets),
        )

    def conclude(self, began: float, resumed: int = 0) -> BuildResult:
        """Write the outcome of each cell into its scan, and delete the files for a resume."""
        base = self._whole
        positions = recalled(base)
        table = read_table(base)
        parts = self._by_scan(positions)
        for folder, reader, part in zip(self._folders, self._readers, parts, strict=True):
            try:
                write_outcomes(folder, reader.attributes.slide, table, part)
            except (OSError, UserError) as error:  # scans may be for reading only
                self.notify(
                    f"What became of the cells of {folder.path} is not noted there: {error}"
                )
        attributes = json.loads((base / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        forget(base, all_of_it=base == self.part)
        return BuildResult(
            self._out,
            len(table),
            len(positions),
            dropped_cells(positions, self._folders),
            time.monotonic() - began,
            resumed,
            count_flags(table["excluded"]),
            attributes["plsctl"]["quality"]["slides"],
            count_splits(table),
            self._damaged,
        )

    def _by_scan(self, positions: Sequence[CutPosition]) -> list[Sequence[CutPosition]]:
        """The positions of all scans, divided by scan."""
        counts = [len(folder.open_pass("stained").names) for folder in self._folders]
        ends = list(accumulate(counts))
        return [positions[end - count : end] for count, end in zip(counts, ends, strict=True)]
