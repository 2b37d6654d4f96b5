"""`plsctl calibrate leds`: where the LEDs are, and which of them are at fault."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.acquire.errors import HardwareError
from plsctl.cli.shared.output import (
    HardwareOption,
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    progress,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plsctl.acquire.bench.led_frames import LedFrames
    from plsctl.acquire.devices.hardware import Hardware
    from plsctl.acquire.devices.led_directions import LedDirections
    from plsctl.process.calibration.led_array import ArrayEstimate, LedProblem
    from plsctl.process.calibration.views import ArrayOptics


def leds(
    hardware: HardwareOption = "",
    at_um: Annotated[
        tuple[float, float], typer.Option("--at", help="A place with cells: x and y, micrometres.")
    ] = (11000.0, 5600.0),
    longest_ms: Annotated[
        float, typer.Option(min=0.01, help="Longest exposure; beyond it gain is raised.")
    ] = 500.0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask whether the stage is homed.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Measure from images how the LED array stands, and find dead, dim and swapped LEDs.

    Shift, rise (towards the objective), turn and tilt are those against the LED table. An LED is
    dim below the light that `plsctl calibrate exposures` kept.

    Example: plsctl calibrate leds --hardware lab/microscope.yaml
    """
    emit(leds_step(hardware, at_um, longest_ms, yes), json)


def leds_step(
    hardware: str, at_um: tuple[float, float], longest_ms: float, yes: bool
) -> dict[str, Any]:
    """Measure the array and keep what was found; what is printed as JSON."""
    from plsctl.cli.scanning.calibration_bench import calibrated_so_far, keep, page_path
    from plsctl.process.calibration.led_array import estimate_array
    from plsctl.process.calibration.views import LedViews
    from plsctl.process.report.led_calibration import write_led_calibration

    described = calibrated_so_far(hardware)
    objective = described.low_power
    title = f"leds_{objective}"
    with _failures(described, title) as seen:
        frames = _take(described, at_um, longest_ms, yes)
        seen.append(frames)
        optics = _optics(described)
        views = LedViews(frames.images, frames.light, frames.black_level)
        with progress("looking at the images") as advance:
            found = estimate_array([views], optics, progress=lambda what: advance(description=what))
    dim, notes = _dim(described, optics, found, frames)
    problems = sorted([*found.problems, *dim], key=lambda problem: problem.led)
    path = keep(described, _directions(described, found, problems, frames.answers))
    page = page_path(described, title)
    if page is not None:
        write_led_calibration(page, f"LED array under {objective}", optics, found, problems, notes)
    return _report(described, found, problems, notes, path, page)


def _take(
    described: "Hardware", at_um: tuple[float, float], longest_ms: float, yes: bool
) -> "LedFrames":
    """Images under every LED, at a place, in focus."""
    from plsctl.acquire.bench.handling import make_ready
    from plsctl.acquire.bench.led_frames import check_field, take_led_frames
    from plsctl.acquire.devices.microscope import open_microscope
    from plsctl.acquire.focus.search import FocusSearch
    from plsctl.acquire.interrupt import stop_on_signals
    from plsctl.acquire.plans.slide import FocusSettings
    from plsctl.cli.shared.roles import make_operator
    from plsctl.process.focus.sharpness import GradientFocusMeasure

    with (
        stop_on_signals("nothing was written") as stop,
        progress(f"starting the devices of {described.name}") as advance,
        open_microscope(described) as microscope,
    ):
        make_ready(microscope, make_operator(microscope.operator, yes, advance.paused), stop)
        microscope.set_objective(described.low_power)
        microscope.travel(*microscope.to_stage(*at_um))
        settings = FocusSettings()
        guess_um = described.focus_z_um + microscope.objective.offset_z_um
        advance(description="finding focus")
        microscope.move_z(guess_um)
        check_field(microscope, stop)
        search = FocusSearch(microscope, GradientFocusMeasure(), settings, stop)
        try:
            microscope.move_z(search.find(guess_um, settings.range_um)[0])
        except HardwareError as error:
            error.hint = (
                f"Name a place with cells by --at X Y (now {at_um[0]:g} {at_um[1]:g}), and set "
                f"focus_z_um in {described.file} to where they are sharp."
            )
            raise
        count = len(microscope.geometry.leds)
        advance(description="looking under every LED", total=count, unit="LED")
        return take_led_frames(microscope, stop, lambda name: advance(), longest_ms)


def _optics(described: "Hardware") -> "ArrayOptics":
    from plsctl.acquire.leds.pose import table_places
    from plsctl.process.calibration.views import ArrayOptics

    geometry, objective = described.geometry(), described.objective(described.low_power)
    return ArrayOptics(
        places_mm=table_places(geometry),
        pixel_um=described.pixel_um(described.low_power),
        na=objective.na,
        orientation=described.camera.orientation,
        names=geometry.names,
    )


