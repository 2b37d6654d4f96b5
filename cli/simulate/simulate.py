"""`plsctl simulate`: parts of the simulated microscope on their own."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.words import counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    SHORT_TRAINING,
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    print_next_command,
    progress,
)
from plsctl.cli.simulate.led_array import led_array

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Parts of the simulated microscope on their own.",
)
app.command("led-array")(led_array)


@app.callback()
def simulate() -> None:
    """Parts of the simulated microscope on their own.

    Example: plsctl simulate truth examples/small.yaml --json
    """


@app.command()
def truth(
    slide_file: Annotated[Path, typer.Argument(metavar="SLIDE.yaml", help="The slide file.")],
    white_only: Annotated[
        bool, typer.Option("--white-only", help="Only white cells, not red cells and platelets.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Ground truth of a simulated slide: every cell in its region, in slide micrometres.

    Example: plsctl simulate truth examples/small.yaml --json
    """
    from plsctl.acquire.plans.slide import load_slide
    from plsctl.sim.backend import open_world
    from plsctl.sim.smear.cells import WHITE_TYPES
    from plsctl.sim.smear.truth import cells_in_region

    slide = load_slide(slide_file)
    world = open_world(slide.load_hardware())
    (x_low, x_high), (y_low, y_high) = slide.region.x_um, slide.region.y_um
    types = WHITE_TYPES if white_only else None
    with progress("placing the cells of the smear"):
        cells = cells_in_region(world.smear, (x_low, y_low, x_high, y_high), types)
    emit({"cells": cells}, json)
    print_message(f"{counted(len(cells), 'cell')} in the region of slide {slide.slide}.")


@app.command()
def dataset(
    out: Annotated[Path, typer.Option("--out", "-o", help="The data set to write (X.zarr).")],
    cells: Annotated[int, typer.Option(min=1, help="Number of white cells.")] = 200,
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe of the input stacks: a name, or the path of a YAML file.",
            autocompletion=completion.recipes,
        ),
    ] = "full",
    exposures: Annotated[
        Path | None,
        typer.Option(help="Exposure table; exposures_20x.csv beside the hardware file by default."),
    ] = None,
    hardware: Annotated[
        str, typer.Option(help="The simulated microscope: a name or the path of a YAML file.")
    ] = "simulator_small",
    margin: Annotated[
        int,
        typer.Option(min=0, help="Surroundings that stacks have on every side of the crop, in px."),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the split.", min=0)] = 0,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Render cell neighbourhoods straight into a data set, without scanning whole fields.

    Example: plsctl simulate dataset --cells 200 --recipe le18deg -o simulated.zarr
    """
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.cli.simulate.dataset import write_dataset

    described = load_hardware(hardware)
    with progress("rendering cells", cells, "cell") as advance:
        count = write_dataset(
            described, out, cells, recipe, seed, lambda: advance(), margin, exposures
        )
    emit({"samples": count, "dataset": out}, json)
    print_message(f"{counted(count, 'sample')} written to {out}.")
    runs = Path("runs") / out.stem
    print_next_command("train", "fast", "--data", out, "--out", runs, *SHORT_TRAINING)
