"""`plsctl evaluate`: metrics of a run on unseen data."""

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
from plsctl.cli.shared.verdict import print_verdict


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder that `plsctl train` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Another data set than the run was trained on.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="test, validation or train.", autocompletion=completion.SPLITS)
    ] = "test",
    cell_types: Annotated[
        bool,
        typer.Option(
            "--cell-types",
            help="Train a classifier on the stained cells and let it read the predictions.",
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda.", autocompletion=completion.DEVICES)
    ] = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Measure a run, beside the unstained image, the mean colour and the mean stained image.

    Prints similarity and error with 95 % intervals, the paired difference to the unstained
    image, how nuclei agree with those of the stained images (Dice, lost and invented ones,
    lobes), and what may be wrong with the worst samples. Files go into the run folder.

    Example: plsctl evaluate runs/first --split test
    """
    from plsctl.models.runs.folder import DEVICES, open_data, read_trained

    one_of("device", device, DEVICES)
    config, metadata = read_trained(run)
    chosen = open_data(run, config, data)
    total = len(chosen.split(split, metadata.target))
    chosen.channels_of(metadata.labels)
    chosen.require_margin(metadata.margin_px)
    print_message(
        f"Comparing {run} with the {counted(total, f'{split} sample')} of {chosen.path}; first the "
        "network library is loaded ..."
    )
    from plsctl.models.compute.device import keep_freed_memory
    from plsctl.models.evaluation.evaluate import evaluate as evaluate_run
    from plsctl.models.evaluation.scores import seen_text
    from plsctl.models.prediction.predictor import Predictor
    from plsctl.models.runs.run import Run

    opened = Run.open(run)
    # In bfloat16 colours are off by up to two counts, which no score should depend on.
    predictor = Predictor(opened, device=device, precision="float32")
    keep_freed_memory(predictor.device)
    types = None
    if cell_types:
        from plsctl.models.classification.cell_types import CellTypeReader

        with progress("learning cell types", total=100, unit="%") as advance:
            types = CellTypeReader(
                chosen,
                opened.metadata.target,
                device=predictor.device,
                on_share=lambda share: advance(completed=100 * share),
            )
    with progress("comparing samples", total=total, unit="sample") as advance:
        done = 0

        def on_samples(count: int) -> None:
            nonlocal done
            done += count
            advance(count)
            if done == total:
                advance(description="drawing the best and the worst samples")

        result: dict[str, Any] = evaluate_run(
            opened, chosen, split, predictor=predictor, types=types, on_samples=on_samples
        )
    _show(result)
    _show_worst(result, run / result["files"]["worst"])
    print_message(f"Best and worst samples: {run / result['files']['gallery']}")
    told = seen_text(split, result["samples"], result["seen"])
    print_message(f"These are {counted(result['samples'], f'{split} sample')} {told}.")
    print_verdict(result)
    print_next_command("stain", run, scan_of(chosen), "-o", "stained.ome.zarr")
    emit(result, as_json)


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"{result['split']}: {result['samples']} samples, mean (95 % interval)")
    table.add_column("")
    names = list(result["metrics"])
    for name in names:
        table.add_column(name, justify="right")
    for row, values in {"prediction": result["metrics"], **result["baselines"]}.items():
        table.add_row(row, *(_cell(values[name]) for name in names))
    better = result["paired"]["unstained"]
    table.add_row("prediction less unstained", *(_cell(better[name]) for name in names))
    console.print(table)
    console.print(_losses_table(result))
    if result["nuclei"]["prediction"]["dice"] is not None:
        console.print(_nuclei_table(result["nuclei"]))
    left = result.get("marks_left", {}).get("prediction")
    if left is not None:
        ends = [f"{100 * end:.0f}" for end in left["ci95"] if end is not None]
        print_message(
            f"Of the darkness of rims and rings in {left['samples']} unstained images "
            f"{100 * left['mean']:.0f} % is left ({' to '.join(ends) or 'one image only'})."
        )
    if "cell_types" in result:
        console.print(_types_table(result["cell_types"]))


def _show_worst(result: dict[str, Any], file: Path) -> None:
    counts: dict[str, int] = result["worst"]
    named = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    print_message(f"The worst {sum(counts.values())}: {named} ({file}, and as a picture, .png).")


def _types_table(found: dict[str, Any]) -> Any:
    from rich.table import Table

    prediction = found["prediction"]
    table = Table(title=f"Types that a classifier reads, {prediction['cells']} cells")
    for heading in ("", "right", "as in the stained image"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("stained image", _cell(prediction["accuracy_on_stained"]), "")
    for row, values in found.items():
        table.add_row(row, _cell(values["accuracy_on_prediction"]), _cell(values["agreement"]))
    kappas = ", ".join(
        f"{row} {'-' if values['kappa'] is None else format(values['kappa'], '.2f')}"
        for row, values in found.items()
    )
    table.caption = f"Types: {', '.join(prediction['types'])}. Cohen's kappa: {kappas}."
    return table


def _losses_table(result: dict[str, Any]) -> Any:
    from rich.table import Table

    losses, spent = result["losses"], result["ms_per_sample"]
    table = Table(title=f"Losses; perceptual network: {losses['perceptual_network']}")
    for heading in ("", "weighted, as trained", "perceptual", "Fourier"):
        table.add_column(heading, justify="right" if heading else "left")
    for row, values in losses.items():
        if isinstance(values, dict):
            names = ("loss", "perceptual", "fourier")
            table.add_row(row, *(_cell(values[name]) for name in names))
    table.caption = (
        f"{spent['mean']:.2f} ms a sample ({spent['device']}, {spent['precision']}, "
        f"{spent['threads']} threads)"
    )
    return table


def _nuclei_table(nuclei: dict[str, Any]) -> Any:
    from rich.table import Table

    total = nuclei["prediction"]["nuclei"]
    table = Table(title=f"Nuclei, beside the {total} whole ones of the stained images")
    for heading in ("", "Dice", "lost, share", "invented, share", "lobes as stained"):
        table.add_column(heading, justify="right" if heading else "left")
    for row, found in nuclei.items():
        if not isinstance(found, dict):
            continue
        lost = f"{found['lost']}, {_cell(found['lost_share'])}"
        invented = f"{found['invented']}, {_cell(found['invented_share'])}"
        lobes = _cell(None if found["lobes"] is None else found["lobes"]["same_share"])
        table.add_row(row, _cell(found["dice"]), lost, invented, lobes)
    return table


def _cell(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    low, high = value["ci95"]
    interval = "one only" if low is None else f"{low:.3f}, {high:.3f}"
    return f"{value['mean']:.4f}\n{interval}"
