"""The samples of a position in a file of their own, until the data set has them.

The process that cuts a position writes the file; the one that writes the data set reads it. Between
two processes this is quicker than a pipe, and a build that was killed finds it again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError, disk_error
from plsctl.process.samples.position import PositionJob, PositionSamples, cut_position

SUFFIX = ".samples"


@dataclass(frozen=True)
class CutPosition:
    """What the journal keeps of a position: its rows, one per sample, and its cells' outcomes."""

    rows: pd.DataFrame
    outcomes: dict[int, str]


@dataclass(frozen=True)
class FileJob:
    """A position to cut, and the file for its samples."""

    job: PositionJob
    file: Path


def cut_into_file(wanted: FileJob) -> Path:
    """Cut a position and write its samples; returns the file, which is renamed later."""
    partial = unfinished(wanted.file)
    write_samples(partial, cut_position(wanted.job))
    return partial


def unfinished(file: Path) -> Path:
    """The temporary file of this process for a file; no other process writes it."""
    return file.with_suffix(f".{os.getpid()}.part")


def write_samples(path: Path, samples: PositionSamples) -> None:
    """Write a file of samples.

    It holds the text of `samples_text`, the stacks and the targets in the order that the text
    names, each in NumPy's own format and not compressed, and the checksums of all: it is read once
    and deleted.
    """
    text = np.frombuffer(samples_text(samples).encode(), np.uint8)
    arrays: list[NDArray[np.generic]] = [text, samples.stacks, *samples.targets.values()]
    try:
        with path.open("wb") as file:
            for array in [*arrays, _checksums(arrays)]:
                np.save(file, array)
    except OSError as error:
        raise disk_error(error, path.parent) from None


def read_samples(path: Path) -> PositionSamples:
    """Read what `write_samples` wrote.

    Raises
    ------
    UserError
        When the file is damaged.
    """
    try:
        with path.open("rb") as file:
            text = np.load(file).tobytes().decode()
            names = json.loads(text)["targets"]
            stacks = np.load(file)
            targets = {name: np.load(file) for name in names}
            noted = np.load(file)
        arrays = [np.frombuffer(text.encode(), np.uint8), stacks, *targets.values()]
        if not np.array_equal(noted, _checksums(arrays)):
            raise ValueError("a checksum differs")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(
            f"what was kept of a position is damaged ({error}).",
            file=path,
            hint=f"Delete {path.parents[2]} and run the same command again.",
        ) from None
    found = position_of(text)
    return PositionSamples(stacks, targets, found.rows, found.outcomes)


def _checksums(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.uint32]:
    found = [zlib.crc32(np.ascontiguousarray(array).data) for array in arrays]
    return np.array(found, np.uint32)


def samples_text(samples: PositionSamples) -> str:
    """All but the images, as JSON; `position_of` reads it."""
    rows = samples.rows.to_dict(orient="records")
    fields = {
        "rows": rows,
        "fates": list(samples.outcomes.items()),
        "targets": list(samples.targets),
    }
    return json.dumps(fields, default=_plain)


def position_of(text: str) -> CutPosition:
    """Rows and outcomes of a position from `samples_text`."""
    found = json.loads(text)
    return CutPosition(pd.DataFrame(found["rows"]), {int(c): fate for c, fate in found["fates"]})


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a table cannot hold {value!r}")
