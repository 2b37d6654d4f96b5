"""`plsctl export`: a run as an ONNX model."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.cli.shared.output import (
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    print_next_command,
    progress,
    scan_of,
)


def export(
    run: Annotated[Path, typer.Argument(help="Run folder that `plsctl train` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write.")],
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Write a run as an ONNX model, which `plsctl stain` takes without torch.

    Example: plsctl export runs/first --out first.onnx
    """
    from plsctl.models.runs.folder import read_trained

    config, _ = read_trained(run)
    if out.suffix != ".onnx":
        raise UserError(f"{out} does not end in .onnx.", field="out", hint="Call it model.onnx.")
    print_message(f"Exporting {run} to {out}; first the network library is loaded ...")
    from plsctl.models.prediction.onnx_export import export_run
    from plsctl.models.runs.run import Run

    with progress("exporting"):
        difference = export_run(Run.open(run), out)
    emit({"model": out, "largest_difference_counts": difference}, json)
    print_message(
        f"{out}: differs from the run by at most {difference} of 255 on a window of noise."
    )
    print_next_command("stain", out, scan_of(config.data), "-o", "stained.ome.zarr")
