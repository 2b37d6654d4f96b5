"""`plsctl scan`: take a pass of a slide, resume it, forecast it, or verify what was written."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import command_line, counted, duration
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, print_message, progress

if TYPE_CHECKING:
    from plsctl.acquire.roles import Drift, DriftReport
    from plsctl.acquire.scanning.engine import Engine
    from plsctl.acquire.scanning.pass_run import PassResult
    from plsctl.acquire.scanning.scan import Progress, Scan
    from plsctl.acquire.scanning.verdict import Verdict
    from plsctl.acquire.store.records import PassName


SCANS = Path("scans")


def scan(
    slide_file: Annotated[
        Path, typer.Argument(metavar="SLIDE.yaml", help="The slide file, or the scan's folder.")
    ],
    pass_name: Annotated[
        str | None,
        typer.Option(
            "--pass",
            help="unstained, stained or highres; without it: go on, or advise.",
            autocompletion=completion.PASSES,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Scans are written to OUT/SLIDE.")] = SCANS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done: positions, time, disk.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Put an earlier attempt at this pass aside first.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although a check advises against it.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask whether the slide is ready.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything that was written and check it.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Scan a slide, one pass at a time; stopped anywhere, the same command goes on.

    Example: plsctl scan examples/small.yaml --pass unstained
    """
    from plsctl.acquire.scanning.scan import open_scan

    opened = open_scan(slide_file, out)
    named = [slide_file] if out == SCANS else [slide_file, "--out", out]
    _print_damage(opened)
    if verify:
        _verify(opened, json)
        return
    name = _choose_pass(opened, pass_name, dry_run)
    if name is None:
        _advise(opened, named, json)
    elif dry_run:
        _forecast(opened, name, json)
    else:
        _take(opened, name, named, fresh=fresh, force=force, yes=yes, as_json=json)


def _print_damage(opened: "Scan") -> None:
    """What of the journal cannot be read any more; the rest of it holds."""
    from plsctl.acquire.store.journal import damaged_lines

    journal = opened.folder.journal
    for number in damaged_lines(journal):
        print_message(
            f"{journal}, line {number} is damaged and is left out; what it said is measured again "
            "where a pass goes on, and else is lost."
        )


def _choose_pass(opened: "Scan", name: str | None, dry_run: bool) -> "PassName | None":
    from plsctl.acquire.files.settings import suggest
    from plsctl.acquire.store.records import PASSES

    for known in PASSES:
        if name == known:
            return known
    if name is not None:
        raise UserError(f"there is no pass '{name}'.", hint=suggest(name, PASSES))
    return opened.open_pass_name() or (opened.next_pass_name() if dry_run else None)


def _advise(opened: "Scan", named: list[Any], as_json: bool) -> None:
    following = opened.next_pass_name()
    text = _what_next(opened, named)
    if following is None:
        text = f"All passes of slide {opened.slide.slide} are finished. {text}"
    elif following == "stained":
        answer = {True: "yes", False: "no", None: "not judged yet"}
        text = f"Safe to stain: {answer[opened.safe_to_stain()]}. {text}"
    emit({"pass": None, "next": following, "safe_to_stain": opened.safe_to_stain()}, as_json)
    print_message(text)


def _what_next(opened: "Scan", named: list[Any]) -> str:
    """What to do with the slide now, and the command after it."""
    from plsctl.cli.shared.roles import REQUESTS

    following = opened.next_pass_name()
    if following is None:
        folder = opened.folder.path
        return f"Next: {command_line('build-dataset', folder, '-o', f'{folder.name}.zarr')}"
    if following == "stained" and not opened.safe_to_stain():
        judged = opened.safe_to_stain() is not None
        again = ["--pass", "unstained", "--fresh"] if judged else ["--verify"]
        return f"Do not stain it. Next: {command_line('scan', *named, *again)}"
    # What has to be done at the microscope stands before the command, for it cannot be undone.
    request = "" if following == "unstained" else f"{REQUESTS[following]} "
    return f"{request}Next: {command_line('scan', *named, '--pass', following)}"


