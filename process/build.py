"""Scans in, data set out: every position cut, in parallel (papers/002, section 3.1.3)."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pandas as pd

from plsctl.acquire.folder_lock import locked
from plsctl.acquire.locations import is_remote
from plsctl.acquire.store import PassReader, ScanFolder
from plsctl.process.build_inputs import (
    check_alike,
    identity,
    open_scan,
    position_jobs,
    read_cells,
    text_hash,
)
from plsctl.process.build_progress import (
    FOLDER,
    BuildProgress,
    CutPosition,
    forget,
    recalled,
    sealed_as,
)
from plsctl.process.build_quality import frames_of_scan, judge
from plsctl.process.build_settings import BuildSettings
from plsctl.process.cells import StainedCellFinder
from plsctl.process.dataset import DatasetWriter
from plsctl.process.dataset_files import (
    read_table,
    refuse_existing,
    unfinished_folder,
    write_synced,
)
from plsctl.process.highres import NOMINAL_RATIO
from plsctl.process.highres_scale import (
    FieldScale,
    HighresScale,
    ScaleField,
    locate_field,
    mean_scale,
    scale_fields,
)
from plsctl.process.labels import join_labels, read_labels
from plsctl.process.quality import QualitySettings, count_flags
from plsctl.process.quality_frames import FrameReference
from plsctl.process.samples import PositionJob, cut_position
from plsctl.process.splits import SplitSettings
from plsctl.process.workers import Workers, local_workers

Progress = Callable[[int, int], None]

__all__ = ["BuildResult", "SplitSettings", "build_dataset"]

SHARD = 128
"""Samples to a file of the data set."""


@dataclass(frozen=True)
class BuildResult:
    """What a build yielded: samples, positions looked at, and the cells dropped by reason.

    `resumed` of the positions were taken over from a build that had been stopped. Of the samples
    `excluded` are in no split, for which reason; `slides` says of each slide whether it was
    accepted (`SlideVerdict.facts`).
    """

    path: Path
    samples: int
    positions: int
    dropped: dict[str, int]
    seconds: float
    resumed: int
    excluded: dict[str, int]
    slides: list[dict[str, object]]


def build_dataset(
    scans: Sequence[Path],
    out: Path,
    settings: BuildSettings | None = None,
    *,
    split: SplitSettings | None = None,
    labels: Path | None = None,
    quality: QualitySettings | None = None,
    workers: int | AbstractContextManager[Workers] = 1,
    overwrite: bool = False,
    shard: int = SHARD,
    progress: Progress = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> BuildResult:
    """Cut the white cells of scans into a data set.

    A build that was killed goes on where it stopped when it is called again, unless settings or
    scans changed. The data set is the same, byte for byte, however often that happened and
    however many workers there were.

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
    shard
        Samples to a file of the data set.
    progress
        Called with the number of finished positions and of all positions.
    say
        Called with what a user should know.

    Raises
    ------
    UserError
        When a pass is missing, the scans' recipes differ, or no sample is left.
    """
    began = time.monotonic()
    settings, split = settings or BuildSettings(), split or SplitSettings()
    build = _Build(scans, out, settings, split, labels, quality or QualitySettings(), shard, say)
    crew = local_workers(workers) if isinstance(workers, int) else workers
    if build.is_published():
        say(f"{out} was whole already; only the last notes were missing.")
        return build.conclude(began)
    if not overwrite and not build.is_being_copied():
        refuse_existing(out)
    (build.part / FOLDER).mkdir(parents=True, exist_ok=True)
    with locked(build.part / FOLDER), crew as hands:
        writer, resumed = build.run(hands, progress)
    writer.publish()
    return build.conclude(began, resumed)


class _Build:
    """One build, step by step."""

    def __init__(
        self,
        scans: Sequence[Path],
        out: Path,
        settings: BuildSettings,
        split: SplitSettings,
        labels: Path | None,
        quality: QualitySettings,
        shard: int,
        say: Callable[[str], None],
    ) -> None:
        self._folders = [open_scan(path) for path in scans]
        self._readers = [folder.open_pass("unstained") for folder in self._folders]
        check_alike(self._readers)
        self._out, self._settings, self._split, self._shard = out, settings, split, shard
        self._labels, self._quality, self.say = labels, quality, say
        text = "" if labels is None else str(read_labels(labels).to_csv())
        limits = quality.model_dump_json()
        self._closing = {
            **split.facts(),
            "labels": text_hash([text]),
            "quality": text_hash([limits]),
        }
        self.part = unfinished_folder(out)
        highres = any(folder.pass_path("highres").is_dir() for folder in self._folders)
        self._targets = ("20x", "100x") if highres else ("20x",)

    def is_published(self) -> bool:
        """Whether an earlier build was killed after the data set had got its name."""
        if is_remote(self._out) or not (self._out / FOLDER).is_dir():
            return False
        if sealed_as(self._out, self._identity()) == self._closing:
            return True
        forget(self._out)
        return False

    def is_being_copied(self) -> bool:
        """Whether an earlier build was killed while its data set went into an object store."""
        if not is_remote(self._out) or not (self.part / FOLDER).is_dir():
            return False
        return sealed_as(self.part, self._identity()) == self._closing

    def _seal(
        self,
        writer: DatasetWriter,
        positions: Sequence[CutPosition],
        references: Sequence[FrameReference | None],
    ) -> None:
        """Add flags, labels and splits; the data set lacks but its name then."""
        table = writer.table
        if len(table):
            slides = [reader.attributes.slide for reader in self._readers]
            by_slide = dict(zip(slides, self._by_scan(positions), strict=True))
            of_slide = dict(zip(slides, references, strict=True))
            judged = judge(table, by_slide, of_slide, self._quality)
            table = judged.table
            writer.add_facts({"quality": judged.facts(self._quality)})
            for sentence in judged.sentences(self._quality):
                self.say(sentence)
        if self._labels is not None and len(table):
            labelled = join_labels(table, read_labels(self._labels), self._labels)
            self.say(
                f"{labelled.matched} of {len(table)} samples have labels; {labelled.unused} labels "
                "are of no sample."
            )
            table = labelled.table
        if len(table):
            reach_um = self._readers[0].attributes.pixel_um * (
                self._settings.crop_px + 2 * self._settings.margin_px
            )
            table = table.assign(split=self._split.divide(table, reach_um))
            left_out = int((table["split"] == "").sum())
            if left_out:
                self.say(f"{left_out} samples are in no split: they overlap samples of another.")
        writer.seal(table)

    def _identity(self) -> dict[str, str]:
        for folder in self._folders:
            if not folder.cells.exists():
                StainedCellFinder().find(folder.path)
        return identity(self._folders, self._settings, self._shard)

    def run(self, workers: Workers, progress: Progress) -> tuple[DatasetWriter, int]:
        """Cut what is not cut yet; everything but the name, and the number of positions kept."""
        self._find_cells(workers)
        state = BuildProgress(self.part, self._identity())
        try:
            if state.changed:
                self.say(f"{' and '.join(state.changed)} changed since the build that was stopped: "
                    "it starts over.")  # fmt: skip
            resumed = len(state.finished)
            if resumed:
                self.say(f"{resumed} positions were finished before and are kept.")
            scales, references = self._prepare(workers, state)
            jobs = [
                job
                for folder, scale, frames in zip(self._folders, scales, references, strict=True)
                for job in position_jobs(folder, scale, self._settings, frames)
            ]
            with self._writer(scales, state) as writer:
                state.go_on(writer)
                self._cut(workers, jobs, state, writer, progress)
                self._seal(writer, state.done, references)
            state.note_sealed(self._closing)
        finally:
            state.close()
        return writer, resumed

    def _find_cells(self, workers: Workers) -> None:
        missing = [folder.path for folder in self._folders if not folder.cells.exists()]
        for _ in workers.run(StainedCellFinder().find, missing):
            pass

    def _prepare(
        self, workers: Workers, state: BuildProgress
    ) -> tuple[list[HighresScale | None], list[FrameReference | None]]:
        """What cutting a position takes of its whole slide.

        These are the scale of the 100x pass, if there is any, and how the frames hang together.
        """
        measured = state.prepared is not None or "100x" not in self._targets
        fields = [
            scale_fields(folder) if folder.pass_path("highres").is_dir() and not measured else []
            for folder in self._folders
        ]
        # All at once: a worker that has no field left looks at frames meanwhile.
        jobs: list[Path | ScaleField] = [folder.path for folder in self._folders]
        jobs += [field for some in fields for field in some]
        found = dict(workers.run(_prepared, jobs))
        results = [found[number] for number in range(len(jobs))]
        references, located = results[: len(fields)], iter(results[len(fields) :])
        if not measured:
            state.note_prepared(
                [
                    asdict(self._scale(folder, list(islice(located, len(some)))))
                    for folder, some in zip(self._folders, fields, strict=True)
                ]
            )
        if "100x" not in self._targets:
            return [None] * len(fields), references
        return [HighresScale(**facts) for facts in state.prepared], references  # type: ignore[attr-defined]

    @staticmethod
    def _scale(folder: ScanFolder, located: Sequence[FieldScale | None]) -> HighresScale:
        if not folder.pass_path("highres").is_dir():
            return HighresScale(NOMINAL_RATIO, 0.0, 0)  # its cells will be dropped, and counted
        return mean_scale(folder, located)

    def _cut(
        self,
        workers: Workers,
        jobs: Sequence[PositionJob],
        state: BuildProgress,
        writer: DatasetWriter,
        progress: Progress,
    ) -> None:
        """Cut positions as workers take them; hand them to the data set in their order."""
        todo = [number for number in range(len(jobs)) if number not in state.finished]
        progress(len(state.finished), len(jobs))
        for place, samples in workers.run(cut_position, [jobs[number] for number in todo]):
            number = todo[place]
            state.keep(number, samples)
            if number == len(state.done):
                state.hand_over(writer, number, samples)
            self._hand_over_kept(state, writer)
            progress(len(state.finished), len(jobs))
        self._hand_over_kept(state, writer)

    @staticmethod
    def _hand_over_kept(state: BuildProgress, writer: DatasetWriter) -> None:
        while len(state.done) in state.kept:
            state.hand_over(writer, len(state.done), state.load(len(state.done)))

    def _writer(self, scales: Sequence[HighresScale | None], state: BuildProgress) -> DatasetWriter:
        attributes = self._readers[0].attributes
        measured = [asdict(scale) for scale in scales if scale is not None]
        return DatasetWriter(
            self._out,
            [frame.model_dump(mode="json") for frame in attributes.frames],
            recipe=attributes.recipe,
            pixel_um=attributes.pixel_um,
            crop_px=self._settings.crop_px,
            margin_px=self._settings.margin_px,
            targets=self._targets,
            facts={
                "slides": sorted({reader.attributes.slide for reader in self._readers}),
                "black_level": _eight_bit_black(self._readers[0]),
                "full_scale": 255,
                "camera_rotation_deg": attributes.camera_rotation_deg,
                "highres_scales": measured,
            },
            shard=self._shard,
            overwrite=True,  # refused before anything was cut
            kept=state.rows_written(self._targets),
        )

    def conclude(self, began: float, resumed: int = 0) -> BuildResult:
        """Note in every scan what became of its cells, and clear away what a resume needed."""
        base = self.part if is_remote(self._out) else self._out
        positions = recalled(base)
        table = read_table(base)
        parts = self._by_scan(positions)
        for folder, reader, part in zip(self._folders, self._readers, parts, strict=True):
            _update_cells(folder, reader, table, part)
        attributes = json.loads((base / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        forget(base, all_of_it=base == self.part)
        dropped = Counter(
            fate for done in positions for fate in done.fates.values() if fate != "sample"
        )
        return BuildResult(
            self._out,
            len(table),
            len(positions),
            dict(sorted(dropped.items())),
            time.monotonic() - began,
            resumed,
            count_flags(table["excluded"]),
            attributes["plsctl"]["quality"]["slides"],
        )

    def _by_scan(self, positions: Sequence[CutPosition]) -> list[Sequence[CutPosition]]:
        """The positions of all scans, divided by scan."""
        counts = [len(folder.open_pass("stained").names) for folder in self._folders]
        ends = list(accumulate(counts))
        return [positions[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _prepared(job: Path | ScaleField) -> Any:
    return locate_field(job) if isinstance(job, ScaleField) else frames_of_scan(job)


def _eight_bit_black(reader: PassReader) -> float:
    """Black level of the developed, 8-bit frames."""
    attributes = reader.attributes
    return attributes.black_level * 255.0 / attributes.full_scale


def _update_cells(
    folder: ScanFolder,
    reader: PassReader,
    table: pd.DataFrame,
    positions: Sequence[CutPosition],
) -> None:
    """Write into `cells.csv` what became of each cell, and where and how well it was matched.

    What the cell finder wrote stays as it is: passes and other builds rely on it.
    """
    fates: Mapping[int, str] = {
        cell: fate for done in positions for cell, fate in done.fates.items()
    }
    cells = read_cells(folder)
    cells["fate"] = [fates.get(int(cell), "") for cell in cells["cell"]]
    mine = table[table["slide"] == reader.attributes.slide].set_index("cell")
    for name in ("x_um", "y_um"):
        cells[f"matched_{name}"] = cells["cell"].map(mine[name])
    for name in ("score_20x", "score_100x"):
        if name in mine.columns:
            cells[name] = cells["cell"].map(mine[name])
    write_synced(folder.cells, cells.to_csv(index=False, float_format="%.4f"))
