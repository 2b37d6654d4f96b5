"""`plsctl find-cells`: white cells of a scan's stained pass into its `cells.csv`."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.plans.crops import CROP_PX
from plsctl.acquire.words import counted
from plsctl.cli.shared.output import (
    JsonFlag,
    SkipDamaged,
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
    crop: Annotated[
        int,
        typer.Option(help="Side of the crops to be built, margins included, in px.", min=16),
    ] = CROP_PX,
    skip_damaged: SkipDamaged = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Find the white cells of a scan's stained pass, each of them once, and write cells.csv.

    Example: plsctl find-cells scans/S001
    """
    from plsctl.acquire.errors import UserError
    from plsctl.acquire.files.locations import is_remote
    from plsctl.acquire.plans.slide import load_slide
    from plsctl.acquire.store.damage import leave_out_damaged
    from plsctl.acquire.store.folder import ScanFolder
    from plsctl.process.cells.finder import StainedCellFinder

    if not scan.is_dir():
        raise UserError(
            "this scan folder does not exist.",
            file=scan,
            hint="Name the folder that plsctl scan wrote, such as scans/S001.",
        )
    with progress(f"finding white cells in {scan}"):
        folder = ScanFolder(scan)
        damaged = (
            leave_out_damaged(folder, ["stained"], only_brightfield=True) if skip_damaged else []
        )
        count = StainedCellFinder(crop_px=crop).find(folder)
    said = [f"{damage.file}: {damage.message}" for damage in damaged]
    emit({"cells": count, "table": scan / "cells.csv", "damaged": said}, json)
    for text in said:
        print_message(f"Left out: {text}")
    print_message(f"{counted(count, 'white cell')} in {scan / 'cells.csv'}.")
    if skip_damaged:
        print_message(f"{counted(len(said), 'damaged position')} left out.")
    if is_remote(scan):
        return
    passes = load_slide(folder.slide_file).passes if folder.slide_file.is_file() else ()
    if "highres" in passes and not folder.pass_path("highres").exists():
        print_next_command("scan", scan, "--pass", "highres")
    else:
        print_next_command("build-dataset", scan, "-o", f"{scan.name}.zarr")
