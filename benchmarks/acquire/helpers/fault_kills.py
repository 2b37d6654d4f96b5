"""SIGKILL at random instants: one scan killed and resumed until it is complete."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

import numpy as np
from helpers.faulty_scans import PLSCTL, Command, Microscope, scan

STARTING_SHARE = 0.2
"""Share of the kills that come while the program still starts."""

STARTING_S = 1.5
"""How long that takes at most."""

MOST_CHANGES = 160
"""The others come at most so many changes of light after its start: the checks before the first
position, and a few positions."""


def kill_again_and_again(
    work: Path, timing: str, kills: int, broken: list[str], seed: int = 0, rows: int = 20
) -> list[str]:
    """Kill one scan so often, resume it to its end, compare it with an undisturbed one."""
    rng = np.random.default_rng((seed, kills, timing == "hardware"))
    sound, killed = (
        _microscope(work / f"{name}-{timing}", timing, rows) for name in ("whole", "killed")
    )
    for microscope in (sound, killed):
        shutil.rmtree(microscope.folder, ignore_errors=True)
    scan(sound.write("sound"), sound.out)
    slide = killed.write("sound")
    lit = changed = 0
    finished: dict[str, list[int]] = {}
    done = 0
    while done < kills:
        at_start = rng.random() < STARTING_SHARE
        wait_s = float(rng.uniform(0, STARTING_S)) if at_start else 0.0
        changes = killed.change_count() + int(rng.integers(1, MOST_CHANGES))
        late_s = float(rng.uniform(0, 0.02))

        def kill(
            process: Command,
            changes: int = changes,
            wait_s: float = wait_s,
            late_s: float = late_s,
        ) -> None:
            time.sleep(wait_s)
            while not (wait_s or process.is_over()) and killed.change_count() < changes:
                time.sleep(0.002)
            time.sleep(late_s)
            process.send_signal(signal.SIGKILL)

        run = scan(slide, killed.out, meanwhile=kill)
        if run.code != -signal.SIGKILL:
            broken.append(f"SIGKILL, {timing}: the scan ended with {run.code}: {run.text[-300:]}")
            break
        done += 1
        lit += bool(killed.lit())
        now = killed.frames().checksums()
        changed += sum(now.get(name) != sums for name, sums in finished.items())
        finished = now
    last = scan(slide, killed.out)
    if last.code != 0:
        broken.append(f"SIGKILL, {timing}: not resumed: {last.message}")
    verified = scan(slide, killed.out, "--verify")
    found = killed.frames().compare(sound.frames(), sound.folder / "sound-hardware.yaml")
    for what, wrong in (
        ("finished positions changed or lost", changed),
        ("frames wrong", len(found.wrong)),
        ("frames of another exposure", found.again),
        ("positions missing", found.missing),
        ("exit code of --verify", verified.code),
    ):
        if wrong:
            broken.append(f"SIGKILL, {timing}: {what}: {wrong}")
    positions = len(killed.frames().checksums())
    return [
        "| SIGKILL | timing | kills | positions finished before the last one | of | finished "
        "positions lost or changed | as undisturbed | wrong | `--verify` | LEDs lit after a kill |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| array in the same process | {timing} | {done} | {len(finished)} | {positions} | "
        f"{changed} | {found.same} | {len(found.wrong)} | {verified.code} | {lit} |",
    ]


def _microscope(folder: Path, timing: str, rows: int) -> Microscope:
    """Many positions of fourteen frames, with a search for focus now and then."""
    focus = {"points": 3, "range_um": 12, "step_um": 3, "refresh_positions": 10}
    focus["refresh_minutes"] = 0  # real time passes while it is killed again and again
    return Microscope(
        folder, timing, columns=10, rows=rows, recipe="le18deg", slide={"focus": focus}
    )


def kill_beside_an_array(work: Path, broken: list[str]) -> list[str]:
    """What shines on an array that outlives the scan: after SIGKILL, SIGTERM and the next start."""
    lines = [
        "| array in a process of its own | LEDs lit afterwards | lit after the next scan |",
        "| --- | --- | --- |",
    ]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
        command = [*PLSCTL, "simulate", "led-array", "--port", "0", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True) as array:
            try:
                if array.stdout is None:
                    raise RuntimeError("the array says nothing")
                port = str(json.loads(array.stdout.readline())["port"])
                for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    lines.append(_one_signal(work, port, told, number, broken))
            finally:
                array.terminate()
    return lines


def _one_signal(
    work: Path, port: str, told: IO[str], number: signal.Signals, broken: list[str]
) -> str:
    # The camera does not see this array: its frames are dark and not judged.
    changes = {
        "led_array": {"port": port},
        "checks": {"brightness": False, "repeats": False, "direction": False},
    }
    microscope = Microscope(work / f"beside-{number.name}", "software", hardware=changes)
    shutil.rmtree(microscope.folder, ignore_errors=True)
    slide = microscope.write("sound")
    before = len(_shown(told))

    def send(process: Command) -> None:
        while not process.is_over() and len(_shown(told)) < before + 40:
            time.sleep(0.005)
        process.send_signal(number)

    scan(slide, microscope.out, "--force", meanwhile=send)
    time.sleep(0.2)
    after = _shown(told)[-1]
    scan(slide, microscope.out, "--force")
    time.sleep(0.2)
    next_time = _shown(told)[-1]
    if (number != signal.SIGKILL and after != "none") or next_time != "none":
        broken.append(f"{number.name} beside an array: LEDs {after}, then {next_time}")
    return f"| {number.name} | {after} | {next_time} |"


def _shown(told: IO[str]) -> list[str]:
    """What the array said that it shows, after every change."""
    told.seek(0)
    return ["none"] + [
        line.removeprefix("lit: ").strip() for line in told if line.startswith("lit: ")
    ]
