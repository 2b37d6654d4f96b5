"""The progress of a build on disk, so that a killed build resumes where it stopped.

Beside the arrays, `X.zarr.part/.build` holds

- `journal.jsonl`: what the build is made of, then one line per position that is in the data set
  as far as whole shards reach, with the rows of its samples and the fate of every cell;
- `positions/`: the samples of positions that are cut, but not in whole shards yet
  (`plsctl.process.building.kept_samples`).

Every line and file is on the disk before anything that relies on it happens. The folder goes with
the data set when that gets its name, and is deleted last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from plsctl.acquire.errors import disk_error
from plsctl.acquire.files.whole_files import rename
from plsctl.acquire.store.journal import Journal, damaged_lines, read_journal
from plsctl.process.building.kept_samples import (
    SUFFIX,
    CutPosition,
    position_of,
    read_samples,
    samples_text,
    unfinished,
    write_samples,
)
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.samples.position import PositionSamples

FOLDER = ".build"


class BuildProgress:
    """The state of one build in its `.part` folder, new or continued.

    Parameters
    ----------
    part
        The unfinished data set.
    identity
        What the samples depend on, by kind ("the settings", "the scan S001"): a hash each.
    """

    def __init__(self, part: Path, identity: Mapping[str, str]) -> None:
        self._folder = part / FOLDER
        self._positions = self._folder / "positions"
        self._positions.mkdir(parents=True, exist_ok=True)
        journal = self._folder / "journal.jsonl"
        events = list(read_journal(journal))
        self.changed = _changed(events, identity) if events else ()
        """What differs from the stopped build; if anything does, the build starts over."""
        if damaged_lines(journal):
            # A position that is missing in the list would put all later ones in the wrong place.
            self.changed = ("the journal, now damaged,",)
        if self.changed or not events:
            _empty(part, but=FOLDER)
            _empty(self._folder, but=".lock")
            self._positions.mkdir()
            events = []
        self._journal = Journal(self._folder / "journal.jsonl")
        if not events:
            self._journal.append("begun", identity=dict(identity))
            self._journal.sync()
        self.prepared: object | None = None
        """The values given to `note_prepared`."""
        self.done: list[CutPosition] = []
        """Positions handed to the data set, in order."""
        self.written = 0
        """Samples in whole shards."""
        self._forgotten = self._forgotten_samples = 0
        for event in events:
            self._recall(event)
        for file in self._positions.glob("*.part"):
            file.unlink()
        names = self._positions.glob(f"*{SUFFIX}")
        self.kept = {int(file.stem) for file in names} - set(range(len(self.done)))
        """Positions that are cut and wait to be handed to the data set."""

    def _recall(self, event: Mapping[str, object]) -> None:
        if event["event"] == "prepared":
            self.prepared = event["facts"]
        elif event["event"] == "position" and event["number"] == len(self.done):
            self.done.append(position_of(str(event["samples"])))
            self.written = int(str(event["written"]))

    @property
    def finished(self) -> int:
        """The number of positions that need not be cut again."""
        return len(self.done) + len(self.kept)

    def is_finished(self, number: int) -> bool:
        """Whether a position need not be cut again."""
        return number < len(self.done) or number in self.kept

    def note_prepared(self, values: object) -> None:
        """Keep what was measured before the first position, as JSON."""
        self.prepared = values
        self._journal.append("prepared", facts=values)
        self._journal.sync()

    def keep(self, number: int, samples: PositionSamples) -> None:
        """Put a position's samples on the disk."""
        partial = unfinished(self.file(number))
        write_samples(partial, samples)
        self.adopt(number, partial)

    def adopt(self, number: int, partial: Path) -> None:
        """Keep a position's samples that `write_samples` wrote, maybe in another process."""
        try:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            rename(partial, self.file(number))
        except OSError as error:
            raise disk_error(error, self._positions) from None
        self.kept.add(number)

    def load(self, number: int) -> PositionSamples:
        """The samples of a position that was kept."""
        return read_samples(self.file(number))

    def hand_over(self, writer: DatasetWriter, number: int, samples: PositionSamples) -> None:
        """Append the next position to the data set and note it."""
        text = samples_text(samples)
        done = position_of(text)  # as a resumed build will read it
        if len(done.rows):
            writer.append(samples.stacks, samples.targets, done.rows)
        self._journal.append("position", number=number, samples=text, written=writer.written)
        self._journal.sync()
        self.done.append(done)
        self.kept.discard(number)
        self.written = writer.written
        self._forget_written()

    def go_on(self, writer: DatasetWriter) -> None:
        """Give the writer again the samples that a killed one held in memory."""
        first = 0
        for number, done in enumerate(self.done):
            missing = min(max(0, self.written - first), len(done.rows))
            if missing < len(done.rows):
                samples = self.load(number)
                targets = {name: array[missing:] for name, array in samples.targets.items()}
                writer.append(samples.stacks[missing:], targets, done.rows[missing:])
            first += len(done.rows)
        self._forget_written()

    def _forget_written(self) -> None:
        """Delete the samples of positions that whole shards hold."""
        while self._forgotten < len(self.done):
            end = self._forgotten_samples + len(self.done[self._forgotten].rows)
            if end > self.written:
                return
            self.file(self._forgotten).unlink(missing_ok=True)
            self._forgotten, self._forgotten_samples = self._forgotten + 1, end

    def rows_written(self, targets: Sequence[str]) -> list[pd.DataFrame]:
        """Rows of the samples in whole shards, as the writer noted them."""
        present = ";".join(targets)
        left = self.written
        rows = []
        for done in self.done:
            if left and len(done.rows):
                rows.append(done.rows[:left].assign(targets=present))
                left -= len(rows[-1])
        return rows

    def note_sealed(self, values: Mapping[str, object]) -> None:
        """Note that only the rename is missing, and how the samples were divided."""
        self._journal.append("sealed", facts=dict(values))
        self._journal.sync()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def file(self, number: int) -> Path:
        """Where the samples of a position are kept."""
        return self._positions / f"{number:06d}{SUFFIX}"


def sealed_as(data: Path, identity: Mapping[str, str]) -> Mapping[str, object] | None:
    """The values of `note_sealed`, of a whole data set whose build was killed at the very end."""
    events = list(read_journal(data / FOLDER / "journal.jsonl"))
    if not events or _changed(events, identity) or events[-1]["event"] != "sealed":
        return None
    values: Mapping[str, object] = events[-1]["facts"]
    return values


def recalled(data: Path) -> list[CutPosition]:
    """The positions of a build, from the journal in its folder."""
    events = read_journal(data / FOLDER / "journal.jsonl")
    return [position_of(event["samples"]) for event in events if event["event"] == "position"]


def _changed(
    events: Sequence[Mapping[str, object]], identity: Mapping[str, str]
) -> tuple[str, ...]:
    before = events[0].get("identity")
    if not isinstance(before, dict):
        return ("the journal",)
    names = dict.fromkeys([*before, *identity])
    return tuple(name for name in names if before.get(name) != identity.get(name))


def _empty(folder: Path, but: str) -> None:
    for entry in folder.iterdir():
        if entry.name == but:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def forget(data: Path, all_of_it: bool = False) -> None:
    """Delete what only a resumed build needs, or the whole folder.

    One rename takes it out of the data set: a kill amid the deletion leaves a whole data set, and
    beside it what the next build of that name deletes.
    """
    unwanted = data if all_of_it else data / FOLDER
    aside = data.with_name(f".{data.name}.forgotten")
    shutil.rmtree(aside, ignore_errors=True)
    rename(unwanted, aside)
    shutil.rmtree(aside)
