"""`plsctl build-dataset`: scans in, data set out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.cli.common import JsonFlag, VerboseFlag, emit, location, progress, say

if TYPE_CHECKING:
    from plsctl.process.build import SplitSettings

SPLIT_HELP = "Shares of train, validation and test (8:1:1), of train and test (9:1), or none."


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
    crop: Annotated[int, typer.Option(help="Side of the crops in pixels.", min=16)] = 64,
    margin: Annotated[
        int,
        typer.Option(help="Surroundings that stacks have on every side of the crop, in px.", min=0),
    ] = 0,
    highres_method: Annotated[
        str, typer.Option(help="How the 100x image is found: colour, log, or plain correlation.")
    ] = "colour",
    split: Annotated[str, typer.Option(help=SPLIT_HELP)] = "8:1:1",
    split_by: Annotated[
        str, typer.Option(help="What stays on one side: position, slide or patient.")
    ] = "position",
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
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
    from plsctl.process.build import build_dataset as build
    from plsctl.process.cluster import cluster_workers
    from plsctl.process.samples import BuildSettings

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
    division = _parse_split(split, split_by, seed)
    with progress("positions") as advance:
        result = build(
            scans,
            out,
            settings,
            split=division,
            workers=workers if scheduler is None else cluster_workers(scheduler),
            overwrite=overwrite,
            progress=lambda done, total: advance(completed=done, total=total),
            say=say,
        )
    emit(
        {
            "samples": result.samples,
            "dropped": result.dropped,
            "seconds": round(result.seconds, 3),
            "positions": result.positions,
            "resumed": result.resumed,
            "dataset": result.path,
        },
        json,
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in result.dropped.items())
    say(
        f"{result.samples} samples from {result.positions} positions in {result.path}"
        f" ({result.seconds:.0f} s); dropped: {reasons or 'none'}."
    )


def _parse_split(text: str, by: str, seed: int) -> "SplitSettings":
    from plsctl.process.build import SplitSettings

    if by not in ("position", "slide", "patient"):
        raise UserError(
            f"samples cannot be split by '{by}'.",
            field="--split-by",
            hint="Choose position, slide or patient.",
        )
    if text == "none":
        return SplitSettings(ratios=None, seed=seed)
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(
            f"'{text}' is not a split.", field="--split", hint="Give 8:1:1, 9:1 or none."
        )
    return SplitSettings(ratios=tuple(int(part) for part in parts), by=by, seed=seed)
