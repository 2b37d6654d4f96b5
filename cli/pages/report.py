"""`plsctl report`: one self-contained HTML file to look at."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.words import counted
from plsctl.cli.shared.output import (
    JsonFlag,
    SkipDamaged,
    VerboseFlag,
    emit,
    location,
    print_message,
    progress,
)


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Scans, data sets, runs, stained plates.", parser=location
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write; beside the first by default."),
    ] = None,
    skip_damaged: SkipDamaged = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Show scans, data sets, runs and what they stained in one HTML file, the result first.

    Example: plsctl report scans/S001 S001.zarr runs/first S001_stained.ome.zarr -o S001.html
    """
    from plsctl.acquire.files.locations import is_remote
    from plsctl.models.report.report import kind_of, write_report
    from plsctl.models.runs.folder import read_run

    kinds = [kind_of(path) for path in paths]
    for path, kind in zip(paths, kinds, strict=True):
        if kind == "run":
            read_run(path)
    first = paths[0]
    name = f"{first.name.split('.')[0]}_report.html"
    place = out or (Path(name) if is_remote(first) else first.with_name(name))
    names = ", ".join(str(path) for path in paths)
    first_of_all = "; first the network library is loaded" if "run" in kinds else ""
    print_message(f"Drawing the report on {names}{first_of_all} ...")
    with progress("drawing the report"):
        damaged: list[str] = []
        write_report(place, paths, skip_damaged=skip_damaged, notify=damaged.append)
    for text in damaged:
        print_message(text)
    emit({"report": place, "bytes": place.stat().st_size, "damaged": damaged}, json)
    if skip_damaged:
        print_message(f"{counted(len(damaged), 'damaged position')} left out.")
    print_message(f"Report written to {place}. Next: open it in a browser.")
