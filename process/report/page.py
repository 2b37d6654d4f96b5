"""A report: one HTML file with its style, script, pictures and charts inside, the result first."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from plsctl.acquire.errors import disk_errors
from plsctl.acquire.files.whole_files import write_whole
from plsctl.process.pages.sources import script_element, style_element


@dataclass(frozen=True)
class Section:
    """A heading, an introduction (HTML), and the content (HTML)."""

    title: str
    note: str
    body: str


@dataclass
class Page:
    """A report: the result, key figures and sections, written as one file.

    `picture` and `verdict` (HTML) are the first things on the page.
    """

    title: str
    subtitle: str
    picture: str = ""
    verdict: str = ""
    key_figures: list[tuple[str, str]] = field(default_factory=list)
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
        sections = "".join(
            f'<section id="section-{number}"><h2>{escape(section.title)}</h2>'
            f'<p class="note">{section.note}</p>{section.body}</section>'
            for number, section in enumerate(self.sections, 1)
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title>{style_element('report.css')}</head><body>"
            f"<header><h1>{escape(self.title)}</h1><p>{escape(self.subtitle)}</p></header>"
            f"<main>{self._result()}{self._contents()}{sections}"
            f"<footer>{escape(self.footer)}</footer></main>{script_element('report.js')}"
            "</body></html>\n"
        )

    def _result(self) -> str:
        figures = "".join(
            f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"
            for name, value in self.key_figures
        )
        figures = f'<div class="key-figures">{figures}</div>' if figures else ""
        if not self.picture:
            return f"<section>{self.verdict}{figures}</section>" if self.verdict + figures else ""
        return (
            f'<section class="result"><div>{self.picture}</div><div>{self.verdict}{figures}</div>'
            "</section>"
        )

    def _contents(self) -> str:
        links = "".join(
            f'<li><a href="#section-{number}">{escape(section.title)}</a></li>'
            for number, section in enumerate(self.sections, 1)
        )
        return f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else ""


def verdict(text: str, kind: str = "", heading: str = "") -> str:
    """A sentence on the result: `kind` "good" or "warn" colours it."""
    head = f"<b>{escape(heading)}</b>" if heading else ""
    return f'<p class="verdict {kind}">{head}{escape(text)}</p>'


def row(*parts: str) -> str:
    """Parts side by side, where there is room."""
    return f'<div class="row">{"".join(parts)}</div>'


def grid(*parts: str) -> str:
    """Parts in a grid, two beside each other where there is room."""
    return f'<div class="grid">{"".join(parts)}</div>'


def folded(summary: str, body: str) -> str:
    """Something long that opens on a click."""
    return (
        f'<details><summary>{escape(summary)}</summary><div class="scroll">{body}</div></details>'
    )
