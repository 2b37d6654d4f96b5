"""Measurements on the whole slide that cutting a position needs, made before the first cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from plsctl.acquire.store.folder import ScanFolder
from plsctl.process.aperture.orientation_check import TableFit, check_pass
from plsctl.process.matching.highres import NOMINAL_RATIO
from plsctl.process.quality.frame_samples import frames_of_pass
from plsctl.process.quality.frames import FrameReference
from plsctl.process.samples.highres_scale import (
    FieldScale,
    HighresScale,
    ScaleField,
    locate_field,
    mean_scale,
    scale_fields,
)
from plsctl.process.workers.local import Workers

if TYPE_CHECKING:  # what a worker need not load
    from plsctl.process.building.progress import BuildProgress

MEASURING = "measuring light and scale"

Scales = list[HighresScale | None]
References = list[FrameReference | None]
TableFits = list[TableFit | None]


def prepare(
    folders: Sequence[ScanFolder],
    workers: Workers,
    state: BuildProgress,
    highres: bool,
    progress: Callable[[str, int, int], None],
) -> tuple[Scales, References, TableFits]:
    """The scale of each scan's 100x pass, the reference for its frames, and how its LEDs fit.

    Parameters
    ----------
    state
        Keeps the scales for a resumed build.
    highres
        Whether samples have 100x targets; there are no scales else.
    progress
        Called with what is being done, how much of it is done, and how much there is.
    """
    measured = state.prepared is not None or not highres
    fields = [
        scale_fields(folder) if folder.pass_path("highres").is_dir() and not measured else []
        for folder in folders
    ]
    # All at once: a worker that has no field left looks at frames meanwhile.
    jobs: list[ScanFolder | ScaleField] = [*folders]
    jobs += [field for some in fields for field in some]
    found: dict[int, Any] = {}
    progress(MEASURING, 0, len(jobs))
    for number, result in workers.run(_prepared, jobs):
        found[number] = result
        progress(MEASURING, len(found), len(jobs))
    results = [found[number] for number in range(len(jobs))]
    pairs, located = results[: len(fields)], iter(results[len(fields) :])
    references, fits = ([pair[which] for pair in pairs] for which in (0, 1))
    if not measured:
        scales = [
            _scale(folder, list(islice(located, len(some))))
            for folder, some in zip(folders, fields, strict=True)
        ]
        state.note_prepared([asdict(scale) for scale in scales])
    if not highres:
        return [None] * len(folders), references, fits
    kept = cast("list[dict[str, Any]]", state.prepared)
    return [HighresScale(**one) for one in kept], references, fits


def _prepared(job: ScanFolder | ScaleField) -> Any:
    if isinstance(job, ScaleField):
        return locate_field(job)
    reader = job.open_pass("unstained", one_core=True)
    return frames_of_pass(reader), check_pass(reader)


def _scale(folder: ScanFolder, located: Sequence[FieldScale | None]) -> HighresScale:
    if not folder.pass_path("highres").is_dir():
        return HighresScale(NOMINAL_RATIO, 0.0, 0)  # its cells will be dropped, and counted
    return mean_scale(folder, located)
