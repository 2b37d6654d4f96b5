"""`plsctl uncertainty`: teach a run to tell how far off it is, and measure how true that is."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.cli.common import JsonFlag, VerboseFlag, console, emit, progress, say


def uncertainty(
    run: Annotated[Path, typer.Argument(help="Run folder that `plsctl train` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Another data set than the run was trained on.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the validation split.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the order of samples and the first weights.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Learn the error to expect at every pixel, and draw its calibration curve.

    Example: plsctl uncertainty runs/first
    """
    if epochs < 1:
        from plsctl.acquire.errors import UserError

        raise UserError(f"{epochs} epochs teach nothing.", field="epochs", hint="Give 1 or more.")
    from plsctl.models.run import Run
    from plsctl.models.uncertainty import UncertaintySettings, train_uncertainty
    from plsctl.process.dataset import Dataset

    opened = Run.open(run)
    chosen = None if data is None else Dataset.open(data)
    with progress("learning errors", total=100) as advance:
        result = train_uncertainty(
            opened,
            chosen,
            UncertaintySettings(epochs=epochs, seed=seed),
            device=device,
            on_share=lambda share: advance(completed=100 * share),
        )
    _show(result)
    say(f"Calibration curve: {run / 'uncertainty_test.png'}")
    emit(result, as_json)


def _show(result: dict[str, object]) -> None:
    from rich.table import Table

    table = Table(title=f"{result['split']}: {result['samples']} samples, grey values of 255")
    for heading in ("tenth of the pixels", "error predicted", "error measured"):
        table.add_column(heading, justify="right")
    curve = result["curve"]
    if isinstance(curve, list):
        for number, point in enumerate(curve, start=1):
            table.add_row(
                str(number), f"{255 * point['predicted']:.2f}", f"{255 * point['measured']:.2f}"
            )
    console.print(table)
