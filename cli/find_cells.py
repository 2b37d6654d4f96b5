"""`plsctl find-cells`: white cells of a scan's stained pass into its `cells.csv`."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.cli.common import JsonFlag, VerboseFlag, emit, location, say


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
    from plsctl.process.cells import StainedCellFinder

    if not scan.is_dir():
        raise UserError(
            "this scan folder does not exist.",
            file=scan,
            hint="Name the folder that plsctl scan wrote, such as scans/S001.",
        )
    count = StainedCellFinder().find(scan)
    emit({"cells": count, "table": scan / "cells.csv"}, json)
    say(f"{count} white cells in {scan / 'cells.csv'}.")
