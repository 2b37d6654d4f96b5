"""`plsctl stain`: virtual staining of scans and stacks."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.cli.common import JsonFlag, VerboseFlag, emit, progress, say


def stain(
    run: Annotated[Path, typer.Argument(help="Run folder that `plsctl train` wrote.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="A scan, one of its passes, or a stack (image, y, x, 3): .npy, .tif or .zarr.",
            metavar="SCAN-or-IMAGE-STACK",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="OME-Zarr to write.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe that a stack holds; the run's by default.")
    ] = None,
    tile: Annotated[int, typer.Option(min=32, help="Side of the tiles in pixels.")] = 256,
    halo: Annotated[
        int | None,
        typer.Option(min=0, help="Overlap of the tiles in pixels; measured by default."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what is there.")] = False,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Stain whole frames virtually. The same command again continues a stopped slide.

    Example: plsctl stain runs/first S001 -o S001/stained-by-network.ome.zarr
    """
    from plsctl.models.prediction import Predictor
    from plsctl.models.run import Run
    from plsctl.models.staining import stain as stain_source

    predictor = Predictor(Run.open(run), device=device)
    with progress("staining", total=1) as advance:
        result = stain_source(
            predictor,
            source,
            out,
            tile_px=tile,
            halo_px=halo,
            recipe=recipe,
            fresh=fresh,
            on_position=lambda done, total: advance(completed=done, total=total),
        )
    say(f"{out}: {result.positions} positions, {result.skipped} of them were there already.")
    if result.halo is not None:
        say(
            f"Tiles overlap by {result.halo.px} px ({result.halo.exact_px} px is exact); the "
            f"largest error seen is {result.halo.error_counts} of 255."
        )
    emit(result.as_dict(), as_json)