def _forecast(opened: "Scan", name: "PassName", as_json: bool) -> None:
    from plsctl.acquire.plans.plan import forecast
    from plsctl.acquire.scanning.settings_check import check_room, check_settings
    from plsctl.acquire.scanning.writing_rate import (
        likely_image,
        measure_writing_rate,
        writing_warning,
    )

    check_settings(opened)
    plan = opened.planner.plan(name)
    check_room(opened, len(plan.positions) * len(plan.frames))
    camera = opened.hardware.camera
    width, height = camera.size_px
    shape = (height, width, 1 if camera.bayer else 3)
    cost = forecast(plan, opened.hardware, shape, 1 if camera.bit_depth == 8 else 2)
    rate = measure_writing_rate(opened.folder.path, likely_image(camera), cost)
    result: dict[str, Any] = {
        "pass": name,
        "positions": cost.positions,
        "frames": cost.frames,
        "retaken": 0,
        "seconds": cost.seconds,
        "light_seconds": cost.light_seconds,
        "travel_seconds": cost.travel_seconds,
        "efficiency": cost.efficiency,
        "bytes": cost.bytes,
        "written_per_second": round(rate, 1),
        "calibrations": _calibrations(opened),
    }
    emit(result, as_json)
    print_message(
        f"Pass {name}: {counted(cost.positions, 'position')} x "
        f"{counted(len(plan.frames), 'image')} with "
        f"{plan.objective}, about {duration(cost.seconds)} at the microscope "
        f"({100 * cost.efficiency:.0f} % of it light), {cost.bytes / 1e9:.2f} GB uncompressed."
    )
    _print_calibrations(opened)
    _print_directions(opened, name)
    if warning := writing_warning(cost, rate):
        print_message(f"{warning}.")


def _calibrations(opened: "Scan") -> list[dict[str, Any]]:
    return [
        {"kind": each.kind, "objective": each.objective, "measured": each.measured.isoformat()}
        for each in opened.hardware.calibrations
    ]


def _print_calibrations(opened: "Scan") -> None:
    from plsctl.acquire.devices.calibrations import in_use

    used = in_use(opened.hardware)
    print_message(f"Calibrations: {', '.join(used) or 'none, so the hardware file counts'}.")


def _print_directions(opened: "Scan", name: "PassName") -> None:
    """What is lost of a recipe's directions on this array."""
    from plsctl.acquire.plans.transfer import transfers

    if name != "unstained":
        return
    for found in transfers(opened.slide.load_recipe(), opened.hardware.geometry()):
        if not found.is_whole:
            print_message(str(found))


def _print_pause(paused: bool) -> None:
    print_message("Paused, all LEDs dark; p goes on." if paused else "Going on.")


def _take(
    opened: "Scan",
    name: "PassName",
    named: list[Any],
    *,
    fresh: bool,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from contextlib import ExitStack

    from plsctl.acquire.interrupt import stop_on_signals
    from plsctl.acquire.scanning.pass_run import run_pass
    from plsctl.cli.shared.keys import HELP, listening
    from plsctl.cli.shared.roles import make_roles

    print_message(f"Pass {name} of slide {opened.slide.slide}, into {opened.folder.path}.")
    _print_calibrations(opened)
    _print_directions(opened, name)
    with (
        stop_on_signals() as stop,
        progress("reading the settings") as advance,
        ExitStack() as keys,
    ):

        def watch(engine: "Engine") -> None:
            print_message(f"{engine.totals.timing[0].upper()}{engine.totals.timing[1:]}.")
            if engine.totals.writing:
                print_message(f"{engine.totals.writing}.")
            if keys.enter_context(listening(stop)):
                print_message(HELP)
            engine.paused.connect(_print_pause)
            engine.drift_found.connect(_print_one_drift)

        result = run_pass(
            opened,
            name,
            lambda operator: make_roles(operator, yes, advance.paused),
            stop,
            force=force,
            fresh=fresh,
            progress=advance.steps,
            watch=watch,
        )
    totals, verdict = result.totals, result.verdict
    efficiency = totals.light_seconds / totals.seconds if totals.seconds else 0.0
    emit(
        {
            "pass": name,
            "positions": totals.positions,
            "frames": totals.frames,
            "retaken": totals.retaken,
            "timing": totals.timing,
            "seconds": totals.seconds,
            "stack_seconds": totals.stack_seconds,
            "light_seconds": totals.light_seconds,
            "travel_seconds": totals.travel_seconds,
            "efficiency": efficiency,
            "bytes": totals.bytes,
            "folder": opened.folder.path,
            "safe_to_stain": None if verdict is None else verdict.safe,
            "problems": [] if verdict is None else list(verdict.problems),
            "unchecked": [] if verdict is None else list(verdict.unchecked),
            "light_change": result.light.change,
            "light_steps": totals.light_steps,
            "calibrations": _calibrations(opened),
            "drift": _drift(result.drift),
        },
        as_json,
    )
    print_message(
        f"Pass {name}: {counted(totals.positions, 'position')}, "
        f"{counted(totals.frames, 'image')}, {duration(totals.seconds)} at the microscope "
        f"({100 * efficiency:.0f} % of it light)."
    )
    _print_light(result)
    if verdict is not None:
        _print_verdict(verdict)
        _print_calibrations(opened)
    _print_drift(result.drift)
    print_message(_what_next(opened, named))


def _print_light(result: "PassResult") -> None:
    from plsctl.acquire.capture.light import MOST_CHANGE, WORTH_SAYING

    if steps := result.totals.light_steps:
        print_message(
            f"The light changed at once, or seemed to, at {counted(steps, 'position')}: all frames "
            "there were taken again."
        )
    change = result.light.change
    if change <= WORTH_SAYING:
        return
    text = f"{result.light.in_words[0].upper()}{result.light.in_words[1:]}."
    if change > MOST_CHANGE:
        text += f" That is more than {100 * MOST_CHANGE:.0f} %: take the pass anew with --fresh."
    print_message(text)


def _print_verdict(verdict: "Verdict") -> None:
    print_message(f"Safe to stain: {verdict.in_words}.")
    for problem in verdict.problems:
        print_message(f"  {problem}")


def _drift(report: "DriftReport") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "found": [asdict(drift) for drift in report.drifts],
        "checked": list(report.checked),
        "unchecked": list(report.unchecked),
        "values": dict(report.values),
        "page": report.page or None,
    }


