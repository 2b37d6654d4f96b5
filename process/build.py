"""Scans in, data set out: every position cut, in parallel (papers/002, section 3.1.3)."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import pandas as pd

from plsctl.acquire.errors import UserError
from plsctl.acquire.store import PassReader, ScanFolder
from plsctl.process.cells import StainedCellFinder
from plsctl.process.dataset import DatasetWriter, assign_splits
from plsctl.process.highres import NOMINAL_RATIO
from plsctl.process.highres_scale import HighresScale, measure_highres_scale
from plsctl.process.samples import BuildSettings, PositionJob, PositionSamples, cut_position

Progress = Callable[[int, int], None]
SplitBy = str

_AHEAD = 2  # positions waiting per worker: keeps workers busy, bounds memory


@dataclass(frozen=True)
class SplitSettings:
    """How samples are divided; no `ratios` leaves them all in "train"."""

    ratios: tuple[int, ...] | None = (8, 1, 1)
    by: SplitBy = "position"
    seed: int = 0


@dataclass(frozen=True)
class BuildResult:
    """What a build yielded: samples, positions looked at, and the cells dropped by reason."""

    path: Path
    samples: int
    positions: int
    dropped: dict[str, int]
    seconds: float


def build_dataset(
    scans: Sequence[Path],
    out: Path,
    settings: BuildSettings | None = None,
    *,
    split: SplitSettings | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> BuildResult:
    """Cut the white cells of scans into a data set.

    Parameters
    ----------
    scans
        Scan folders with an unstained and a stained pass; `cells.csv` is made where it is missing.
        When any of them has a 100x pass, every sample must have a 100x target.
    out
        The data set to write, `*.zarr`; it has this name only once it is whole.
    workers
        Processes; the data set is the same for any number.
    progress
        Called with the number of finished positions and of all positions.

    Raises
    ------
    UserError
        When a pass is missing, the scans' recipes differ, or no sample is left.
    """
    began = time.monotonic()
    settings, split = settings or BuildSettings(), split or SplitSettings()
    if workers < 1:
        raise UserError(f"{workers} workers cannot build a data set.", hint="Give 1 or more.")
    folders = [_open_scan(path) for path in scans]
    readers = [folder.open_pass("unstained") for folder in folders]
    _check_alike(readers)
    highres = any(folder.pass_path("highres").is_dir() for folder in folders)
    scales = [_scale(folder) if highres else None for folder in folders]
    jobs = [
        job
        for folder, scale in zip(folders, scales, strict=True)
        for job in _jobs(folder, scale, settings)
    ]
    writer = _open_writer(out, readers, settings, scales, overwrite)
    dropped: Counter[str] = Counter()
    fates: dict[Path, dict[int, str]] = {folder.path: {} for folder in folders}
    with writer:
        results = cut_positions(jobs, workers)
        for done, (job, result) in enumerate(zip(jobs, results, strict=True), start=1):
            dropped += result.dropped
            fates[job.scan] |= result.fates
            if len(result.rows):
                writer.append(result.stacks, result.targets, result.rows)
            progress(done, len(jobs))
        table = writer.table
        path = writer.finish(_splits(table, split))
    for folder in folders:
        _update_cells(folder, table, fates[folder.path], readers[folders.index(folder)])
    seconds = time.monotonic() - began
    return BuildResult(path, len(table), len(jobs), dict(sorted(dropped.items())), seconds)


def _open_scan(path: Path) -> ScanFolder:
    if not path.is_dir():
        raise UserError(
            "this scan folder does not exist.",
            file=path,
            hint="Name the folder that plsctl scan wrote, such as scans/S001.",
        )
    folder = ScanFolder(path)
    for name in ("unstained", "stained"):
        folder.open_pass(name)
    if not folder.cells.exists():
        StainedCellFinder().find(path)
    return folder


def _check_alike(readers: Sequence[PassReader]) -> None:
    """One data set holds one recipe at one scale; the samples of others would not compare."""
    first = readers[0]
    for other in readers[1:]:
        if other.labels != first.labels:
            raise UserError(
                f"its recipe '{other.attributes.recipe}' differs from "
                f"'{first.attributes.recipe}' of {first.path.parent.name}.",
                file=other.path,
                hint="Build scans of different recipes into data sets of their own.",
            )
        if abs(other.attributes.pixel_um / first.attributes.pixel_um - 1) > 0.01:
            raise UserError(
                f"its pixels of {other.attributes.pixel_um:g} um differ from "
                f"{first.attributes.pixel_um:g} um of {first.path.parent.name}.",
                file=other.path,
                hint="Build scans of different scale into data sets of their own.",
            )


def read_cells(folder: ScanFolder) -> pd.DataFrame:
    """`cells.csv` of a scan.

    Raises
    ------
    UserError
        When a column is missing or a value is not a number.
    """
    needed = ["cell", "x_um", "y_um", "pixel_x", "pixel_y", "width_px", "height_px", "area_px"]
    try:
        table = pd.read_csv(folder.cells, dtype={"position": str})
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read ({error}).", file=folder.cells) from None
    missing = [name for name in [*needed, "position"] if name not in table.columns]
    if missing:
        raise UserError(
            f"the column {missing[0]} is missing.",
            file=folder.cells,
            hint="Delete the file and run plsctl find-cells.",
        )
    for name in needed:
        values = pd.to_numeric(table[name], errors="coerce")
        if bool(values.isna().any()):
            line = int(values.isna().to_numpy().argmax()) + 2
            raise UserError(
                f"'{table[name].iloc[line - 2]}' is not a number.",
                file=folder.cells,
                line=line,
                field=name,
                hint="Delete the file and run plsctl find-cells.",
            )
        table[name] = values
    return table


def _scale(folder: ScanFolder) -> HighresScale:
    if folder.pass_path("highres").is_dir():
        return measure_highres_scale(folder)
    return HighresScale(NOMINAL_RATIO, 0.0, 0)  # its cells will be dropped, and counted


def _jobs(
    folder: ScanFolder, scale: HighresScale | None, settings: BuildSettings
) -> list[PositionJob]:
    cells = read_cells(folder)
    names = folder.open_pass("stained").names
    return [
        PositionJob(folder.path, name, cells[cells["position"] == name], scale, settings)
        for name in names
    ]


def cut_positions(jobs: Sequence[PositionJob], workers: int) -> Iterator[PositionSamples]:
    """The samples of each job in the order of the jobs, cut by that many processes."""
    if workers == 1:
        yield from map(cut_position, jobs)
        return
    # Fresh interpreters: forking a process whose libraries hold threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_quiet_worker) as pool:
        try:
            yield from _in_order(pool, jobs, workers * _AHEAD)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _quiet_worker() -> None:
    cv2.setNumThreads(1)  # the processes are the parallelism


def _in_order(
    pool: ProcessPoolExecutor, jobs: Iterable[PositionJob], ahead: int
) -> Iterator[PositionSamples]:
    waiting: deque[Future[PositionSamples]] = deque()
    for job in jobs:
        waiting.append(pool.submit(cut_position, job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _open_writer(
    out: Path,
    readers: Sequence[PassReader],
    settings: BuildSettings,
    scales: Sequence[HighresScale | None],
    overwrite: bool,
) -> DatasetWriter:
    attributes = readers[0].attributes
    measured = [asdict(scale) for scale in scales if scale is not None]
    return DatasetWriter(
        out,
        [frame.model_dump(mode="json") for frame in attributes.frames],
        recipe=attributes.recipe,
        pixel_um=attributes.pixel_um,
        crop_px=settings.crop_px,
        targets=("20x", "100x") if measured else ("20x",),
        facts={
            "slides": sorted({reader.attributes.slide for reader in readers}),
            "black_level": _eight_bit_black(readers[0]),
            "full_scale": 255,
            "camera_rotation_deg": attributes.camera_rotation_deg,
            "highres_scales": measured,
        },
        overwrite=overwrite,
    )


def _eight_bit_black(reader: PassReader) -> float:
    """Black level of the developed, 8-bit frames."""
    attributes = reader.attributes
    return attributes.black_level * 255.0 / attributes.full_scale


def _splits(table: pd.DataFrame, split: SplitSettings) -> pd.Series[str] | None:
    if table.empty:
        return None
    if split.ratios is None:
        return pd.Series("train", index=table.index)
    return assign_splits(table, split.ratios, split.seed, by=split.by)  # type: ignore[arg-type]


def _update_cells(
    folder: ScanFolder, table: pd.DataFrame, fates: dict[int, str], reader: PassReader
) -> None:
    """Write into `cells.csv` what became of each cell, and the places the matches gave."""
    cells = read_cells(folder)
    cells["fate"] = [fates.get(int(cell), "") for cell in cells["cell"]]
    mine = table[table["slide"] == reader.attributes.slide].set_index("cell")
    here = cells["cell"].isin(mine.index)
    order = cells.loc[here, "cell"]
    for name in ("x_um", "y_um", "stage_x_um", "stage_y_um"):
        cells[name] = cells[name].astype(float)
        cells.loc[here, name] = mine.loc[order, name].to_numpy(dtype=float)
    for name in ("score_20x", "score_100x"):
        if name in mine.columns:
            cells[name] = cells["cell"].map(mine[name])
    partial = folder.cells.with_name("cells.csv.part")
    cells.to_csv(partial, index=False, float_format="%.4f")
    partial.replace(folder.cells)
