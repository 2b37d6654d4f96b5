"""Tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal


@dataclass(frozen=True)
class Score:
    """A number of a table with its interval; the best of its column is marked."""

    value: float
    ci95: tuple[float, float] | None = None

    @property
    def interval(self) -> str:
        """The interval as text."""
        return "" if self.ci95 is None else f"{self.ci95[0]:.3f} to {self.ci95[1]:.3f}"


@dataclass(frozen=True)
class Noted:
    """A text of a table with a smaller one below it."""

    text: str
    note: str


Best = Literal["high", "low"]


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    best: Sequence[Best | None] | None = None,
    *,
    short: bool = False,
) -> str:
    """A table; numbers stand to the right.

    Parameters
    ----------
    best
        For each column whether its highest or its lowest score is the best; that one is marked.
    short
        No wider than its content.
    """
    body = [list(line) for line in rows]
    wanted = list(best) if best is not None else [None] * len(columns)
    numeric = [
        bool(body) and all(isinstance(line[i], int | float) for line in body)
        for i in range(len(columns))
    ]
    kinds = [' class="number"' if number else "" for number in numeric]
    head = "".join(
        f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, columns, strict=True)
    )
    marked = [_best([line[i] for line in body], way) for i, way in enumerate(wanted)]
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{_cell(value, top)}</td>"
            for kind, value, top in zip(kinds, line, marked, strict=True)
        )
        + "</tr>"
        for line in body
    )
    kind = ' class="short"' if short else ""
    return (
        f'<div class="scroll-x"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Names with what is known of each, one a line."""
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows
    )
    return f'<table class="pairs"><tbody>{lines}</tbody></table>'


def _best(values: Sequence[object], way: Best | None) -> float | None:
    scores = [value.value for value in values if isinstance(value, Score)]
    if way is None or len(scores) < 2:
        return None
    return max(scores) if way == "high" else min(scores)


def _cell(value: object, best: float | None) -> str:
    if isinstance(value, Score):
        text = f"{value.value:.3f}"
        shown = f"<b>{text}</b>" if value.value == best else text
        return shown + (f"<small>{value.interval}</small>" if value.interval else "")
    if isinstance(value, Noted):
        return f"{escape(value.text)}<small>{escape(value.note)}</small>"
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))
