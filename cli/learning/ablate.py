"""`plsctl ablate`: how much each set of LED images helps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from plsctl.acquire.errors import UserError
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
)


def ablate(
    data: Annotated[Path, typer.Argument(help="Data set to train and measure on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs and the table.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to train, as for plsctl train; maepnet by default.",
            autocompletion=completion.models,
        ),
    ] = None,
    recipes: Annotated[
        str | None,
        typer.Option(help="Names or files, full,own.yaml; all that the data set holds by default."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="20x or 100x; 100x by default where there is one.",
            autocompletion=completion.TARGETS,
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="Rows of papers/002 (docs/references.md), instead of --recipes: 4.1, 4.2, 4.4, "
            "4.5 or A.1.",
            autocompletion=completion.values("4.1", "4.2", "4.4", "4.5", "A.1"),
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="What is measured: test or validation.",
            autocompletion=completion.values("test", "validation"),
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each recipe, averaged.")] = 1,
    blocks: Annotated[int | None, typer.Option(help="Blocks of the network.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels inside the network.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many epochs each.")] = None,
    minutes: Annotated[float | None, typer.Option(help="At most so long each.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples in a batch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's rate (2e-4).")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="constant or cosine.", autocompletion=completion.SCHEDULES)
    ] = None,
    average: Annotated[
        float | None, typer.Option(help="Keep a running mean of the weights: 0.99, or 0 for none.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better loss.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda.", autocompletion=completion.DEVICES)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, float32 or bfloat16.", autocompletion=completion.PRECISIONS),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw old runs away.")] = False,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Train one model on several recipes with one budget, and compare them.

    A row per recipe with 95 % intervals, and the paired difference to the bright-field image
    alone; or the rows of a table of the thesis (--table). The same command again goes on after a
    stop; finished runs are not repeated.

    Example: plsctl ablate wbc.zarr --out runs/ablation --recipes full-nohe,le18deg,brightfield
    """
    from plsctl.models.evaluation.paper_tables import (
        BASE,
        Comparison,
        chosen_recipes,
        paper_table,
        recipe_arms,
    )
    from plsctl.models.runs.folder import DEVICES
    from plsctl.models.runs.registry import model_spec
    from plsctl.process.dataset.reader import Dataset

    one_of("device", device or "auto", DEVICES)
    opened = Dataset.open(data)
    if table is not None:
        for name, value in (("recipes", recipes), ("model", model)):
            if value is not None:
                raise UserError(f"a table has its own {name}.", field=name, hint="Leave it out.")
        asked = paper_table(table)
    else:
        model = model or "maepnet"
        model_spec(model)
        asked = Comparison(recipe_arms(chosen_recipes(opened, recipes), model), base=BASE)
    split = split or asked.split
    given = {
        "target": target or asked.target or ("100x" if "100x" in opened.targets else "20x"),
        "blocks": blocks, "width": width, "epochs": epochs, "minutes": minutes, "batch": batch,
        "learning_rate": learning_rate, "schedule": schedule, "average": average,
        "patience": patience, "device": device, "precision": precision,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    opened.split(split, str(given["target"]))
    runs = [f"{arm.name}-{seed}" for arm in asked.arms for seed in range(seeds)]
    print_message(
        f"Training {counted(len(runs), 'run')} on {data}; first the network library is loaded ..."
    )
    from plsctl.models.evaluation.ablation import ablate as run_ablation

    with progress("training and measuring", total=len(runs), unit="run") as advance:

        def on_share(run: str, share: float) -> None:
            number = runs.index(run)
            advance(
                completed=number + share,
                note=f"{run}, {100 * share:.0f} % of its training",
            )

        result = run_ablation(
            opened, out, asked.arms, base=asked.base, seeds=seeds, split=split, options=options,
            fresh=fresh, on_share=on_share,
        )  # fmt: skip
    what = model if table is None else f"Table {table}"
    _show(
        [*result.rows, *result.baselines],
        f"{what}, target {result.target}, {split}: mean and 95 % interval",
        f"less {asked.base}",
    )
    print_message(f"The table: {out / 'ablation.csv'}")
    print_message(f"Some cells by all of them: {out / f'models_{split}.png'}")
    emit({"model": model, "table": table, **result.as_dict()}, as_json)
    print_next_command("report", *(out / run for run in runs[:4]), "-o", out / "ablation.html")


def _show(rows: list[dict[str, Any]], title: str, difference: str) -> None:
    several = any(row.get("runs", 1) > 1 for row in rows)
    _print_table(
        title,
        ("", "images", "SSIM", *(["SSIM over runs"] if several else []), difference, "MAE", "ms"),
        [
            [
                row["name"],
                str(row.get("images", "-")),
                _cell(row["ssim"]),
                *([_cell(row.get("ssim_of_runs"))] if several else []),
                _cell(row.get("ssim_less_base")),
                _cell(row["mae"]),
                _number(row.get("ms_per_sample")),
            ]
            for row in rows
        ],
    )
    _print_table(
        "losses, nuclei, and how types of cells agree beyond chance (kappa)",
        ("", "perceptual", "Fourier", "nucleus Dice", "lost, new", "kappa"),
        [
            [
                row["name"],
                _cell(row["perceptual_loss"]),
                _cell(row["fourier_loss"]),
                _cell(row["nucleus_dice"]),
                f"{row['nuclei_lost']:g}, {row['nuclei_invented']:g}",
                _number(row["kappa"]),
            ]
            for row in rows
        ],
    )


def _print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD)
    for heading in headings:
        name = not heading
        table.add_column(heading, justify="left" if name else "right", no_wrap=name)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _cell(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    low, high = value["ci95"]
    interval = "one only" if low is None else f"{low:.3f}, {high:.3f}"
    return f"{value['mean']:.4f}\n{interval}"
