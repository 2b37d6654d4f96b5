"""What a scan does when things fail: `python benchmarks/acquire/faults.py --out faults.md`.

Every fault of the simulated microscope in both kinds of timing, signals, a full disk, and SIGKILL
at random instants of one scan, each as a run of the real command line, each resumed with sound
hardware and compared with an undisturbed scan. The exit code is 1 where any run lost a finished
frame, kept a wrong one, left an LED lit, ended in a trace or said no remedy. `--quick` takes four
rows and kills a smaller scan twice, `--only TEXT` takes the rows whose name contains it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from helpers.fault_kills import kill_again_and_again, kill_beside_an_array
from helpers.faulty_scans import Command, Frames, Microscope, Run, scan

from plsctl.acquire.leds.geometry import standard_array

SOFTWARE, HARDWARE = "software", "hardware"
UNTAGGED = {"camera": {"frame_number_tag": None, "timestamp_tag": None}}
GROUPED = {"options": {"camera": {"exposure_sequence": 0}}}
AT_100X = {
    "passes": {"unstained": {"objective": "100x"}},
    "region": {"x_um": [10000, 10029], "y_um": [5000, 5021], "overlap": 0.0},
    "recipe": "brightfield",
    "exposures": "shipped:exposures_100x.csv",
}
BRIGHT_LEDS = tuple(
    [f"plate-{k}" for k in (1, 2, 3)] + [f"arm{k}-{a}" for k in range(1, 6) for a in (10, 18)]
)
DARK_LEDS = tuple(f"arm{k}-{a}" for k in range(1, 6) for a in (24, 30, 36))

# Occasions from which a fault may begin: in the scan, and early enough to happen.
EXPOSURES = {SOFTWARE: (3, 110), HARDWARE: (3, 120)}
BURSTS = {SOFTWARE: (20, 120), HARDWARE: (30, 62)}
MOVES = {SOFTWARE: (2, 10), HARDWARE: (2, 10)}
SETTINGS = {SOFTWARE: (6, 200), HARDWARE: (5, 11)}
FIRST = {SOFTWARE: (0, 1), HARDWARE: (0, 1)}

Range = dict[str, tuple[int, int]]
Disturb = Callable[[Microscope, Command, np.random.Generator], None]


@dataclass(frozen=True)
class Case:
    """One row of the matrix."""

    name: str
    kind: str = ""
    at: Range = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    leds: tuple[str, ...] = ()
    """One of these is dark."""
    timings: tuple[str, ...] = (SOFTWARE, HARDWARE)
    hardware: dict[str, Any] = field(default_factory=dict)
    slide: dict[str, Any] = field(default_factory=dict)
    disturb: Disturb | None = None
    small_disk: bool = False
    cable_is_gone: bool = False
    """LEDs cannot be reached any more; the message must say that they may shine."""

    def faults(self, timing: str, rng: np.random.Generator) -> list[dict[str, Any]]:
        """The `faults` of the hardware file."""
        if not self.kind:
            return []
        fault = {"kind": self.kind, **self.more}
        if self.leds:
            fault["led"] = standard_array().named(str(rng.choice(self.leds))).led
        if self.at:
            fault["at"] = int(rng.integers(*self.at[timing]))
        return [fault]


def sends(number: signal.Signals) -> Disturb:
    """Send a signal somewhere in the scan."""

    def disturb(microscope: Microscope, process: Command, rng: np.random.Generator) -> None:
        await_changes(microscope, process, int(rng.integers(8, 100)))
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(number)

    return disturb


def fills_disk(microscope: Microscope, process: Command, rng: np.random.Generator) -> None:
    """Something else takes all room on the scan's disk."""
    await_changes(microscope, process, int(rng.integers(8, 60)))
    free = shutil.disk_usage(microscope.out).free
    # The scan may have taken the last room itself meanwhile.
    with suppress(OSError):
        (microscope.out / "ballast").write_bytes(bytes(max(0, free - 100_000)))


def await_changes(microscope: Microscope, process: Command, count: int) -> None:
    """Wait until the array has changed its light so often."""
    while not process.is_over() and microscope.change_count() < count:
        time.sleep(0.002)


