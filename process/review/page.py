"""The page on which samples are reviewed: served by `plsctl review`, or a file on its own.

Both are one page. Served, it asks for samples and sends decisions; as a file it holds its samples,
keeps decisions in the browser and saves them as CSV for `plsctl review --decisions`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from plsctl.acquire.files.whole_files import write_whole
from plsctl.process.pages.scale_bar import bar_length_um
from plsctl.process.pages.sources import script_element, style_element
from plsctl.process.report.dataset import bar_note
from plsctl.process.review.decisions import NAMING
from plsctl.process.review.findings import unit_of
from plsctl.process.review.session import FLAGS_FIRST, Query, Review

STEP = 25
"""Samples that are shown at a time."""


def served_page(review: Review, start: Query) -> str:
    """The page that asks its server for samples and sends it decisions."""
    directions = [("yes", "largest first"), ("no", "smallest first")]
    orders = [(name, name) for name in (FLAGS_FIRST, *review.measures)]
    controls = _select("order", "Order", orders, start.order) + _select(
        "largest", "", directions, "yes" if start.largest_first else "no"
    )
    chosen = {"slide": start.slide, "flag": start.flag, "state": start.state}
    return _page(review, controls + _filters(review, chosen), _described(review))


def write_page(review: Review, path: Path, query: Query, most: int) -> int:
    """Write the page as one file with its samples inside; how many there are.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    numbers = review.select(query)[:most]
    rows = [review.row(number) | {"picture": _embedded(review, number)} for number in numbers]
    content = _described(review) | {
        "rows": rows,
        "step": STEP,
        "naming": [name for name in NAMING if name in review.data.table.columns],
        "identity": f"{review.data.path.name} {len(review.data)}",
    }
    save = '<button id="save">Save decisions</button>'
    write_whole(path, _page(review, _filters(review, {}) + save, content))
    return len(rows)


def _embedded(review: Review, number: int) -> str:
    return (
        "data:image/webp;base64,"
        + base64.b64encode(review.picture(number, lossless=False)).decode()
    )


def _described(review: Review) -> dict[str, object]:
    """The data set's measures, images and scale, for the script."""
    data = review.data
    # Places say nothing of a sample's quality.
    measures = [name for name in review.measures if not name.endswith(("_um", "_x", "_y"))]
    return {
        "facts": measures,
        "units": {name: unit_of(name) for name in measures if unit_of(name)},
        "images": review.images,
        "crop_px": data.crop_px,
        "bar_px": bar_length_um(data.crop_px * data.pixel_um) / data.pixel_um,
    }


def _verdicts(review: Review) -> str:
    """A line for each slide that quality control has rejected."""
    return "".join(
        f'<p class="rejected"><span class="excluded">slide {escape(str(verdict["slide"]))} '
        f"rejected</span> {escape('; '.join(verdict['reasons']))}</p>"
        for verdict in review.data.verdicts
        if not verdict["accepted"]
    )


def _filters(review: Review, chosen: Mapping[str, str]) -> str:
    flags = [(name, f"{name} ({count})") for name, count in sorted(review.flags.items())]
    states = [(name, name) for name in ("open", "kept", "dropped", "excluded")]
    parts = [("state", "Decision", states)]
    if flags:
        parts.insert(0, ("flag", "Flag", flags))
    if len(review.slides) > 1:
        parts.insert(0, ("slide", "Slide", [(name, name) for name in review.slides]))
    return "".join(
        _select(name, label, [("", "all"), *choices], chosen.get(name, ""))
        for name, label, choices in parts
    )


def _select(name: str, label: str, choices: list[tuple[str, str]], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(text)}'
        "</option>"
        for value, text in choices
    )
    return f'<label>{label} <select id="{name}">{options}</select></label>'


def _page(review: Review, controls: str, content: dict[str, object]) -> str:
    name = escape(review.data.path.name)
    # "</" would end the script element early.
    values = json.dumps(content | {"captions": review.captions}).replace("</", "<\\/")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Review of {name}</title>{style_element('review.css')}</head><body>"
        f"<header><h1>{name}</h1>{controls}"
        "<span><kbd>K</kbd> keep <kbd>D</kbd> drop <kbd>↑</kbd> <kbd>↓</kbd> move</span>"
        '<span id="counts"></span><div id="problem" role="alert"></div></header>'
        f'<main>{_verdicts(review)}<p class="hint">{bar_note(review.data)} Measures that failed '
        "stand beside their limit; limits against what is usual on a slide are given as numbers of "
        "that slide.</p>"
        '<div id="samples"></div><button id="more" hidden></button></main>'
        f'<script type="application/json" id="page">{values}</script>'
        f"{script_element('review.js')}</body></html>\n"
    )
