"""`plsctl export`: a run as an ONNX model."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.cli.common import JsonFlag, VerboseFlag, emit, say


def export(
    run: Annotated[Path, typer.Argument(help="Run folder that `plsctl train` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write.")],
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Write a run as an ONNX model, which `plsctl stain` takes without torch.

    Example: plsctl export runs/first --out first.onnx
    """
    from plsctl.models.export import export_run
    from plsctl.models.run import Run

    difference = export_run(Run.open(run), out)
    emit({"model": out, "largest_difference_counts": difference}, json)
    say(f"{out}: differs from the run by at most {difference} of 255 on a window of noise.")
    say(f"Next: plsctl stain {out} SCAN -o stained.ome.zarr")
