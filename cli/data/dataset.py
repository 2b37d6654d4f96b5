"""`plsctl dataset`: put data sets together, divide and label their samples, write their table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    JsonFlag,
    VerboseFlag,
    emit,
    location,
    print_message,
    print_next_command,
    print_training,
    progress,
)
from plsctl.cli.shared.splits import SeedOption, SplitByOption, parse_split

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from plsctl.process.dataset.reader import Dataset
    from plsctl.process.dataset.splits import SplitSettings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Merge, divide and label data sets."
)

DatasetArgument = Annotated[
    Path, typer.Argument(metavar="DATASET", help="A data set, NAME.zarr.", parser=location)
]
Sources = Annotated[
    list[Path], typer.Argument(metavar="DATASET...", help="Data sets.", parser=location)
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Take over the images of this recipe only: le18deg, or the path of a YAML file.",
        autocompletion=completion.recipes,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a data set of the same name.")
]
KeepSplit = Annotated[
    str, typer.Option(help="Divide anew, such as 8:1:1; keep leaves splits as they are.")
]


@app.command()
def merge(
    sources: Sources,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="The data set to write.", parser=location),
    ],
    recipe: Recipe = None,
    split: KeepSplit = "keep",
    split_by: SplitByOption = "position",
    seed: SeedOption = 0,
    overwrite: Overwrite = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Write the samples of several data sets into a new one.

    Images, scale, crop, targets, camera and LEDs must fit, and no cell may be in two of them.

    Example: plsctl dataset merge monday.zarr tuesday.zarr -o both.zarr --split 8:1:1
    """
    _merge(sources, out, recipe, _wanted(split, split_by, seed), overwrite, json)


@app.command()
def append(
    dataset: DatasetArgument,
    sources: Sources,
    split: KeepSplit = "keep",
    split_by: SplitByOption = "position",
    seed: SeedOption = 0,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Add the samples of data sets to one; it is replaced when the longer one is whole.

    Example: plsctl dataset append all.zarr wednesday.zarr
    """
    _merge([dataset, *sources], dataset, None, _wanted(split, split_by, seed), True, json)


@app.command("split")
def divide(
    dataset: DatasetArgument,
    split: Annotated[
        str | None,
        typer.Option(
            help="Shares of train, validation and test, of train and test, or none; 8:1:1 by "
            "default. With --half or --train-share the splits stay as they are without it."
        ),
    ] = None,
    split_by: SplitByOption = "position",
    seed: SeedOption = 0,
    train_share: Annotated[
        float,
        typer.Option(help="Share of the training samples to keep, of every slide and cell type."),
    ] = 1.0,
    half: Annotated[
        bool, typer.Option("--half", help="The half-size data set: --train-share 0.5.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="A new data set that shares the images, instead of changing this one.",
            parser=location,
        ),
    ] = None,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Divide the samples of a data set anew.

    Example: plsctl dataset split wbc.zarr --half -o wbc-half.zarr
    """
    from plsctl.process.dataset.reader import Dataset
    from plsctl.process.dataset.rewrite import redivide
    from plsctl.process.dataset.splits import thin_training, whole_split

    share = 0.5 if half else train_share
    settings = parse_split(split or "8:1:1", split_by, seed, share)
    data = Dataset.open(dataset)
    stay = split is None and share != 1 and "split" in data.table.columns

    def divided(table: "pd.DataFrame") -> "pd.Series[str]":
        if stay:
            return thin_training(table, whole_split(table), share, seed)
        return settings.divide(table, data.reach_um)

    _report(redivide(data, divided, out), json)


@app.command()
def label(
    dataset: DatasetArgument,
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV (or .tsv) with any of the columns sample, slide, position, cell, or with "
            "slide, x_um, y_um; all its other columns are labels.",
        ),
    ],
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Add labels from elsewhere to the samples of a data set, such as the column type.

    Example: plsctl dataset label wbc.zarr differential.csv
    """
    from plsctl.process.dataset.labels import join_labels, read_labels
    from plsctl.process.dataset.reader import Dataset
    from plsctl.process.dataset.rewrite import rewrite_table

    data = Dataset.open(dataset)
    joined = join_labels(data.table, read_labels(labels), labels)
    rewrite_table(data, joined.table)
    emit({"samples": len(data), "labelled": joined.matched, "unused": joined.unused}, json)
    print_message(joined.sentence)
    print_training(data.path)


@app.command()
def table(
    dataset: DatasetArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .csv, .tsv or .json file to write.")
    ] = None,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Write the table of a data set, a row per sample; without --out, say what is in it.

    Example: plsctl dataset table wbc.zarr -o wbc.csv
    """
    from plsctl.process.dataset.reader import Dataset

    data = Dataset.open(dataset)
    if out is not None:
        _write_table(data, out)
        print_message(f"{counted(len(data), 'row')} in {out}.")
    _report(data, json)


