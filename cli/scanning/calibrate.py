"""`plsctl calibrate`: measure what a scan needs to know and write it beside the user's files."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import command_line, counted
from plsctl.cli.scanning.calibrate_leds import leds
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    HardwareOption,
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
)

NEXT = f"Next: {command_line('scan', 'SLIDE.yaml', '--pass', 'unstained')}"

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measure what scans need to know."
)
app.command()(leds)

OutOption = Annotated[Path, typer.Option("--out", "-o", help="The table to write (CSV).")]
ObjectiveOption = Annotated[str | None, typer.Option(help="Objective; the lowest one without it.")]
PlaceOption = Annotated[
    tuple[float, float], typer.Option("--at", help="A place with cells: x and y, micrometres.")
]
PLACE = (11000.0, 5600.0)
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask whether the stage is homed.")]
OverwriteOption = Annotated[bool, typer.Option(help="Replace an existing table.")]


@app.callback()
def calibrate() -> None:
    """Measure what a scan needs to know and write tables.

    Example: plsctl calibrate exposures --hardware simulator -o exposures_20x.csv
    """


@app.command()
def exposures(
    out: OutOption,
    hardware: HardwareOption = "",
    objective: ObjectiveOption = None,
    at_um: PlaceOption = PLACE,
    longest_ms: Annotated[
        float, typer.Option(min=0.01, help="Longest exposure; beyond it gain is raised.")
    ] = 500.0,
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe whose images are measured: a name, or the path of a YAML file.",
            autocompletion=completion.recipes,
        ),
    ] = "full",
    brightfield_only: Annotated[
        bool, typer.Option("--brightfield-only", help="Only the bright-field image.")
    ] = False,
    overwrite: OverwriteOption = False,
    yes: YesOption = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Find exposure and gain of every LED from histograms.

    As in section 3.1.1 of papers/002, which docs/references.md names.

    Example: plsctl calibrate exposures --hardware simulator -o exposures_20x.csv
    """
    _check_place(out, overwrite)
    from plsctl.cli.scanning.calibration_steps import exposures_step

    chosen = None if brightfield_only else recipe
    emit(exposures_step(hardware, objective, at_um, yes, out, chosen, longest_ms), json)
    print_message(f"Name the table in the slide file, exposures: {out.name}. {NEXT}")


@app.command("pixel-size")
def pixel_size(
    hardware: HardwareOption = "",
    objective: ObjectiveOption = None,
    at_um: PlaceOption = PLACE,
    yes: YesOption = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Measure pixel size, rotation, mirror and backlash by moving a slide with cells.

    Example: plsctl calibrate pixel-size --hardware lab/microscope.yaml
    """
    from plsctl.cli.scanning.calibration_steps import pixel_size_step

    emit(pixel_size_step(hardware, objective, at_um, yes), json)


@app.command()
def objectives(
    hardware: HardwareOption = "",
    objective: Annotated[
        str | None, typer.Option(help="Objective; the highest one without it.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="What it is compared with; the lowest one without it.")
    ] = None,
    at_um: PlaceOption = PLACE,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask for slide, oil and homing.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Compare two objectives on a stained smear: offsets in x, y and z, scale, rotation.

    Example: plsctl calibrate objectives --hardware lab/microscope.yaml
    """
    from plsctl.cli.scanning.calibration_steps import objectives_step

    emit(objectives_step(hardware, objective, reference, at_um, yes), json)


@app.command()
def flatfield(
    hardware: HardwareOption = "",
    objective: ObjectiveOption = None,
    at_um: PlaceOption = PLACE,
    yes: YesOption = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Measure how even the light is, per LED and in bright field; list dust, dead and hot pixels.

    Best on clean glass; on a smear, cells leave a little of themselves.

    Example: plsctl calibrate flatfield --hardware lab/microscope.yaml
    """
    from plsctl.cli.scanning.calibration_steps import flat_field_step

    emit(flat_field_step(hardware, objective, at_um, yes), json)


@app.command("all")
def everything(
    hardware: HardwareOption = "",
    at_um: PlaceOption = PLACE,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure anew what was measured today, too.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask for slide, oil and homing.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Measure all there is, in the right order; stopped anywhere, the same command goes on.

    Example: plsctl calibrate all --hardware lab/microscope.yaml
    """
    from plsctl.cli.scanning.calibration_steps import all_steps

    emit({"steps": all_steps(hardware, at_um, yes, fresh)}, json)
    print_message(NEXT)


@app.command()
def levels(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv", help="An exposure table.")],
    out: OutOption,
    levels: Annotated[int, typer.Option(help="Most different exposures.")] = 12,
    dim: Annotated[
        bool,
        typer.Option("--dim", help="Dim LEDs instead of losing light, where the array can."),
    ] = False,
    overwrite: OverwriteOption = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Round exposures down to a few levels: for cameras whose series have one exposure each.

    Example: plsctl calibrate levels exposures_20x.csv --levels 12 -o levels_20x.csv
    """
    _check_place(out, overwrite)
    from plsctl.acquire.plans.exposures import (
        greatest_loss,
        level_exposures,
        load_exposures,
        save_exposures,
    )

    if not table.is_file():
        raise UserError("there is no such table.", file=table, hint="Name an exposure table.")
    before = load_exposures(table)
    after = level_exposures(before, levels, dim)
    save_exposures(after, out)
    found = len({(e.exposure_ms, e.gain) for e in after.rows.values()})
    loss = greatest_loss(before, after)
    emit({"table": out, "levels": found, "greatest_loss": loss}, json)
    print_message(
        f"{counted(found, 'level')} in {out}; no frame loses more than {100 * loss:.0f} % of its "
        "light."
    )


def _check_place(table: Path, overwrite: bool) -> None:
    """`UserError` when a table cannot be written there, before anything is measured."""
    if table.is_dir():
        raise UserError("this is a folder.", file=table, hint="Name a file, such as table.csv.")
    if table.exists() and not overwrite:
        raise UserError(
            "the table exists.", file=table, hint="Choose another name, or --overwrite."
        )
    if not table.parent.is_dir():
        raise UserError("there is no such folder.", file=table.parent, hint="Make it first.")
