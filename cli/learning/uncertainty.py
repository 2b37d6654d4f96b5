"""`plsctl uncertainty`: teach a run to tell how far off it is, and measure how true that is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from plsctl.acquire.words import counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    JsonFlag,
    VerboseFlag,
    console,
    emit,
    one_of,
    print_message,
    print_next_command,
    progress,
    scan_of,
)


def uncertainty(
    run: Annotated[Path, typer.Argument(help="Run folder that `plsctl train` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Another data set than the run was trained on.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of learning, 8 samples each.")] = 400,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="Of the order of samples and the first weights."),
    ] = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda.", autocompletion=completion.DEVICES)
    ] = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Learn the error to expect at every pixel, and measure how true that is.

    Learns on the validation split and measures on the test split. Afterwards
    `plsctl stain RUN SOURCE --uncertainty` writes the expected error beside the stained image.

    Example: plsctl uncertainty runs/first
    """
    from plsctl.models.runs.folder import DEVICES, open_data, read_trained

    one_of("device", device, DEVICES)
    config, metadata = read_trained(run)
    chosen = open_data(run, config, data)
    learnt, measured = (len(chosen.split(name, metadata.target)) for name in ("validation", "test"))
    print_message(
        f"Learning the errors of {run} from {counted(learnt, 'validation sample')} of "
        f"{chosen.path}, measured on {counted(measured, 'test sample')}; first the network "
        "library is loaded ..."
    )
    from plsctl.models.compute.device import choose_device, keep_freed_memory
    from plsctl.models.runs.run import Run
    from plsctl.models.uncertainty.train import UncertaintySettings, train_uncertainty

    opened = Run.open(run)
    keep_freed_memory(choose_device(device))
    with progress("learning errors", total=steps, unit="step") as advance:
        result: dict[str, Any] = train_uncertainty(
            opened,
            chosen,
            UncertaintySettings(steps=steps, seed=seed),
            device=device,
            on_share=lambda share: advance(completed=round(steps * share)),
        )
    _show(result)
    tag = result["tag"]
    print_message(f"Calibration curve: {run / f'uncertainty_{tag}.png'}")
    print_message(f"Maps of some samples: {run / f'uncertainty_maps_{tag}.png'}")
    print_next_command("stain", run, scan_of(chosen), "--uncertainty", "-o", "stained.ome.zarr")
    emit(result, as_json)


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"{result['split']}: {result['samples']} samples, grey values of 255")
    for heading in ("tenth of the pixels", "error predicted", "error measured"):
        table.add_column(heading, justify="right")
    for number, point in enumerate(result["curve"], start=1):
        values = (255 * point[name] for name in ("predicted", "measured"))
        table.add_row(str(number), *(f"{value:.2f}" for value in values))
    console.print(table)
    print_message(
        f"Predicted and measured errors are {255 * result['calibration_error']:.2f} grey values "
        f"apart, {100 * result['calibration_error_share']:.0f} % of the mean error."
    )
    for share, found in result["coverage"].items():
        ends = [f"{100 * end:.1f}" for end in found["ci95"] if end is not None]
        print_message(
            f"{100 * float(share):.0f} % of the errors should be below {found['limit']:.2f} times "
            f"the predicted one: {100 * found['mean']:.1f} % are "
            f"({' to '.join(ends) or 'one sample gives no interval'})."
        )
    print_message(
        f"The tenth of the pixels said to be worst holds {100 * result['worst_tenth_share']:.0f} % "
        f"of all error (10 would say nothing, {100 * result['best_tenth_share']:.0f} is the most)."
    )
    ranks = (_rank(result[f"{what}_correlation"]) for what in ("pixel", "sample"))
    print_message(
        "Rank correlation of predicted and measured error: pixels {}, samples {}.".format(*ranks)
    )


def _rank(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
