"""Looking through the samples of a data set: the worst first, each kept or dropped.

A decision goes into the column `keep` of the data set's table at once ("yes", "no", or nothing
where nobody has decided); the table is replaced as a whole, so a kill loses no more than the last
decision. Dropped samples stay in the data set and are left out of its splits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
import pandas as pd

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import write_whole
from plsctl.process.dataset.files import read_table
from plsctl.process.dataset.format import TABLE_NAME
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import LEFT_OUT_OF, is_damaged, settled
from plsctl.process.report.dataset import as_image, brightened
from plsctl.process.review.decisions import NAMING, Decision, read_decisions
from plsctl.process.review.findings import Findings
from plsctl.process.review.table_lines import TableLines

Row = dict[str, object]

FLAGS_FIRST = "flags"
"""The order by the number of flags."""
SHOWN_IMAGES = 5
_QUALITY, _LOSSLESS = 90, 101  # of WebP
_NO_MEASURES = {"sample", "cell", "keep"}


class Changed(Exception):
    """Somebody else decided about the sample meanwhile."""


@dataclass(frozen=True)
class Query:
    """Which samples, and in which order.

    `order` is a column of numbers, or "flags" for the number of flags; `state` "open" (nobody has
    decided), "kept", "dropped", "excluded" (by quality control) or "" for all.
    """

    order: str
    largest_first: bool
    slide: str = ""
    flag: str = ""
    state: str = ""


class Review:
    """A data set under review. Decisions may come from several threads.

    Raises
    ------
    UserError
        An image is asked for that the data set does not hold.
    """

    def __init__(self, data: Dataset, images: Sequence[str] | None = None) -> None:
        self.data = data
        names = list(images) if images is not None else _chosen(data)
        self._places = data.channels_of(names, wanted="the review")
        self.images = [*names, *data.targets]
        self.captions = [*names, *(f"stained {target}" for target in data.targets)]
        # Tables are replaced and never changed: who reads takes the present one, once; the lock
        # keeps those who write from undoing each other's decisions.
        self._findings = Findings(data)
        self._lock = Lock()
        self._seen = _stamp(data.path)
        self._lines = TableLines(data.path)
        self._table = _with_keep(data.table)

    @property
    def measures(self) -> list[str]:
        """Columns of numbers by which samples can be put in order."""
        return _measures(self._table)

    @property
    def slides(self) -> list[str]:
        """The slides in the data set."""
        return sorted(set(self._table["slide"]))

    @property
    def flags(self) -> dict[str, int]:
        """Every flag and how many samples carry it."""
        each = self._table["flags"].str.split(";").explode()
        return {str(name): int(n) for name, n in each[each != ""].value_counts().items()}

    def counts(self) -> dict[str, int]:
        """Samples in all, kept, dropped and open."""
        keep = self._table["keep"]
        return {
            "samples": len(keep),
            "kept": int((keep == "yes").sum()),
            "dropped": int((keep == "no").sum()),
            "open": int((keep == "").sum()),
        }

    def worst_first(self) -> Query:
        """The order to begin with: most flags first, or the poorest match."""
        if self.flags:
            return Query(FLAGS_FIRST, largest_first=True)
        scores = [name for name in self.measures if name.startswith("score_")]
        return Query(scores[0], False) if scores else Query(FLAGS_FIRST, True)

    def select(self, query: Query) -> list[int]:
        """Numbers of the samples in the order asked for.

        Raises
        ------
        UserError
            There is no such measure.
        """
        table = self._table
        chosen = pd.Series(True, index=table.index)
        if query.slide:
            chosen &= table["slide"] == query.slide
        if query.flag:
            chosen &= table["flags"].str.split(";").map(lambda flags: query.flag in flags)
        if query.state == "excluded":
            chosen &= table["excluded"] != ""
        elif query.state:
            chosen &= table["keep"] == {"kept": "yes", "dropped": "no", "open": ""}[query.state]
        if query.order == FLAGS_FIRST:
            values = table["flags"].map(lambda flags: len(flags.split(";")) if flags else 0)
        elif query.order in _measures(table):
            values = table[query.order]
        else:
            raise UserError(
                f"the data set has no measure '{query.order}'.",
                field="--order",
                hint=f"Choose {', '.join([FLAGS_FIRST, *_measures(table)])}.",
            )
        ordered = values[chosen].sort_values(
            ascending=not query.largest_first, kind="stable", na_position="last"
        )
        return [int(number) for number in table.loc[ordered.index, "sample"]]

    def row(self, sample: int) -> Row:
        """A sample's row, and under `findings` the measures behind its flags.

        Numbers that are missing are left out.
        """
        found = self._table.iloc[sample]
        row: Row = {
            str(name): value.item() if hasattr(value, "item") else value
            for name, value in found.items()
            if not (isinstance(value, float) and not np.isfinite(value))
        }
        return row | {"findings": [one.as_dict() for one in self._findings.of(sample)]}

    def picture(self, sample: int, *, lossless: bool = True) -> bytes:
        """The sample's images side by side in the order of `captions`, as WebP.

        Of samples that were left out as damaged, a grey strip.
        """
        if bool(is_damaged(self._table.iloc[[sample]]).iloc[0]):
            side = self.data.crop_px
            strip = np.full((side, side * len(self.images), 3), 128, np.uint8)
        else:
            stack = self.data.read_images([sample], self._places)[0]
            crops = [self.data.read_target(name, [sample])[0] for name in self.data.targets]
            tiles = [brightened(as_image(image)) for image in stack]
            strip = np.hstack([*tiles, *(as_image(crop) for crop in crops)])
        quality = _LOSSLESS if lossless else _QUALITY
        colours = cv2.cvtColor(strip, cv2.COLOR_RGB2BGR)
        _, content = cv2.imencode(".webp", colours, [cv2.IMWRITE_WEBP_QUALITY, quality])
        return content.tobytes()

    def decide(self, sample: int, keep: Decision, was: Decision) -> dict[str, int]:
        """Write a decision into the data set; the counts after it.

        Parameters
        ----------
        was
            What the reviewer saw: a decision of somebody else's is not overwritten.

        Raises
        ------
        Changed
            The sample has another decision by now.
        UserError
            There is no such sample, or the table cannot be written.
        """
        with self._lock:
            table = self._fresh()
            if not 0 <= sample < len(table):
                raise UserError(f"the data set has no sample {sample}.")
            if table["keep"].iloc[sample] != was:
                self._table = table
                raise Changed
            self._store(table, {sample: keep})
        return self.counts()

    def adopt(self, path: Path) -> int:
        """Take decisions from a CSV file; how many there were.

        Raises
        ------
        UserError
            The file cannot be read, or is of another data set.
        """
        with self._lock:
            table = self._fresh()
            decisions = read_decisions(path, table)
            self._store(table, decisions)
        return len(decisions)

    def export(self, path: Path) -> int:
        """Write the decisions to a CSV file; how many there are.

        Raises
        ------
        UserError
            The file cannot be written.
        """
        table = self._table
        columns = [name for name in (*NAMING, "keep") if name in table.columns]
        decided = table.loc[table["keep"] != "", columns]
        write_whole(path, decided.to_csv(index=False))
        return len(decided)

    def _fresh(self) -> pd.DataFrame:
        """The table as it is on disk: other commands may have changed it meanwhile."""
        stamp = _stamp(self.data.path)
        if stamp != self._seen:
            self._table, self._seen = _with_keep(read_table(self.data.path)), stamp
            self._lines.forget()
        return self._table

    def _store(self, table: pd.DataFrame, decisions: dict[int, Decision]) -> None:
        table = _decided(table, decisions)
        self._lines.write(table, list(decisions))
        self._table, self._seen = table, _stamp(self.data.path)


def _chosen(data: Dataset) -> list[str]:
    """Bright field, and images under single LEDs spread over the angles."""
    steepness = {
        frame.label: math.hypot(*frame.direction)
        for frame in data.frames
        if frame.direction is not None
    }
    single = sorted(steepness, key=lambda label: steepness[label])
    count = min(SHOWN_IMAGES - 1, len(single))
    spread = [single[round(place)] for place in np.linspace(0, len(single) - 1, count)]
    rest = [label for label in data.labels if label not in steepness]
    return [*rest[:1], *spread] or list(data.labels[:SHOWN_IMAGES])


def _measures(table: pd.DataFrame) -> list[str]:
    return [
        str(name)
        for name, column in table.items()
        if name not in _NO_MEASURES and pd.api.types.is_numeric_dtype(column)
    ]


def _stamp(folder: Path) -> tuple[int, int]:
    status = (folder / TABLE_NAME).stat()
    return status.st_mtime_ns, status.st_size


def _with_keep(table: pd.DataFrame) -> pd.DataFrame:
    names = ("flags", "excluded", "keep")
    return table.assign(**{name: table.get(name, "") for name in names})


def _decided(table: pd.DataFrame, decisions: dict[int, Decision]) -> pd.DataFrame:
    """The table with decisions, and with the splits of what they leave out or take back."""
    numbers = list(decisions)
    rows = settled(table.iloc[numbers].assign(keep=list(decisions.values())))
    columns = {}
    for name in ("keep", "split", LEFT_OUT_OF):
        if name in rows.columns and name in table.columns:
            values = table[name].to_numpy(dtype=object, copy=True)
            values[numbers] = rows[name]
            columns[name] = values
    return table.assign(**columns)
