"""`plsctl calibrate leds`: where the LEDs are, and which of them are at fault."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.cli.shared.output import (
    HardwareOption,
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    progress,
)

if TYPE_CHECKING:
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
    from plsctl.acquire.bench.bright_field import Seen
    from plsctl.acquire.bench.led_frames import take_led_frames
    from plsctl.acquire.bench.rough_scale import check_objective
    from plsctl.cli.scanning.calibration_bench import (
        calibrated_so_far,
        failure_page,
        keep,
        opened_bench,
        page_path,
    )
    from plsctl.process.calibration.failures import CalibrationError
    from plsctl.process.calibration.led_array import estimate_array
    from plsctl.process.calibration.views import LedViews
    from plsctl.process.matching.shifts import EdgeShiftFinder
    from plsctl.process.report.led_calibration import write_led_calibration

    described = calibrated_so_far(hardware)
    objective = described.low_power
    title = f"leds_{objective}"
    with failure_page(described, title) as seen:
        with opened_bench(described, seen, yes) as opened:
            opened.bench.microscope.set_objective(objective)
            opened.bench.settle(*at_um)
            check_objective(opened.bench, EdgeShiftFinder())
            frames = take_led_frames(opened.bench, longest_ms)
        optics = _optics(described)
        views = LedViews(frames.images, frames.light, frames.black_level)
        try:
            with progress("looking at the images") as advance:
                found = estimate_array(
                    [views], optics, progress=lambda what: advance(description=what)
                )
        except CalibrationError as error:
            name = described.geometry().leds[error.led].name
            seen.append(Seen(f"under {name}", frames.images[error.led]))
            raise
    dim, notes = _dim(described, optics, found, frames)
    problems = sorted([*found.problems, *dim], key=lambda problem: problem.led)
    path = keep(described, _directions(described, found, problems, frames.answers))
    page = page_path(described, title)
    if page is not None:
        write_led_calibration(page, f"LED array under {objective}", optics, found, problems, notes)
    return _report(described, found, problems, notes, path, page)


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


def _dim(
    described: "Hardware", optics: "ArrayOptics", found: "ArrayEstimate", frames: "LedFrames"
) -> "tuple[list[LedProblem], list[str]]":
    """LEDs below the light that was kept, and what cannot be said."""
    import numpy as np

    from plsctl.acquire.bench.led_light import kept_light
    from plsctl.acquire.devices.calibration_kinds import DIMMED
    from plsctl.process.calibration.brightness import light_left
    from plsctl.process.calibration.led_array import LedProblem

    kept = kept_light(described, described.low_power, frames.answers)
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
        LedProblem(int(led), "dim", light=float(left[led])) for led in np.flatnonzero(left < DIMMED)
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
