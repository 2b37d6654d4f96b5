"""A stained plate in a report, and the scan that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.acquire.store.folder import ScanFolder, is_begun
from plsctl.acquire.store.ome_zarr import read_group
from plsctl.acquire.store.reader import PassReader
from plsctl.models.prediction.output import FORMAT, PASS_NAME
from plsctl.process.pages.pictures import picture
from plsctl.process.report.page import Section, row
from plsctl.process.report.scan import mosaic, slide_of


def is_stained_plate(path: Path) -> bool:
    """Whether a folder is a plate that `plsctl stain` wrote.

    Raises
    ------
    UserError
        It is one stained image, of which a report cannot say where it lies on a slide.
    """
    if not (path / "zarr.json").is_file():
        return False
    try:
        found = read_group(path).get("plsctl")
    except UserError:
        return False
    if not isinstance(found, dict):
        return False
    if found.get("format") == FORMAT:
        raise UserError(
            f"'{path}' is one stained image, not the plate of a scan.",
            hint="Stain the scan's folder: plsctl stain RUN SCAN.",
        )
    return found.get("pass_name") == PASS_NAME


def scan_of(plate: Path, scans: Sequence[ScanFolder]) -> ScanFolder:
    """Which of the scans a stained plate belongs to.

    Raises
    ------
    UserError
        None of them is of its slide.
    """
    slide = PassReader(plate).attributes.slide
    for scan in scans:
        if slide_of(scan) == slide:
            return scan
    raise UserError(
        f"'{plate}' is the virtual stain of slide {slide}, whose scan is not among the folders.",
        hint="Name its scan as well: plsctl report SCAN DATASET RUN STAINED.ome.zarr.",
    )


def stained_section(folder: ScanFolder, virtual: PassReader) -> Section:
    """All fields that a network stained, beside the real stain where it was taken."""
    found = mosaic(virtual)
    maps = [picture(found.image, "all fields, virtually stained", um_per_px=found.um_per_px)]
    if is_begun(folder.pass_path("stained")):
        real = mosaic(folder.open_pass("stained"))
        caption = "all fields, really stained (the slide was taken out and put back)"
        maps.append(picture(real.image, caption, um_per_px=real.um_per_px))
    note = (
        "The network is convolutional: trained on crops of white cells, it stains whole fields. "
        "What it has rarely or never seen in training (red cells in crowds, platelets, dust) is "
        "a guess. The darker bands are the edges of the fields: the objective lets less light "
        "through there, and the fields are put together as they were taken, nothing is evened out."
    )
    return Section("Whole fields, virtually stained", note, row(*maps))
