"""A report on a scan, a data set or a run: one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from plsctl.acquire.errors import UserError
from plsctl.process.report_dataset import dataset_facts, dataset_sections
from plsctl.process.report_page import Page, Section
from plsctl.process.report_scan import scan_facts, scan_sections

Kind = Literal["scan", "dataset", "run"]


def kind_of(path: Path) -> Kind:
    """What a folder holds.

    Raises
    ------
    UserError
        It is neither a scan, nor a data set, nor a run.
    """
    if (path / "facts.json").is_file():
        return "run"
    if (path / "slide.yaml").is_file():
        return "scan"
    if (path / "samples.csv").is_file():
        return "dataset"
    found = "is neither a scan, nor a data set, nor a run" if path.exists() else "does not exist"
    raise UserError(
        f"'{path}' {found}.",
        hint="Name a folder with slide.yaml (scan), samples.csv (data set) or facts.json (run).",
    )


def write_report(
    out: Path,
    paths: Sequence[Path],
    *,
    title: str = "plsctl report",
    subtitle: str = "",
    extra: Sequence[Section] = (),
) -> Path:
    """Write one page about the folders, in their order, with `extra` sections at the end.

    Raises
    ------
    UserError
        A folder is not what plsctl writes, or the page cannot be written.
    """
    facts: list[tuple[str, str]] = []
    sections: list[Section] = []
    for path in paths:
        kind = kind_of(path)
        if kind == "scan":
            facts, sections = facts + scan_facts(path), sections + scan_sections(path)
        elif kind == "dataset":
            facts, sections = facts + dataset_facts(path), sections + dataset_sections(path)
        else:
            # Networks are loaded here only, so that a microscope's computer needs no torch.
            from plsctl.models.report_run import run_facts, run_sections

            facts, sections = facts + run_facts(path), sections + run_sections(path)
    names = ", ".join(path.name for path in paths)
    page = Page(title, subtitle or names, facts, [*sections, *extra])
    page.footer = f"Written by plsctl {version('plsctl')} from {names}."
    return page.write(out)