CASES = (
    Case("line silent for 2 s", "serial_silent", BURSTS, {"seconds": 2.0}),
    Case("line silent for 60 s", "serial_silent", BURSTS, {"seconds": 60.0}, cable_is_gone=True),
    Case("cable out for 2 s", "serial_unplugged", BURSTS, {"seconds": 2.0}),
    Case("cable out for good", "serial_unplugged", BURSTS, {"seconds": 1e9}, cable_is_gone=True),
    Case("garbage instead of a reply", "serial_garbage", BURSTS),
    Case("garbage, three times running", "serial_garbage", BURSTS, {"times": 3}),
    Case("command lost", "serial_lost_command", BURSTS),
    Case("reply lost", "serial_lost_reply", BURSTS),
    Case("half a reply", "serial_half_reply", BURSTS),
    Case("dark LED, bright field", "dark_led", leds=BRIGHT_LEDS),
    Case("dark LED, dark field", "dark_led", leds=DARK_LEDS),
    Case("one frame dark", "dark_frame", EXPOSURES),
    Case("all frames dark from one on", "dark_frame", EXPOSURES, {"times": 10_000}),
    Case("camera time-out, once", "camera_timeout", EXPOSURES),
    Case("camera time-out, for good", "camera_timeout", EXPOSURES, {"times": 10_000}),
    Case("camera reports an error, once", "camera_error", EXPOSURES, timings=(SOFTWARE,)),
    Case("frame dropped", "dropped_frame", EXPOSURES),
    Case("frames dropped for good", "dropped_frame", EXPOSURES, {"times": 10_000}),
    Case("frame repeated", "repeated_frame", EXPOSURES),
    Case("frames in another order", "reordered_frames", EXPOSURES, timings=(HARDWARE,)),
    Case("images exchanged, tags not", "swapped_frames", EXPOSURES, timings=(HARDWARE,)),
    Case("trigger missed", "missed_trigger", EXPOSURES, timings=(HARDWARE,)),
    Case("trigger too many", "extra_trigger", EXPOSURES, timings=(HARDWARE,)),
    *(
        Case(f"{what}, {how}", kind, EXPOSURES, timings=(HARDWARE,), hardware=changes)
        for how, changes in (("no tags", UNTAGGED), ("no tags, grouped", UNTAGGED | GROUPED))
        for what, kind in (
            ("frame dropped", "dropped_frame"),
            ("trigger missed", "missed_trigger"),
            ("trigger too many", "extra_trigger"),
        )
    ),
    Case("property not taken, once", "setting_fails", SETTINGS),
    Case("property not taken, for good", "setting_fails", SETTINGS, {"times": 10_000}),
    Case("stage stalls, once", "stage_stalls", MOVES),
    Case("stage stalls, for good", "stage_stalls", MOVES, {"times": 10_000}),
    Case("stage overshoots, once", "stage_overshoots", MOVES),
    Case("stage overshoots, for good", "stage_overshoots", MOVES, {"times": 10_000}),
    Case("stage reports an error", "stage_error", MOVES),
    Case("focus drive stalls, once", "z_stalls", FIRST),
    Case("focus drive stalls, for good", "z_stalls", FIRST, {"times": 10_000}),
    Case("turret sticks", "turret_sticks", FIRST, {"times": 9}, timings=(SOFTWARE,), slide=AT_100X),
    Case("disk full", disturb=fills_disk, small_disk=True),
    Case("SIGINT", disturb=sends(signal.SIGINT)),
    Case("SIGTERM", disturb=sends(signal.SIGTERM)),
    Case("SIGHUP", disturb=sends(signal.SIGHUP)),
)

QUICK = ("reply lost", "dark LED, dark field", "frame dropped", "SIGTERM")
"""A fault of the line, of the light, of the camera, and a signal."""


@dataclass(frozen=True)
class Row:
    """What became of one case with one seed."""

    code: int | None
    rejected: int
    finished: int
    """Positions finished when the command ended."""
    same: int
    again: int
    wrong: tuple[str, ...]
    lit: int
    said: str
    broken: tuple[str, ...]
    """What must not happen and did."""


def microscope_of(case: Case, timing: str, folder: Path) -> Microscope:
    """The simulated microscope for a case."""
    # At 100x the field is too small to tell whether the slide is stained.
    words = ("--force",) if case.slide is AT_100X else ()
    return Microscope(folder, timing, hardware=case.hardware, slide=case.slide, words=words)


def run_case(case: Case, timing: str, seed: int, work: Path, undisturbed: Frames) -> Row:
    """Run a case, resume it with sound hardware, and look at what is left."""
    rng = np.random.default_rng((seed, crc32(case.name.encode()), timing == HARDWARE))
    name = f"{case.name.replace(' ', '-').replace(',', '')}-{timing}-{seed}"
    microscope = microscope_of(case, timing, work / name)
    shutil.rmtree(microscope.folder, ignore_errors=True)
    faulty = microscope.write("faulty", case.faults(timing, rng))
    with disk_of(microscope, case.small_disk):
        run = scan(
            faulty,
            microscope.out,
            *microscope.words,
            meanwhile=case.disturb and (lambda process: case.disturb(microscope, process, rng)),
        )
        return look_back(case, microscope, run, undisturbed)


