"""Workers cut the positions of a build; the data set gets them in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from plsctl.process.building.kept_samples import FileJob, cut_into_file
from plsctl.process.building.progress import BuildProgress
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.samples.position import PositionJob, PositionSamples, cut_position
from plsctl.process.workers.local import Workers

CUTTING = "cutting cells"


def cut_positions(
    workers: Workers,
    jobs: Sequence[PositionJob],
    state: BuildProgress,
    writer: DatasetWriter,
    progress: Callable[[str, int, int], None],
) -> None:
    """Cut the missing positions as workers become free.

    Parameters
    ----------
    jobs
        All positions of the build, in the order of the data set.
    progress
        Called with what is being done, the number of finished positions and of all positions.
    """
    todo = [number for number in range(len(jobs)) if not state.is_finished(number)]
    progress(CUTTING, state.finished, len(jobs))
    results: Iterator[tuple[int, Path | PositionSamples]]
    if workers.by_file:
        files = [FileJob(jobs[number], state.file(number)) for number in todo]
        results = workers.run(cut_into_file, files)
    else:
        results = workers.run(cut_position, [jobs[number] for number in todo])
    for place, found in results:
        number = todo[place]
        if isinstance(found, Path):
            state.adopt(number, found)
        else:
            state.keep(number, found)
            if number == len(state.done):
                state.hand_over(writer, number, found)
        _hand_over_kept(state, writer)
        progress(CUTTING, state.finished, len(jobs))
    _hand_over_kept(state, writer)


def _hand_over_kept(state: BuildProgress, writer: DatasetWriter) -> None:
    while len(state.done) in state.kept:
        state.hand_over(writer, len(state.done), state.load(len(state.done)))
