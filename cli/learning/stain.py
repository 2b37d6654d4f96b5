"""`plsctl stain`: virtual staining of scans and stacks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    JsonFlag,
    SkipDamaged,
    VerboseFlag,
    emit,
    one_of,
    print_message,
    print_next_command,
    progress,
    seen_from_here,
)

ENGINES = ("auto", "torch", "onnxruntime", "openvino")
PRECISIONS = ("auto", "float32", "bfloat16")


def stain(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder that `plsctl train` wrote, or MODEL.onnx that `plsctl export` wrote.",
            metavar="RUN|MODEL.onnx",
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="A scan, one of its passes, or a stack (image, y, x, 3): .npy, .tif or .zarr.",
            metavar="SCAN-or-IMAGE-STACK",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="OME-Zarr to write.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe that a stack holds, by name or YAML file; the run's by default.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    cells_only: Annotated[
        bool, typer.Option("--cells-only", help="Only around the cells of the scan's cells.csv.")
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Write the error to expect beside it (`plsctl uncertainty` first).",
        ),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            min=32, help="Side of the tiles in px; by default 384 x 1536 on CPUs, 2048 on GPUs."
        ),
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option(min=0, help="Overlap of the tiles in pixels; measured by default."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="auto, torch, onnxruntime or openvino: what runs the network.",
            autocompletion=completion.values(*ENGINES),
        ),
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda, for torch.", autocompletion=completion.DEVICES)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, float32 or bfloat16.", autocompletion=completion.PRECISIONS)
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU.")] = None,
    skip_damaged: SkipDamaged = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what is there.")] = False,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Stain whole frames virtually. The same command again continues a stopped slide.

    Example: plsctl stain runs/first S001 -o S001/stained-by-network.ome.zarr
    """
    from plsctl.models.prediction.engines import open_stainer
    from plsctl.models.prediction.stain import StainingOptions, require_source
    from plsctl.models.prediction.stain import stain as stain_source
    from plsctl.models.runs.folder import DEVICES, read_trained

    one_of("engine", engine, ENGINES)
    one_of("precision", precision, PRECISIONS)
    one_of("device", device, DEVICES)
    exported = run.suffix == ".onnx"
    trained = None if exported else read_trained(run)
    require_source(source)
    first = "" if exported else "; first the network library is loaded"
    print_message(f"Staining {source} with {run} into {out}{first} ...")
    chosen: dict[str, Any] = {"engine": engine, "device": device, "precision": precision}
    stainer = open_stainer(run, **chosen, threads=threads, notify=print_message)
    if hasattr(stainer, "device"):  # torch is loaded then
        from plsctl.models.compute.device import keep_freed_memory

        keep_freed_memory(stainer.device)
    if uncertainty:
        stainer = _with_uncertainty(stainer)
    options = StainingOptions(
        tile_px=tile,
        halo_px=halo,
        cells_only=cells_only,
        recipe=recipe,
        fresh=fresh,
        skip_damaged=skip_damaged,
    )
    with progress("staining", unit="position") as advance:
        result = stain_source(
            stainer,
            source,
            out,
            options,
            on_position=lambda done, total: advance(completed=done, total=total),
        )
    print_message(
        f"{out}: {counted(result.positions, 'position')}, {result.skipped} there already."
    )
    for text in result.damaged:
        print_message(f"Left out: {text}")
    if skip_damaged:
        print_message(f"{counted(len(result.damaged), 'damaged position')} left out.")
    if result.halo is not None:
        print_message(
            f"Tiles overlap by {result.halo.px} px ({result.halo.exact_px} px is exact); where "
            f"this was tried, it changes the result by at most {result.halo.error_counts} of 255."
        )
    emit(result.as_dict(), as_json)
    if trained is not None and (source / "slide.yaml").is_file():
        data = trained[0].data
        known = [seen_from_here(data)] if data.exists() else []
        print_next_command("report", source, *known, run, out)


def _with_uncertainty(stainer: Any) -> Any:
    if not hasattr(stainer, "run"):
        raise UserError(
            "exported models do not tell their uncertainty.",
            field="uncertainty",
            hint="Name the run folder, with --engine torch.",
        )
    from plsctl.models.uncertainty.stainer import UncertainStainer

    return UncertainStainer(stainer)