def _print_one_drift(drift: "Drift") -> None:
    """What has drifted, while the pass goes on."""
    print_message(f"Position {drift.position}: {drift.text} {drift.remedy}")


def _print_drift(report: "DriftReport") -> None:
    """What of the instrument has drifted over a pass, and what was not compared."""
    if report.drifts:
        found = [f"{d.kind} {d.led}".strip() + f" (position {d.position})" for d in report.drifts]
        print_message(f"Drifted: {', '.join(found)}; {report.page} shows it.")
    elif report.checked:
        print_message(f"Nothing has drifted: {'; '.join(report.checked)}.")
    if report.unchecked:
        print_message(f"Not compared: {'; '.join(report.unchecked)}.")


def _verify(opened: "Scan", as_json: bool) -> None:
    from plsctl.acquire.store.journal import damaged_lines

    with progress("verifying") as advance:
        # To judge is to verify, and more.
        found = (
            {"unstained": _verify_unstained(opened, advance.steps)}
            if opened.is_finished("unstained")
            else {}
        )
        found |= opened.verify(advance.steps, without=found)
    problems = [text for texts in found.values() for text in texts]
    emit(
        {
            "verified": list(found),
            "problems": problems,
            "damaged_journal_lines": damaged_lines(opened.folder.journal),
        },
        as_json and not problems,
    )
    for name, texts in found.items():
        print_message(
            f"{name}: {'as it was taken' if not texts else counted(len(texts), 'problem')}"
        )
        for text in texts:
            print_message(f"  {text}")
    if problems:
        raise UserError(
            f"{counted(len(problems), 'problem')} found: {problems[0]}",
            file=opened.folder.path,
            hint="Take the pass again with --fresh while the slide still allows it.",
        )


def _verify_unstained(opened: "Scan", show: "Progress") -> list[str]:
    from plsctl.acquire.files.whole_files import locked
    from plsctl.acquire.scanning.pass_run import judge_unstained
    from plsctl.acquire.store.journal import Journal
    from plsctl.process.focus.sharpness import GradientFocusMeasure
    from plsctl.process.matching.shifts import EdgeShiftFinder

    if not os.access(opened.folder.path, os.W_OK):
        print_message("The folder can only be read: the verdict is not written down.")
        verdict = judge_unstained(opened, GradientFocusMeasure(), EdgeShiftFinder(), None, show)
        _print_drift(verdict.drift)
        return list(verdict.problems)
    with locked(opened.folder.path):
        journal = Journal(opened.folder.journal)
        try:
            verdict = judge_unstained(
                opened, GradientFocusMeasure(), EdgeShiftFinder(), journal, show
            )
            _print_drift(verdict.drift)
            return list(verdict.problems)
        finally:
            journal.close()
