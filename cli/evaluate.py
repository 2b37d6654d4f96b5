"""`plsctl evaluate`: how good a run is on data it has not seen."""

from pathlib import Path
from typing import Annotated, Any

import typer

from plsctl.cli.common import JsonFlag, VerboseFlag, console, emit, progress, say


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder that `plsctl train` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Another data set than the run was trained on.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    cell_types: Annotated[
        bool,
        typer.Option(
            "--cell-types", help="Train a classifier on the stained cells and let it read both."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Measure a run, beside the unstained image, the mean colour and the mean stained image.

    Prints similarity and error with 95 % intervals, the paired difference to the unstained image,
    and how nuclei agree with those of the stained images: Dice, lost and invented ones.

    Example: plsctl evaluate runs/first --split test
    """
    from plsctl.models.evaluation import evaluate as evaluate_run
    from plsctl.models.prediction import Predictor
    from plsctl.models.run import Run
    from plsctl.process.dataset import Dataset

    opened = Run.open(run)
    chosen = Dataset.open(data or opened.config.data)
    total = len(chosen.split(split, opened.facts.target))
    predictor = Predictor(opened, device=device)
    types = None
    if cell_types:
        from plsctl.models.cell_types import CellTypeReader

        with progress("learning cell types", total=100) as advance:
            types = CellTypeReader(
                chosen,
                opened.facts.target,
                device=predictor.device,
                on_share=lambda share: advance(completed=100 * share),
            )
    with progress("evaluating", total=total) as advance:
        result = evaluate_run(
            opened, chosen, split, predictor=predictor, types=types, on_samples=advance
        )
    _show(result)
    _show_worst(result, run / f"worst_{split}.csv")
    say(f"Best and worst samples: {run / f'gallery_{split}.png'}")
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
    if result["nuclei"]["prediction"]["dice"] is not None:
        console.print(_nuclei_table(result["nuclei"]))
    left = result["marks_left"]["prediction"]
    if left is not None:
        low, high = (100 * end for end in left["ci95"])
        console.print(
            f"Of the dark rims and rings of the unstained image {100 * left['mean']:.0f} % are "
            f"left ({low:.0f} to {high:.0f})."
        )
    if "cell_types" in result:
        console.print(_types_table(result["cell_types"]))


def _show_worst(result: dict[str, Any], file: Path) -> None:
    counts: dict[str, int] = result["worst"]
    named = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    say(f"The worst {sum(counts.values())}: {named} ({file}).")


def _types_table(found: dict[str, Any]) -> Any:
    from rich.table import Table

    cells, types = found["prediction"]["cells"], ", ".join(found["prediction"]["types"])
    table = Table(title=f"Cell types ({types}) of {cells} cells, as a classifier reads them")
    for heading in ("", "as in the stained image", "right", "right in the stained image"):
        table.add_column(heading, justify="right" if heading else "left")
    for row, values in found.items():
        measures = ("agreement", "accuracy_on_prediction", "accuracy_on_stained")
        table.add_row(row, *(_cell(values[name]) for name in measures))
    return table


def _nuclei_table(nuclei: dict[str, Any]) -> Any:
    from rich.table import Table

    total = nuclei["prediction"]["nuclei"]
    table = Table(title=f"Nuclei, beside the {total} whole ones of the stained images")
    for heading in ("", "Dice", "lost", "share", "invented", "share"):
        table.add_column(heading, justify="right" if heading else "left")
    for row, found in nuclei.items():
        lost, invented = str(found["lost"]), str(found["invented"])
        shares = _cell(found["lost_share"]), _cell(found["invented_share"])
        table.add_row(row, _cell(found["dice"]), lost, shares[0], invented, shares[1])
    return table


def _cell(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    low, high = value["ci95"]
    return f"{value['mean']:.4f}\n{low:.3f}, {high:.3f}"
