"""`plsctl build-dataset`: scans in, data set out."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.crops import CROP_PX
from plsctl.acquire.words import command_line, counted, duration
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    JsonFlag,
    SkipDamaged,
    VerboseFlag,
    emit,
    location,
    print_message,
    print_training,
    progress,
)
from plsctl.cli.shared.splits import SeedOption, SplitByOption, SplitOption, parse_split


def build_dataset(
    scans: Annotated[
        list[Path],
        typer.Argument(metavar="SCAN...", help="Folders or URLs of scans.", parser=location),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="The data set to write, NAME.zarr; s3://BUCKET/NAME.zarr in a store.",
            parser=location,
        ),
    ],
    workers: Annotated[
        int, typer.Option(help="Processes that cut positions, a core each.", min=1)
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Cut on a Dask cluster instead, such as tcp://10.0.0.5:8786."
        ),
    ] = None,
    crop: Annotated[int, typer.Option(help="Side of the crops in pixels.", min=16)] = CROP_PX,
    margin: Annotated[
        int,
        typer.Option(help="Surroundings that stacks have on every side of the crop, in px.", min=0),
    ] = 0,
    highres_method: Annotated[
        str,
        typer.Option(
            help="How the 100x image is found: colour, log, or plain correlation.",
            autocompletion=completion.values("colour", "log", "plain"),
        ),
    ] = "colour",
    split: SplitOption = "8:1:1",
    split_by: SplitByOption = "position",
    seed: SeedOption = 0,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV of labels; see plsctl dataset label."),
    ] = None,
    quality: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML with limits of quality control (docs/quality.md)."),
    ] = None,
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Use samples of rejected slides all the same.")
    ] = False,
    skip_damaged: SkipDamaged = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data set of the same name.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Match the passes of scans, cut out their white cells and write them as a data set.

    A build that was stopped or killed goes on where it stopped when the command is repeated.

    Example: plsctl build-dataset scans/S001 -o wbc.zarr --workers 4
    """
    from plsctl.acquire.files.locations import is_remote
    from plsctl.process.building.builder import build_dataset as build
    from plsctl.process.dataset.splits import say_splits
    from plsctl.process.quality.flags import load_quality
    from plsctl.process.samples.settings import BuildSettings
    from plsctl.process.workers.dask_cluster import cluster_workers

    if highres_method not in ("colour", "log", "plain"):
        raise UserError(
            f"there is no method '{highres_method}' for the 100x image.",
            field="--highres-method",
            hint="Choose colour, log or plain.",
        )
    if crop % 2:
        raise UserError(f"a crop of {crop} pixels is odd.", field="--crop", hint="Give it even.")
    settings = BuildSettings.model_validate(
        {"crop_px": crop, "margin_px": margin, "highres_method": highres_method}
    )
    division = parse_split(split, split_by, seed)
    print_message(f"Cutting the white cells of {counted(len(scans), 'scan')} into {out}.")
    with progress("opening the scans") as advance:
        result = build(
            scans,
            out,
            settings,
            split=division,
            labels=labels,
            quality=load_quality(quality, keep_rejected),
            workers=workers if scheduler is None else cluster_workers(scheduler),
            overwrite=overwrite,
            skip_damaged=skip_damaged,
            progress=advance.steps,
            notify=print_message,
        )
    emit(
        {
            "samples": result.samples,
            "dropped": result.dropped,
            "seconds": round(result.seconds, 3),
            "positions": result.positions,
            "resumed": result.resumed,
            "excluded": result.excluded,
            "splits": result.splits,
            "slides": result.slides,
            "damaged": list(result.damaged),
            "dataset": result.path,
        },
        json,
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in result.dropped.items())
    print_message(
        f"{counted(result.samples, 'sample')} from {counted(result.positions, 'position')} in "
        f"{result.path} ({say_splits(result.splits)}) in {duration(result.seconds)}; cells "
        f"dropped: {reasons or 'none'}."
    )
    if skip_damaged:
        print_message(f"{counted(len(result.damaged), 'damaged position')} left out.")
    if not is_remote(result.path):
        print_message(f"To look at the worst first: {command_line('review', result.path)}")
    print_training(result.path)