@app.command()
def verify(
    dataset: DatasetArgument,
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out",
            help="Note the damaged samples in the table: every command goes on without them.",
        ),
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Read every sample of a data set, and name files that are missing or damaged.

    Example: plsctl dataset verify wbc.zarr --leave-out
    """
    from plsctl.process.dataset.reader import Dataset
    from plsctl.process.dataset.splits import is_damaged
    from plsctl.process.dataset.verify import find_damage
    from plsctl.process.dataset.verify import leave_out as note_damage

    data = Dataset.open(dataset)
    with progress(f"reading {dataset}", unit="sample") as advance:
        found = find_damage(data, lambda done, total: advance(completed=done, total=total))
    gone = {number for damage in found for number in damage.samples}
    noted = set(data.table.loc[is_damaged(data.table), "sample"])
    if leave_out and gone != noted:
        data = note_damage(data, found)
    emit(
        {
            "dataset": data.path,
            "samples": len(data),
            "checksums": data.has_checksums,
            "damaged": sorted(gone),
            "files": [damage.as_dict() for damage in found],
            "left_out": leave_out or not gone,
        },
        json and (leave_out or not gone),
    )
    for damage in found:
        print_message(f"  {damage.file} {damage.problem}: {_numbers(damage.samples)}.")
    if gone and not leave_out:
        raise UserError(
            f"{counted(len(gone), 'sample')} of {len(data)} cannot be read; the first file is "
            f"{found[0].file}, which {found[0].problem}.",
            file=data.path,
            hint="Take the files from a copy, or leave the samples out: --leave-out.",
        )
    said = f"{len(gone)} of them damaged and left out" if gone else "none of them damaged"
    print_message(f"{data.path}: {counted(len(data), 'sample')}, {said}.")


def _numbers(samples: "Sequence[int]") -> str:
    shown = ", ".join(str(number) for number in samples[:8])
    more = f" and {len(samples) - 8} more" if len(samples) > 8 else ""
    return f"{'sample' if len(samples) == 1 else 'samples'} {shown}{more}"


def _write_table(data: "Dataset", out: Path) -> None:
    if out.suffix not in (".csv", ".tsv", ".json"):
        raise UserError(
            f"a table cannot be written as '{out.suffix or out.name}'.",
            field="--out",
            hint="Give a name that ends in .csv, .tsv or .json.",
        )
    try:
        if out.suffix == ".json":
            data.table.to_json(out, orient="records", indent=1, double_precision=15)
        else:
            data.table.to_csv(out, index=False, sep="\t" if out.suffix == ".tsv" else ",")
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror or error}).", file=out) from None


def _wanted(split: str, by: str, seed: int) -> "SplitSettings | None":
    return None if split == "keep" else parse_split(split, by, seed)


def _merge(
    sources: list[Path],
    out: Path,
    recipe: str | None,
    settings: "SplitSettings | None",
    overwrite: bool,
    json: bool,
) -> None:
    from plsctl.process.dataset.merge import merge_datasets
    from plsctl.process.dataset.reader import Dataset

    reach_um = Dataset.open(sources[0]).reach_um
    with progress(f"writing {out}", unit="sample") as advance:
        merged = merge_datasets(
            sources,
            out,
            recipe=recipe,
            divide=None if settings is None else lambda t: settings.divide(t, reach_um),
            overwrite=overwrite,
            progress=lambda done, total: advance(completed=done, total=total),
            notify=print_message,
        )
    _report(merged, json)


def _report(data: "Dataset", json: bool) -> None:
    from plsctl.process.dataset.splits import count_splits, say_splits

    splits = count_splits(data.table)
    emit({"dataset": data.path, "samples": len(data), "splits": splits}, json)
    print_message(f"{data.path}: {counted(len(data), 'sample')} ({say_splits(splits)}).")
    if splits.get("train"):
        print_training(data.path)
    else:
        print_next_command("dataset", "split", data.path)
