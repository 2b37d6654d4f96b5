"""Style sheets and scripts of the pages: files in `page_files`, put into each page whole."""

from __future__ import annotations

from importlib.resources import files


def style_element(name: str) -> str:
    """A style sheet of `page_files` as an element of a page."""
    return f"<style>\n{_source(name)}</style>"


def script_element(name: str) -> str:
    """A script of `page_files` as an element of a page."""
    return f"<script>\n{_source(name)}</script>"


def _source(name: str) -> str:
    return files("plsctl.process.pages").joinpath("page_files", name).read_text(encoding="utf-8")