def look_back(case: Case, microscope: Microscope, run: Run, undisturbed: Frames) -> Row:
    """Check the run, resume it, compare."""
    lit, finished = microscope.lit(), microscope.frames().checksums()
    broken = []
    if case.kind and not case.leds and run.faults == 0:
        broken.append("the fault did not happen")
    if run.code is None:
        broken.append("hung")
    elif not run.is_plain:
        broken.append(f"exit code {run.code} without a remedy, or a trace: {run.text[-300:]}")
    if lit and not (case.cable_is_gone and "may still shine" in run.message):
        broken.append(f"LEDs left lit: {lit}")
    if run.code != 0:
        (microscope.out / "ballast").unlink(missing_ok=True)
        again = scan(microscope.write("sound"), microscope.out, *microscope.words)
        if again.code != 0:
            broken.append(f"not resumed: {again.message or again.text[-300:]}")
        if microscope.lit():
            broken.append("LEDs left lit after resuming")
    frames = microscope.frames()
    after = frames.checksums()
    if any(after.get(name) != sums for name, sums in finished.items()):
        broken.append("a finished position changed")
    broken += frames.verify()
    found = frames.compare(undisturbed, microscope.folder / "faulty-hardware.yaml")
    if found.missing:
        broken.append(f"{found.missing} positions missing")
    if found.wrong:
        broken.append(f"kept wrong: {', '.join(found.wrong[:4])}")
    # Folders and ports of this computer tell nothing.
    message = run.message.replace(f"{microscope.folder}/", "")
    message = re.sub(
        r"\((ports found: .*?|no serial port .*?)\), the baud", "(...), the baud", message
    )
    said = message or (first_reason(microscope) if frames.rejected() else "")
    return Row(
        run.code,
        frames.rejected(),
        len(finished),
        found.same,
        found.again,
        found.wrong,
        len(lit),
        said,
        tuple(broken),
    )


def first_reason(microscope: Microscope) -> str:
    """Why the first frame was taken again, as the journal says it."""
    for line in microscope.journal.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "frame_rejected":
            return f"(journal) {event['frame']}: {event['reason']}"
    return ""


@contextmanager
def disk_of(microscope: Microscope, small: bool) -> Iterator[None]:
    """A disk of its own for the scan, if it is to be filled."""
    if not small:
        yield
        return
    microscope.out.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(microscope.out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise PermissionError("a disk to be filled needs the right to mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(microscope.out)], check=True)


def table(rows: dict[tuple[str, str], list[Row]]) -> list[str]:
    """The matrix in Markdown."""
    lines = [
        "| what fails | timing | exit code | finished before | taken again | as undisturbed | "
        "another exposure | wrong | LEDs lit at the end | what is said |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (name, timing), found in rows.items():
        listed = [
            ", ".join(str(value) for value in values)
            for values in zip(
                *((r.code, r.finished, r.rejected, r.same, r.again, len(r.wrong)) for r in found),
                strict=True,
            )
        ]
        lit = ", ".join(str(row.lit) for row in found)
        said = found[0].said.replace("|", "/")
        lines.append(f"| {name} | {timing} | {' | '.join(listed)} | {lit} | {said} |")
    return lines


def run_matrix(options: argparse.Namespace, broken: list[str]) -> list[str]:
    """All cases; the lines of the table."""
    jobs = [
        (case, timing, seed)
        for case in CASES
        if options.only in case.name and (case.name in QUICK or not options.quick)
        for timing in case.timings
        for seed in range(options.seeds)
    ]
    sound: dict[str, Frames] = {}
    for case, timing, _ in jobs:
        key = f"{timing} {case.hardware} {case.slide}"
        if key not in sound:
            folder = options.work / f"undisturbed-{crc32(key.encode()):08x}"
            shutil.rmtree(folder, ignore_errors=True)
            microscope = microscope_of(case, timing, folder)
            run = scan(microscope.write("sound"), microscope.out, *microscope.words)
            if run.code != 0 or microscope.frames().rejected():
                raise SystemExit(f"the undisturbed scan failed: {run.message} {run.text[-500:]}")
            sound[key] = microscope.frames()

    def work(job: tuple[Case, str, int]) -> Row:
        case, timing, seed = job
        undisturbed = sound[f"{timing} {case.hardware} {case.slide}"]
        row = run_case(case, timing, seed, options.work, undisturbed)
        for what in row.broken:
            broken.append(f"{case.name}, {timing}, seed {seed}: {what}")
        print(case.name, timing, seed, row.code, row.rejected, *row.broken, file=sys.stderr)
        return row

    rows: dict[tuple[str, str], list[Row]] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for (case, timing, _), row in zip(jobs, pool.map(work, jobs), strict=True):
            rows.setdefault((case.name, timing), []).append(row)
    return table(rows) if rows else []


def main() -> None:
    """Run what was asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "plsctl-faults")
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2, help="scans at a time")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.kills = 2
    rows = 2 if options.quick else 20
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options.work.mkdir(parents=True, exist_ok=True)
    broken: list[str] = []
    lines = run_matrix(options, broken)
    if options.only in "SIGKILL":
        lines += [
            "",
            *kill_again_and_again(options.work, SOFTWARE, options.kills, broken, rows=rows),
        ]
        lines += kill_again_and_again(options.work, HARDWARE, options.kills, broken, rows=rows)[2:]
        lines += ["", *kill_beside_an_array(options.work, broken)]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, "utf-8")
    for what in broken:
        print(what, file=sys.stderr)
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
