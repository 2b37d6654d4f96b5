"""`plsctl find-cells`: white cells of a scan's stained pass into its `cells.csv`."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.words import counted
from plsctl.cli.shared.output import (
    JsonFlag,
    VerboseFlag,
    emit,
    location,
    print_message,
    print_next_command,
    progress,
)


def find_cells(
    scan: Annotated[
        Path, typer.Argument(metavar="SCAN", help="Folder or URL of a scan.", parser=location)
    ],
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Find the white cells of a scan's stained pass, each of them once, and write cells.csv.

    Example: plsctl find-cells scans/S001
    """
    from plsctl.acquire.errors import UserError
    from plsctl.acquire.files.locations import is_remote
    from plsctl.acquire.plans.slide import load_slide
    from plsctl.acquire.store.folder import ScanFolder
    from plsctl.process.cells.finder import StainedCellFinder

    if not scan.is_dir():
        raise UserError(
            "this scan folder does not exist.",
            file=scan,
            hint="Name the folder that plsctl scan wrote, such as scans/S001.",
        )
    with progress(f"finding white cells in {scan}"):
        count = StainedCellFinder().find(scan)
    emit({"cells": count, "table": scan / "cells.csv"}, json)
    print_message(f"{counted(count, 'white cell')} in {scan / 'cells.csv'}.")
    if is_remote(scan):
        return
    folder = ScanFolder(scan)
    passes = load_slide(folder.slide_file).passes if folder.slide_file.is_file() else ()
    if "highres" in passes and not folder.pass_path("highres").exists():
        print_next_command("scan", scan, "--pass", "highres")
    else:
        print_next_command("build-dataset", scan, "-o", f"{scan.name}.zarr")
