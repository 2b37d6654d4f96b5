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
    no_args_is_help=True, add_completion=False, help="Measure what scans need to know."
)

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
    from plsctl.acquire.bench.handling import make_ready
    from plsctl.acquire.bench.led_light import kept_light, led_light
    from plsctl.acquire.capture.auto_exposure import ExposureCalibration
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.acquire.devices.microscope import open_microscope
    from plsctl.acquire.focus.search import FocusSearch
    from plsctl.acquire.interrupt import stop_on_signals
    from plsctl.acquire.plans.exposures import save_exposures
    from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD
    from plsctl.acquire.plans.recipes import load_recipe
    from plsctl.acquire.plans.slide import FocusSettings
    from plsctl.cli.scanning.calibration_bench import keep
    from plsctl.cli.shared.roles import make_operator
    from plsctl.process.focus.sharpness import GradientFocusMeasure

    described = load_hardware(hardware)
    name = objective or described.low_power
    described.objective(name)
    before = kept_light(described, name)
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
        search = FocusSearch(microscope, GradientFocusMeasure(), settings, stop)
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
        light = led_light(microscope, name, frames, calibration.lights)
    save_exposures(table, out)
    dimmed = light.dimmed_since(before) if light is not None and before is not None else {}
    if light is not None:
        keep(described, light)
    emit(
        {
            "table": out,
            "rows": [
                {"label": f.label, "exposure_ms": e.exposure_ms, "gain": e.gain}
                for f, e in table.rows.items()
            ],
            "dimmed": None if light is None or before is None else dimmed,
        },
        json,
    )
    if light is not None and before is None:
        print_message("The light of each LED is kept: the next calibration can tell what dimmed.")
    for led, share in dimmed.items():
        print_message(f"{led} gives {100 * share:.0f} % of the light that it gave before.")
    print_message(f"{counted(len(table.rows), 'exposure')} written to {out}.")
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
    from plsctl.acquire.bench.pixel_size import measure_pixel_size
    from plsctl.cli.scanning.calibration_bench import (
        calibrated_so_far,
        keep,
        opened_bench,
        page_path,
    )
    from plsctl.process.matching.shifts import EdgeShiftFinder
    from plsctl.process.report.calibration import write_pixel_size

    described = calibrated_so_far(hardware)
    name = objective or described.low_power
    described.objective(name)
    with opened_bench(described, f"pixel-size_{name}", yes) as opened:
        opened.bench.microscope.set_objective(name)
        opened.bench.settle(*at_um)
        result = measure_pixel_size(opened.bench, EdgeShiftFinder())
    found = result.calibration
    path, page = keep(described, found), page_path(described, f"pixel-size_{name}")
    if page is not None:
        write_pixel_size(page, result)
    emit(
        {
            "objective": name,
            "pixel_um": found.pixel_um,
            "pixel_um_error": found.pixel_um_error,
            "rotation_deg": found.rotation_deg,
            "rotation_deg_error": found.rotation_deg_error,
            "mirrored": found.mirrored,
            "backlash_um": found.backlash_um,
            "residual_um": found.residual_um,
            "images": found.images,
            "file": path,
            "page": page,
        },
        json,
    )
    print_message(
        f"{name}: pixels of {found.pixel_um:.5f} ± {found.pixel_um_error:.5f} µm, "
        f"{'mirrored' if found.mirrored else 'not mirrored'}, turned by {found.rotation_deg:.3f} ± "
        f"{found.rotation_deg_error:.3f} deg; the stage has {found.backlash_um[0]:.2f} µm of play "
        f"in x and {found.backlash_um[1]:.2f} µm in y."
    )


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
    from plsctl.acquire.bench.objectives import measure_objectives
    from plsctl.cli.scanning.calibration_bench import (
        calibrated_so_far,
        keep,
        opened_bench,
        page_path,
    )
    from plsctl.process.matching.objectives import StainHighPowerFinder
    from plsctl.process.matching.shifts import EdgeShiftFinder
    from plsctl.process.report.calibration import write_objectives

    described = calibrated_so_far(hardware)
    lower, name = reference or described.low_power, objective or described.high_power
    if described.objective(lower).magnification >= described.objective(name).magnification:
        raise UserError(
            f"{name} does not magnify more than {lower}.",
            file=described.file,
            field="--objective",
            hint="Name two objectives, the lower one by --reference.",
        )
    with opened_bench(described, f"objectives_{name}", yes) as opened:
        opened.operator.bring("stained smear")
        result = measure_objectives(
            opened.bench,
            opened.operator,
            lower,
            name,
            at_um,
            EdgeShiftFinder(),
            StainHighPowerFinder(),
        )
    found = result.calibration
    path, page = keep(described, found), page_path(described, f"objectives_{name}")
    if page is not None:
        write_objectives(page, result, described.pixel_um(lower))
    emit(
        {
            "objective": name,
            "reference": lower,
            "offset_um": found.offset_um,
            "offset_um_error": found.offset_um_error,
            "scale": found.scale,
            "scale_error": found.scale_error,
            "rotation_deg": found.rotation_deg,
            "rotation_deg_error": found.rotation_deg_error,
            "fields": found.fields,
            "file": path,
            "page": page,
        },
        json,
    )
    x, y, z = found.offset_um
    print_message(
        f"{name} against {lower}: the stage must go {x:.2f} µm in x, {y:.2f} µm in y and {z:.1f} "
        f"µm in z; {found.scale:.4f} ± {found.scale_error:.4f} times as large, turned by "
        f"{found.rotation_deg:.3f} ± {found.rotation_deg_error:.3f} deg."
    )


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
    from plsctl.acquire.bench.flat_field import measure_flat_field
    from plsctl.cli.scanning.calibration_bench import (
        calibrated_so_far,
        keep,
        opened_bench,
        page_path,
    )
    from plsctl.process.report.calibration import write_flat_field

    described = calibrated_so_far(hardware)
    name = objective or described.low_power
    described.objective(name)
    with opened_bench(described, f"flatfield_{name}", yes) as opened:
        opened.bench.microscope.set_objective(name)
        opened.bench.settle(*at_um, glass_will_do=True)
        result = measure_flat_field(opened.bench)
    found = result.calibration
    path, page = keep(described, found), page_path(described, f"flatfield_{name}")
    if page is not None:
        write_flat_field(page, result)
    emit(
        {
            "objective": name,
            "lights": list(found.surfaces),
            "vignette": found.vignette,
            "dust": [
                {"x": x, "y": y, "radius_px": radius, "shade": shade}
                for x, y, radius, shade in found.dust
            ],
            "dead": found.dead_px,
            "hot": found.hot_px,
            "places": found.places,
            "file": path,
            "page": page,
        },
        json,
    )
    print_message(
        f"{name}: the darkest part of bright field lacks {100 * found.vignette:.1f} % of the "
        f"light; {counted(len(found.dust), 'speck')} of dust, "
        f"{counted(len(found.dead_px), 'dead pixel')}, {counted(len(found.hot_px), 'hot pixel')}."
    )


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