@contextmanager
def _failures(described: "Hardware", title: str) -> "Iterator[list[LedFrames]]":
    """A page beside the hardware file shows why a calibration failed."""
    from plsctl.acquire.bench.led_frames import UnusableField
    from plsctl.cli.scanning.calibration_bench import page_path
    from plsctl.process.calibration.failures import CalibrationError
    from plsctl.process.report.led_calibration import write_failure

    seen: list[LedFrames] = []
    try:
        yield seen
    except (UnusableField, CalibrationError) as error:
        page = page_path(described, f"{title}.failed")
        if page is None:
            raise
        if isinstance(error, UnusableField):
            images = list(error.images)
        else:
            name = described.geometry().leds[error.led].name
            images = [(f"under {name}", seen[0].images[error.led])]
        write_failure(page, f"LED array under {described.low_power}", str(error), images)
        error.hint = f"{error.hint or ''} {page} shows what the camera saw.".strip()
        raise


def _dim(
    described: "Hardware", optics: "ArrayOptics", found: "ArrayEstimate", frames: "LedFrames"
) -> "tuple[list[LedProblem], list[str]]":
    """LEDs below the light that was kept, and what cannot be said."""
    import numpy as np

    from plsctl.acquire.bench.led_light import kept_light
    from plsctl.process.calibration.brightness import DIM, light_left
    from plsctl.process.calibration.led_array import LedProblem

    kept = kept_light(described, described.low_power)
    if kept is None or not kept.lights:
        note = (
            "Whether an LED is dim cannot be said yet: no earlier light is kept. plsctl calibrate "
            "exposures keeps it."
        )
        return [], [note]
    names = [led.name for led in described.geometry().leds]
    before = np.array([kept.lights.get(name, np.nan) for name in names])
    now = 1 / frames.light
    wrong = [problem.led for problem in found.problems]
    now[wrong] = np.nan
    table = np.hypot(*described.geometry().directions.T)
    left = light_left(now, before, np.hypot(*found.directions.T), table, optics.na)
    dim = [
        LedProblem(int(led), "dim", light=float(left[led])) for led in np.flatnonzero(left < DIM)
    ]
    return dim, [f"Light is compared with that of {kept.measured:%Y-%m-%d %H:%M} UTC."]


def _directions(
    described: "Hardware",
    found: "ArrayEstimate",
    problems: "list[LedProblem]",
    answers: tuple[str, str],
) -> "LedDirections":
    from plsctl.acquire.devices.calibrations import made
    from plsctl.acquire.devices.led_directions import LedDirections, MeasuredLed

    kinds = {problem.led: problem.kind for problem in problems}
    pose = found.pose
    measured = zip(described.geometry().leds, found.directions, strict=True)
    leds = [
        MeasuredLed(
            led=led.led,
            direction=(round(float(x), 6), round(float(y), 6)),
            problem=kinds.get(index, ""),
        )
        for index, (led, (x, y)) in enumerate(measured)
    ]
    return LedDirections.model_validate(
        made(described, [described.low_power], *answers, with_directions=True)
        | {name: round(value, 4) for name, value in vars(pose).items()}
        | {"rms": round(found.rms, 6), "leds": leds}
    )


def _report(
    described: "Hardware",
    found: "ArrayEstimate",
    problems: "list[LedProblem]",
    notes: list[str],
    path: Path | None,
    page: Path | None,
) -> dict[str, Any]:
    leds = described.geometry().leds
    pose, error = found.pose, found.pose_error
    listed: list[dict[str, Any]] = []
    for problem in problems:
        row: dict[str, Any] = {
            "led": leds[problem.led].led,
            "name": leds[problem.led].name,
            "kind": problem.kind,
        }
        if problem.kind == "swapped":
            row["like"] = leds[problem.other].name
        if problem.kind == "dim":
            row["light"] = problem.light
        listed.append(row)
    print_message(
        f"The array stands {pose.x_mm:+.2f} mm in x, {pose.y_mm:+.2f} mm in y and "
        f"{pose.height_mm:+.2f} mm in height from its table, turned by {pose.rotation_deg:+.2f} "
        f"deg and tilted by {pose.tilt_deg:.2f} deg; directions depart from that by "
        f"{found.rms:.4f} (direction cosines)."
    )
    for row in listed:
        more = f": its light comes from the place of {row['like']}" if "like" in row else ""
        more = f": {100 * row['light']:.0f} % of its light is left" if "light" in row else more
        print_message(f"{row['name']} (LED {row['led']}) is {row['kind']}{more}.")
    for note in notes:
        print_message(note)
    return {
        "objective": described.low_power,
        "x_mm": pose.x_mm,
        "y_mm": pose.y_mm,
        "height_mm": pose.height_mm,
        "rotation_deg": pose.rotation_deg,
        "tilt_deg": pose.tilt_deg,
        "rms": found.rms,
        "errors": {
            name: getattr(error, name) for name in ("x_mm", "y_mm", "height_mm", "rotation_deg")
        },
        "problems": listed,
        "unclear": [leds[int(led)].name for led in found.unclear],
        "notes": notes,
        "file": path,
        "page": page,
    }
