"""`plsctl calibrate`: measure what a scan needs to know and write it beside the user's files."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.words import command_line, counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    HardwareOption,
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    progress,
)

NEXT = f"Next: {command_line('scan', 'SLIDE.yaml', '--pass', 'unstained')}"

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measure exposures and write tables."
)

OutOption = Annotated[Path, typer.Option("--out", "-o", help="The table to write (CSV).")]
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
    objective: Annotated[
        str | None, typer.Option(help="Objective; the lowest one without it.")
    ] = None,
    at_um: Annotated[
        tuple[float, float], typer.Option("--at", help="A place with cells: x and y, micrometres.")
    ] = (11000.0, 5600.0),
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
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask whether the stage is homed.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Find exposure and gain of every LED from histograms.

    As in section 3.1.1 of papers/002, which docs/references.md names.

    Example: plsctl calibrate exposures --hardware simulator -o exposures_20x.csv
    """
    _check_place(out, overwrite)
    from plsctl.acquire.bench.handling import make_ready
    from plsctl.acquire.capture.auto_exposure import ExposureCalibration
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.acquire.devices.microscope import open_microscope
    from plsctl.acquire.focus.search import FocusSearch
    from plsctl.acquire.interrupt import stop_on_signals
    from plsctl.acquire.plans.exposures import save_exposures
    from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD
    from plsctl.acquire.plans.recipes import load_recipe
    from plsctl.acquire.plans.slide import FocusSettings
    from plsctl.cli.shared.roles import make_operator
    from plsctl.process.focus.sharpness import GradientFocusMeasure
    from plsctl.process.matching.parallax import CorrelationParallax

    described = load_hardware(hardware)
    name = objective or described.low_power
    described.objective(name)
    bright_field_na = described.objective(described.low_power).na
    chosen = load_recipe(BRIGHTFIELD if brightfield_only else recipe)
    frames = chosen.light(described.geometry(), bright_field_na)
    with (
        stop_on_signals("no table was written") as stop,
        progress(f"starting the devices of {described.name}") as advance,
        open_microscope(described) as microscope,
    ):
        make_ready(microscope, make_operator(microscope.operator, yes, advance.paused), stop)
        microscope.set_objective(name)
        microscope.travel(*microscope.to_stage(*at_um))
        settings = FocusSettings()
        search = FocusSearch(
            microscope, GradientFocusMeasure(), settings, stop, CorrelationParallax()
        )
        guess_um = described.focus_z_um + microscope.objective.offset_z_um
        advance(description="finding focus")
        try:
            z_um, _ = search.find(guess_um, settings.range_um)
        except HardwareError as error:
            # Here no slide file says how far is searched.
            error.hint = (
                f"Name a place with cells by --at X Y (now {at_um[0]:g} {at_um[1]:g}), and set "
                f"focus_z_um in {described.file} to where they are sharp."
            )
            raise
        microscope.move_z(z_um)
        calibration = ExposureCalibration(microscope, stop, longest_ms)
        advance(description="measuring exposures", total=len(frames), unit="image")
        table = calibration.measure(frames, bright_field_na, lambda label: advance())
    save_exposures(table, out)
    emit(
        {
            "table": out,
            "rows": [
                {"label": f.label, "exposure_ms": e.exposure_ms, "gain": e.gain}
                for f, e in table.rows.items()
            ],
        },
        json,
    )
    print_message(f"{counted(len(table.rows), 'exposure')} written to {out}.")
    print_message(f"Name the table in the slide file, exposures: {out.name}. {NEXT}")


@app.command()
def levels(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv", help="An exposure table.")],
    out: OutOption,
    levels: Annotated[int, typer.Option(help="Most different exposures.")] = 12,
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
    after = level_exposures(before, levels)
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
