"""A report on scans, data sets, runs and stained plates: one HTML file, the result first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.store.damage import first_damage, leave_out_damaged
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.reader import PassReader, say_unchecked
from plsctl.acquire.store.records import PASSES
from plsctl.models.evaluation.scores import read_scores
from plsctl.models.report.result import cell_picture, dataset_picture, field_picture
from plsctl.models.report.scores import run_verdict, score_key_figures, score_sections
from plsctl.models.report.stained import is_stained_plate, scan_of, stained_section
from plsctl.process.dataset.reader import Dataset
from plsctl.process.pages.tables import table
from plsctl.process.report.counts import counts_section, left_out_section
from plsctl.process.report.dataset import dataset_key_figures, dataset_sections
from plsctl.process.report.page import Page, Section
from plsctl.process.report.provenance import dataset_provenance, provenance, scan_provenance
from plsctl.process.report.scan import scan_key_figures, scan_sections, scan_verdict, slide_of

Kind = Literal["scan", "dataset", "run", "stained"]


def kind_of(path: Path) -> Kind:
    """What a folder holds.

    Raises
    ------
    UserError
        It is none of what a report can show.
    """
    if (path / "facts.json").is_file():
        return "run"
    if (path / "slide.yaml").is_file():
        return "scan"
    if (path / "samples.csv").is_file():
        return "dataset"
    if is_stained_plate(path):
        return "stained"
    found = "is neither a scan, nor a data set, nor a run" if path.exists() else "does not exist"
    raise UserError(
        f"'{path}' {found}.",
        hint="Name a folder with slide.yaml (scan), samples.csv (data set) or facts.json (run), or "
        "what plsctl stain wrote for a scan.",
    )


def write_report(
    out: Path,
    paths: Sequence[Path],
    *,
    title: str = "plsctl report",
    subtitle: str = "",
    skip_damaged: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write one page about the folders: the result, then runs, data sets and scans.

    Parameters
    ----------
    skip_damaged
        Leave out positions of scans and plates whose bright field is missing or damaged; the page
        names them.
    notify
        Called with what was wrong with each of them.

    Raises
    ------
    UserError
        A folder is not what plsctl writes, a stained plate is of none of the scans, or the page
        cannot be written.
    """
    kinds = [(kind_of(path), path) for path in paths]
    scans = [ScanFolder(path) for kind, path in kinds if kind == "scan"]
    runs = [path for kind, path in kinds if kind == "run"]
    plates = [PassReader(path) for kind, path in kinds if kind == "stained"]
    for plate in plates:
        say_unchecked(plate)
    damaged = _without_damaged(scans, plates, notify) if skip_damaged else []
    sets = [Dataset.open(path) for kind, path in kinds if kind == "dataset"]
    names = ", ".join(path.name for path in paths)
    page = Page(title, subtitle or names)
    page.footer = f"Written by plsctl {version('plsctl')} from {names}."
    page.picture = field_picture(scans, plates) if plates else ""
    origins: list[str] = []
    for path in runs:
        _add_run(page, path, origins)
    page.sections += [stained_section(scan_of(plate.path, scans), plate) for plate in plates]
    for data in sets:
        _add_dataset(page, data, scans, origins)
    for scan in scans:
        page.key_figures += scan_key_figures(scan)
        page.verdict += scan_verdict(scan)
        page.sections += scan_sections(scan)
        origins.append(provenance(f"Scan {scan.path.name}", scan_provenance(scan)))
    page.picture = page.picture or field_picture(scans, ())
    if not page.picture and sets:
        page.picture = dataset_picture(sets[0])
    if damaged:
        page.sections.append(_damage_section(damaged))
    note = "What was noted when these were made."
    page.sections.append(Section("Provenance", note, "".join(reversed(origins))))
    return page.write(out)


def _add_run(page: Page, path: Path, origins: list[str]) -> None:
    # Networks are loaded here only, so that a microscope's computer needs no torch.
    from plsctl.models.report.run import (
        curve_section,
        predicted_cells,
        prediction_section,
        run_provenance,
    )
    from plsctl.models.runs.run import Run

    run, scores = Run.open(path), read_scores(path)
    if scores is not None:
        page.verdict += run_verdict(scores)
        page.key_figures += score_key_figures(scores)
    page.sections += score_sections(path)
    cells = predicted_cells(run)
    if cells is not None:
        page.sections.append(prediction_section(cells))
        if not page.picture:
            page.picture = cell_picture(cells.layers, cells.numbers, cells.data.pixel_um)
    curve = curve_section(run)
    if curve is not None:
        page.sections.append(curve)
    origins.append(provenance(f"Run {path.name}", run_provenance(run)))


def _without_damaged(
    scans: Sequence[ScanFolder], plates: list[PassReader], notify: Callable[[str], None]
) -> list[DamagedData]:
    """Leave damaged positions out of scans and plates; what is wrong with them."""
    found = [
        damage
        for scan in scans
        for damage in leave_out_damaged(scan, PASSES, only_brightfield=True)
    ]
    for place, plate in enumerate(plates):
        damages = {name: first_damage(plate, name) for name in plate.names}
        gone = {name: damage for name, damage in damages.items() if damage is not None}
        plates[place] = PassReader(plate.path, without=frozenset(gone))
        found += gone.values()
    for damage in found:
        notify(f"Left out: {damage.file}: {damage.message}")
    return found


def _damage_section(damaged: Sequence[DamagedData]) -> Section:
    rows = [(damage.what, damage.problem, damage.file or "") for damage in damaged]
    note = "Positions that are missing in the pictures, for their files are missing or damaged."
    return Section("Damaged", note, table(("", "what is wrong", "file"), rows))


def _add_dataset(
    page: Page, data: Dataset, scans: Sequence[ScanFolder], origins: list[str]
) -> None:
    page.key_figures += dataset_key_figures(data)
    page.sections.append(counts_section(data, _built_from(data, scans)))
    gone = left_out_section(data)
    shown = dataset_sections(data)
    page.sections += [*shown[:1], *([gone] if gone is not None else []), *shown[1:]]
    origins.append(provenance(f"Data set {data.path.name}", dataset_provenance(data)))


def _built_from(data: Dataset, scans: Sequence[ScanFolder]) -> list[ScanFolder]:
    """Those of the scans whose slide is in the data set."""
    slides = set(data.table["slide"].astype(str))
    return [scan for scan in scans if slide_of(scan) in slides]
