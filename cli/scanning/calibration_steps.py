"""The steps of calibration: each measures, writes its results and says what it found."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import command_line, counted
from plsctl.cli.scanning.calibrate_leds import leds_step
from plsctl.cli.scanning.calibration_bench import (
    calibrated_so_far,
    failure_page,
    keep,
    opened_bench,
    page_path,
)
from plsctl.cli.shared.output import print_message

if TYPE_CHECKING:
    from plsctl.acquire.devices.hardware import Hardware

RECENT_H = 24.0
"""What was measured within so many hours is not measured again by `calibrate all`."""

LONGEST_MS = 500.0


def exposures_step(
    hardware: str,
    objective: str | None,
    at_um: tuple[float, float],
    yes: bool,
    out: Path,
    recipe: str | None,
    longest_ms: float,
) -> dict[str, Any]:
    """Write the exposure table of a recipe, or of bright field alone; keep the light of LEDs."""
    from plsctl.acquire.bench.exposures import measure_exposures
    from plsctl.acquire.bench.led_light import kept_light
    from plsctl.acquire.bench.rough_scale import check_objective
    from plsctl.acquire.devices.calibrations import has_folder
    from plsctl.acquire.plans.exposures import save_exposures
    from plsctl.acquire.plans.recipe_frames import BRIGHTFIELD
    from plsctl.acquire.plans.recipes import load_recipe
    from plsctl.process.matching.shifts import EdgeShiftFinder

    described = calibrated_so_far(hardware)
    name = objective or described.low_power
    described.objective(name)
    bright_field_na = described.objective(described.low_power).na
    frames = load_recipe(recipe or BRIGHTFIELD).light(described.geometry(), bright_field_na)
    with (
        failure_page(described, f"exposures_{name}") as seen,
        opened_bench(described, seen, yes) as opened,
    ):
        opened.bench.microscope.set_objective(name)
        opened.bench.settle(*at_um)
        check_objective(opened.bench, EdgeShiftFinder())
        before = kept_light(described, name, opened.bench.microscope.answers)
        table, light = measure_exposures(opened.bench, frames, longest_ms)
    save_exposures(table, out)
    is_first = before is None or not before.lights
    dimmed = {} if before is None else light.dimmed_since(before)
    # Bright field alone takes nothing away from what is known of the LEDs.
    if has_folder(described) and (light.lights or is_first):
        keep(described, light)
    if is_first and light.lights:
        print_message(
            "Which LEDs have dimmed cannot be told: no light of them was kept before this."
        )
    for led, share in dimmed.items():
        print_message(f"{led} gives {100 * share:.0f} % of the light that it gave before.")
    print_message(f"{counted(len(table.rows), 'exposure')} written to {out}.")
    return {
        "table": out,
        "rows": [
            {"label": f.label, "exposure_ms": e.exposure_ms, "gain": e.gain}
            for f, e in table.rows.items()
        ],
        "dimmed": None if is_first else dimmed,
    }


def pixel_size_step(
    hardware: str, objective: str | None, at_um: tuple[float, float], yes: bool
) -> dict[str, Any]:
    """Measure and keep the pixel size of an objective."""
    from plsctl.acquire.bench.pixel_size import measure_pixel_size
    from plsctl.process.matching.shifts import EdgeShiftFinder
    from plsctl.process.report.calibration import write_pixel_size

    described = calibrated_so_far(hardware)
    name = objective or described.low_power
    described.objective(name)
    with (
        failure_page(described, f"pixel-size_{name}") as seen,
        opened_bench(described, seen, yes) as opened,
    ):
        opened.bench.microscope.set_objective(name)
        opened.bench.settle(*at_um)
        result = measure_pixel_size(opened.bench, EdgeShiftFinder())
    found = result.calibration
    path, page = keep(described, found), page_path(described, f"pixel-size_{name}")
    if page is not None:
        write_pixel_size(page, result)
    told = {
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
    }
    print_message(
        f"{name}: pixels of {found.pixel_um:.5f} ± {found.pixel_um_error:.5f} µm, "
        f"{'mirrored' if found.mirrored else 'not mirrored'}, turned by {found.rotation_deg:.3f} ± "
        f"{found.rotation_deg_error:.3f} deg; the stage has {found.backlash_um[0]:.2f} µm of play "
        f"in x and {found.backlash_um[1]:.2f} µm in y."
    )
    return told


def objectives_step(
    hardware: str,
    objective: str | None,
    reference: str | None,
    at_um: tuple[float, float],
    yes: bool,
) -> dict[str, Any]:
    """Compare two objectives and keep what was found."""
    from plsctl.acquire.bench.objectives import measure_objectives
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
    with (
        failure_page(described, f"objectives_{name}") as seen,
        opened_bench(described, seen, yes) as opened,
    ):
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
    told = {
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
    }
    x, y, z = found.offset_um
    print_message(
        f"{name} against {lower}: the stage must go {x:.2f} µm in x, {y:.2f} µm in y and {z:.1f} "
        f"µm in z; {found.scale:.4f} ± {found.scale_error:.4f} times as large, turned by "
        f"{found.rotation_deg:.3f} ± {found.rotation_deg_error:.3f} deg."
    )
    return told


def flat_field_step(
    hardware: str, objective: str | None, at_um: tuple[float, float], yes: bool
) -> dict[str, Any]:
    """Measure and keep the flat field of an objective."""
    from plsctl.acquire.bench.flat_field import measure_flat_field
    from plsctl.acquire.bench.rough_scale import check_objective
    from plsctl.process.matching.shifts import EdgeShiftFinder
    from plsctl.process.report.calibration import write_flat_field

    described = calibrated_so_far(hardware)
    name = objective or described.low_power
    described.objective(name)
    with (
        failure_page(described, f"flatfield_{name}") as seen,
        opened_bench(described, seen, yes) as opened,
    ):
        opened.bench.microscope.set_objective(name)
        opened.bench.settle(*at_um, glass_will_do=True)
        check_objective(opened.bench, EdgeShiftFinder())
        result = measure_flat_field(opened.bench)
    found = result.calibration
    path, page = keep(described, found), page_path(described, f"flatfield_{name}")
    if page is not None:
        write_flat_field(page, result)
    told = {
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
    }
    print_message(
        f"{name}: the darkest part of bright field lacks {100 * found.vignette:.1f} % of the "
        f"light; {counted(len(found.dust), 'speck')} of dust, "
        f"{counted(len(found.dead_px), 'dead pixel')}, {counted(len(found.hot_px), 'hot pixel')}."
    )
    return told


def all_steps(
    hardware: str, at_um: tuple[float, float], yes: bool, fresh: bool
) -> list[dict[str, Any]]:
    """Every calibration in the order in which each rests on those before it.

    What was measured within a day is left as it is, so that a run that was stopped goes on.
    """
    from plsctl.acquire.devices.calibrations import has_folder

    described = calibrated_so_far(hardware)
    if not has_folder(described):
        raise UserError(
            f"calibrations cannot be kept beside {described.file.stem}, which comes with plsctl.",
            field="--hardware",
            hint="Make a file of your own: "
            + command_line("init", "DIR", "--hardware", described.file.stem, "--own")
            + ".",
        )
    low, high = described.low_power, described.high_power
    wanted = [("exposures", low), ("pixel-size", low), ("leds", low), ("flatfield", low)]
    if high != low:
        wanted += [("objectives", high), ("exposures", high)]
    results = []
    for number, (kind, objective) in enumerate(wanted, 1):
        title = f"{kind} of {objective}"
        known = None if fresh else _recent(calibrated_so_far(hardware), kind, objective)
        if known is not None:
            print_message(f"{number} of {len(wanted)}: {title}: {known}, kept.")
            results.append({"step": kind, "objective": objective, "kept": True})
            continue
        print_message(f"{number} of {len(wanted)}: {title}.")
        found = _take(described, hardware, kind, objective, at_um, yes)
        results.append({"step": kind, "objective": objective, "kept": False} | found)
    return results


def _take(
    described: "Hardware",
    hardware: str,
    kind: str,
    objective: str,
    at_um: tuple[float, float],
    yes: bool,
) -> dict[str, Any]:
    if kind == "pixel-size":
        return pixel_size_step(hardware, objective, at_um, yes)
    if kind == "leds":
        return leds_step(hardware, at_um, LONGEST_MS, yes)
    if kind == "flatfield":
        return flat_field_step(hardware, objective, at_um, yes)
    if kind == "objectives":
        return objectives_step(hardware, objective, None, at_um, yes)
    table = _table(described, objective)
    before = table.with_name(f"{table.name}.before")
    if table.exists():
        shutil.copyfile(table, before)
        print_message(f"The table of before is kept as {before}.")
    recipe = "full" if objective == described.low_power else None
    return exposures_step(hardware, objective, at_um, yes, table, recipe, LONGEST_MS)


def _table(described: "Hardware", objective: str) -> Path:
    return described.file.with_name(f"exposures_{objective}.csv")


def _recent(described: "Hardware", kind: str, objective: str) -> str | None:
    """How old a calibration is that need not be measured again."""
    from plsctl.acquire.devices.calibrations import age

    table = _table(described, objective)
    if kind == "exposures" and not table.is_file():
        return None
    for each in described.calibrations:
        recent = _hours_since(each.measured) < RECENT_H
        if (each.kind, each.objective) == (kind, objective) and recent:
            return age(each)
    return None


def _hours_since(time: datetime) -> float:
    return (datetime.now(UTC) - time).total_seconds() / 3600
