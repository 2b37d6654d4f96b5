"""A page to look at: one HTML file with its style, pictures and charts inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import disk_errors
from plsctl.acquire.whole_files import write_whole

Image = NDArray[np.uint8]

_STYLE = """
:root { --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --paper: #ffffff; --ground: #f5f6f8;
  --accent: #6b3fa0; --good: #1b7f4d; --bad: #b42318; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 0 20px 60px; }
header { background: linear-gradient(115deg, #2b1a4a, #6b3fa0 60%, #b0578d); color: white; }
header div { max-width: 1120px; margin: 0 auto; padding: 34px 20px 30px; }
h1 { margin: 0; font-size: 30px; font-weight: 650; letter-spacing: -0.01em; }
header p { margin: 6px 0 0; opacity: 0.85; max-width: 70ch; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 22px 24px 24px; margin-top: 18px; }
h2 { margin: 0 0 4px; font-size: 19px; font-weight: 650; }
.note { color: var(--soft); margin: 0 0 16px; max-width: 84ch; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 0; }
.fact { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 10px 16px; flex: 1 1 120px; }
.fact b { display: block; font-size: 21px; font-weight: 650; white-space: nowrap; }
.fact span { color: var(--soft); font-size: 13px; }
.row { display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start; }
.row + .row { margin-top: 18px; }
.row > * { flex: 1 1 300px; min-width: 0; }
.tiles { display: grid; gap: 8px; }
figure { margin: 0; }
figure img, figure svg { width: 100%; height: auto; display: block; border-radius: 4px; }
figcaption { color: var(--soft); font-size: 12.5px; margin-top: 4px; }
.tiles figcaption { font-size: 11px; text-align: center; margin-top: 2px; line-height: 1.25;
  overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 550; font-size: 13px; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; padding-right: 26px; }
tr.best td { font-weight: 650; color: var(--good); }
.scroll { max-height: 420px; overflow: auto; }
details > summary { cursor: pointer; color: var(--accent); margin-top: 12px; }
.verdict { display: inline-block; border-radius: 999px; padding: 2px 12px; font-weight: 600;
  color: white; background: var(--good); }
.verdict.no { background: var(--bad); }
svg text { font: 12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #475467; }
footer { color: var(--soft); font-size: 13px; margin-top: 22px; }
@media print { body { background: white; } section { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, and what there is to see (HTML)."""

    title: str
    note: str
    body: str


@dataclass
class Page:
    """A report: title, key figures and sections, written as one file that needs nothing else."""

    title: str
    subtitle: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    footer: str = ""

    def write(self, path: Path) -> Path:
        """Write the page; the file is replaced whole.

        Raises
        ------
        UserError
            The file cannot be written.
        """
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.html())
        return path

    def html(self) -> str:
        """The page as text."""
        facts = "".join(
            f'<div class="fact"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
            for name, value in self.facts
        )
        sections = "".join(
            f'<section><h2>{escape(section.title)}</h2><p class="note">{section.note}</p>'
            f"{section.body}</section>"
            for section in self.sections
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style></head><body>"
            f"<header><div><h1>{escape(self.title)}</h1><p>{escape(self.subtitle)}</p></div>"
            f'</header><main><div class="facts">{facts}</div>{sections}'
            f"<footer>{escape(self.footer)}</footer></main></body></html>\n"
        )


def data_uri(image: Image, lossless: bool = False) -> str:
    """A picture, (y, x, rgb) or (y, x), as text that a page can hold; JPEG unless lossless."""
    colour = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    suffix, options = (".png", []) if lossless else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90])
    _, data = cv2.imencode(suffix, colour, options)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def picture(image: Image, caption: str = "", overlay: str = "", lossless: bool = False) -> str:
    """A figure: an image (y, x, rgb), SVG drawn over it in its pixel coordinates, a caption."""
    height, width = image.shape[:2]
    source = data_uri(image, lossless)
    if overlay:
        under = (
            f'<svg viewBox="0 0 {width} {height}" role="img">'
            f'<image href="{source}" width="{width}" height="{height}"/>{overlay}</svg>'
        )
    else:
        under = f'<img src="{source}" width="{width}" height="{height}" alt="{escape(caption)}">'
    return f"<figure>{under}<figcaption>{escape(caption)}</figcaption></figure>"


def row(*parts: str) -> str:
    """Parts side by side, where there is room."""
    return f'<div class="row">{"".join(parts)}</div>'


def grid(*parts: str, columns: int) -> str:
    """Parts in a grid of equal columns."""
    style = f"grid-template-columns: repeat({columns}, minmax(0, 1fr)); gap: 16px"
    return f'<div style="display: grid; {style}">{"".join(parts)}</div>'


def tiles(images: Iterable[tuple[Image, str]], columns: int, zoom: int = 2) -> str:
    """Small images in a grid, each with its label; enlarged so that screens show them smooth."""
    figures = "".join(picture(enlarge(image, zoom), label) for image, label in images)
    style = f"grid-template-columns: repeat({columns}, minmax(0, 1fr))"
    return f'<div class="tiles" style="{style}">{figures}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], best: int | None = None) -> str:
    """A table; numbers stand to the right, the row numbered `best` is marked."""
    body = [list(line) for line in rows]
    numeric = [
        bool(body) and all(isinstance(line[i], int | float) for line in body)
        for i in range(len(columns))
    ]
    kinds = [' class="number"' if number else "" for number in numeric]
    head = "".join(
        f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, columns, strict=True)
    )
    lines = "".join(
        f"<tr{' class=best' if index == best else ''}>"
        + "".join(
            f"<td{kind}>{escape(_text(value))}</td>"
            for kind, value in zip(kinds, line, strict=True)
        )
        + "</tr>"
        for index, line in enumerate(body)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def folded(summary: str, body: str) -> str:
    """Something long that opens on a click."""
    return (
        f'<details><summary>{escape(summary)}</summary><div class="scroll">{body}</div></details>'
    )


def enlarge(image: Image, zoom: int) -> Image:
    """The image, (y, x) or (y, x, rgb), `zoom` times as large, cubic."""
    if zoom == 1:
        return image
    size = (image.shape[1] * zoom, image.shape[0] * zoom)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def fit_width(image: Image, width_px: int) -> Image:
    """The image, shrunk to a width where it is wider."""
    if image.shape[1] <= width_px:
        return image
    height = round(image.shape[0] * width_px / image.shape[1])
    shrunk = cv2.resize(image, (width_px, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
