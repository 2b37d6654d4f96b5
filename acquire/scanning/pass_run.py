"""A pass from start to verdict: order, lock, journal, and renaming an earlier pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from plsctl.acquire.bench.handling import let_handle_slide, make_ready
from plsctl.acquire.capture.light import NO_LIGHT, LightCourse
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.errors import PlsctlError, UserError
from plsctl.acquire.files.whole_files import locked, rename
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.roles import DriftReport, FocusMeasure, Operator, Roles, ShiftFinder
from plsctl.acquire.scanning.engine import Engine, PassTotals
from plsctl.acquire.scanning.pass_steps import PassSteps
from plsctl.acquire.scanning.scan import Progress, Scan, silent
from plsctl.acquire.scanning.self_check import NO_DRIFT, SelfCheck, noted_drifts
from plsctl.acquire.scanning.settings_check import check_settings
from plsctl.acquire.scanning.verdict import Verdict, judge_pass, pass_light
from plsctl.acquire.store.journal import Journal, since_begun
from plsctl.acquire.store.records import PassName


@dataclass(frozen=True)
class PassResult:
    """The result of a pass."""

    pass_name: PassName
    totals: PassTotals
    verdict: Verdict | None
    light: LightCourse = NO_LIGHT
    """The light over the whole pass, earlier runs included."""
    drift: DriftReport = NO_DRIFT
    """What of the instrument is not as the pass believes, earlier runs included."""


def run_pass(
    scan: Scan,
    name: PassName,
    roles: Callable[[Operator | None], Roles],
    stop: StopRequest | None = None,
    *,
    force: bool = False,
    fresh: bool = False,
    progress: Progress = silent,
    watch: Callable[[Engine], None] | None = None,
) -> PassResult:
    """Take a pass, or what is missing of it.

    Parameters
    ----------
    roles
        Makes the image analysis and the operator; gets the backend's own operator, if it has one
        (`plsctl.process.scan_roles`).
    stop
        Stops or pauses the pass from another thread.
    force
        Take the pass although a check advises against it.
    fresh
        Put an earlier attempt at this pass aside (it is renamed, not deleted) and begin anew.
    watch
        Called with the engine before it starts, to connect viewers to its signals.

    Raises
    ------
    UserError
        The pass cannot be taken now, or a setting is wrong; nothing was written over.
    HardwareError
        A device failed; the positions finished so far are kept.
    InterruptedScan
        A stop was asked for; the positions finished so far are kept.
    """
    scan.check_order(name, force)
    resumed = scan.is_begun(name) and not fresh
    if resumed and scan.is_finished(name):
        raise UserError(
            f"the pass '{name}' is finished.",
            file=scan.folder.path,
            hint="Take it again with --fresh, or check it with --verify.",
        )
    # A setting that does not fit is found before anything is written.
    check_settings(scan)
    made = scan.prepare_folder()
    try:
        with locked(scan.folder.path):
            return _run_locked(
                scan, name, roles, stop or StopRequest(), force, fresh, resumed, progress, watch
            )
    except BaseException:
        if made:
            scan.forget_folder()
        raise


def _run_locked(
    scan: Scan,
    name: PassName,
    roles: Callable[[Operator | None], Roles],
    stop: StopRequest,
    force: bool,
    fresh: bool,
    resumed: bool,
    progress: Progress,
    watch: Callable[[Engine], None] | None,
) -> PassResult:
    journal = Journal(scan.folder.journal)
    watching = contextlib.ExitStack()
    try:
        progress("starting the devices", 0, 0)
        with open_microscope(scan.hardware) as microscope:
            people = roles(microscope.operator)
            make_ready(microscope, people.operator, stop)
            let_handle_slide(microscope, people.operator, stop, name, resumed)
            if fresh:
                _put_aside(scan, name, journal)
            journal.append(
                "pass_resumed" if resumed else "pass_started",
                pass_name=name,
                settings_hash=scan.hash,
                version=version("plsctl"),
                calibrations=[
                    [each.title, each.measured.isoformat()] for each in scan.hardware.calibrations
                ],
            )
            # What was measured before is read back from the file, up to this beginning.
            journal.sync()
            if name == "highres" and not scan.folder.cells.exists():
                progress("finding white cells", 0, 0)
                with stop.at_once():
                    people.cells.find(scan.folder.path)
            monitor = people.monitor if scan.hardware.checks.drift else None
            check = SelfCheck(monitor, journal, scan.folder, name)
            watching.enter_context(check)
            run = PassSteps(scan, name, microscope, people, journal, stop, force, progress, check)
            totals = run.take(watch)
            # The next one at the slide is a person. However else a pass ends, closing the
            # microscope draws the lens back.
            microscope.to_loading()
            if name == "stained" and totals.positions:
                # Cells that were sought in a part of the pass are not all of them.
                _rename_aside(scan.folder.cells)
        progress("checking the instrument", 0, 0)
        drift, late = check.finish()
        for each in late:
            run.tell(each)
        journal.append("pass_finished", pass_name=name, **asdict(totals))
        reader = scan.folder.open_pass(name)
        light = pass_light(reader, reader.names)
        journal.append("light", pass_name=name, change=round(light.change, 4))
        verdict = (
            judge_unstained(scan, people.focus, people.shifts, journal, progress)
            if name == "unstained"
            else None
        )
        journal.close()
        return PassResult(name, totals, verdict, light, drift)
    except BaseException as error:
        # Why it stopped is what the user must hear of, not that the disk takes no note of it.
        with contextlib.suppress(PlsctlError):
            journal.append("pass_stopped", pass_name=name, reason=str(error) or repr(error))
        with contextlib.suppress(PlsctlError):
            journal.close()
        raise
    finally:
        watching.close()


def judge_unstained(
    scan: Scan,
    measure: FocusMeasure,
    shifts: ShiftFinder,
    journal: Journal | None,
    progress: Progress = silent,
) -> Verdict:
    """Whether the slide may be stained; the verdict is written into the journal, if there is one.

    Raises
    ------
    UserError
        The images cannot be read now; the journal says nothing of that.
    """
    reader = scan.folder.open_pass("unstained")
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress("checking what was written", done, len(reader.names))

    progress("checking what was written", 0, len(reader.names))
    planned = len(scan.planner.plan("unstained").positions)
    if journal is not None:
        journal.sync()
    drift = noted_drifts(scan.folder.journal, "unstained")
    verdict = judge_pass(
        reader, measure, shifts, planned, tick, _unchecked(scan), scan.hardware.checks, drift
    )
    if journal is not None:
        journal.append(
            "verdict",
            safe_to_stain=verdict.safe,
            problems=list(verdict.problems),
            unchecked=list(verdict.unchecked),
            light_change=round(verdict.light.change, 4),
            drifts=[f"{drift.kind} {drift.led}".strip() for drift in verdict.drift.drifts],
        )
        journal.sync()
    return verdict


def _unchecked(scan: Scan) -> str | None:
    """Why the camera's orientation was not checked in the unstained pass; None if it was."""
    # Once the slide has been stained and found again, it no longer matters.
    if scan.is_begun("stained"):
        return None
    reason: str | None = "the scan was taken before it was looked at"
    for event in since_begun(scan.folder.journal, "unstained"):
        if event["event"] == "camera_checked":
            return None
        if event["event"] == "camera_not_checked":
            reason = str(event["reason"])
    return reason


def _put_aside(scan: Scan, name: PassName, journal: Journal) -> None:
    """Rename a pass and what rests on it; the pass itself last, so that a crash hides nothing."""
    folder = scan.folder
    paths = [folder.drift_page(name), folder.pass_path(name)]
    if name != "highres":
        paths = [folder.transform, folder.cells, *paths]
    if name == "unstained":
        # Slide coordinates are those of the unstained pass: the others no longer fit.
        paths = [folder.pass_path("highres"), folder.pass_path("stained"), *paths]
    kept = [aside.name for path in paths if (aside := _rename_aside(path)) is not None]
    journal.append("pass_put_aside", pass_name=name, kept_as=kept)


def _rename_aside(path: Path) -> Path | None:
    """Add `.old1`, or the next free number, to a name; None when there is no such file."""
    if not path.exists():
        return None
    count = 1
    while (aside := path.with_name(f"{path.name}.old{count}")).exists():
        count += 1
    try:
        rename(path, aside)
    except OSError as error:
        raise UserError(
            f"it cannot be put aside ({error.strerror}).",
            file=path,
            hint="Close every program that has it open, then run the same command again.",
        ) from None
    return aside
