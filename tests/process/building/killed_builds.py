"""Builds a data set in processes that are killed, for `test_resume.py`; prints one JSON object.

Arguments: a JSON object with `scans`, `out`, `kills` (how often) and `seed`. A kill comes at a
random file operation, or at a random moment of the time that the undisturbed build took.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from plsctl.process.building import builder as build
from plsctl.process.building import cutting as build_cutting
from plsctl.process.dataset.reader import Dataset
from plsctl.process.samples.position import cut_position

SHARD = 4
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


def in_child(work: Callable[[], None], kill_after_s: float | None = None) -> bool:
    """Do it in a forked process; whether that was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit("the build failed")
    return os.WIFSIGNALED(status)


class Builder:
    """Builds the same data set again and again, and counts positions cut and files touched."""

    def __init__(self, scans: list[Path], out: Path) -> None:
        self.scans, self.out = scans, out
        self.cuts = out.with_suffix(".cuts")
        self.events = out.with_suffix(".events")

    def build(self, out: Path, kill_at: int | None = None) -> None:
        count = 0

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event in FILE_EVENTS and ".zarr" in str(arguments[0]):
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        def cut(job: Any) -> Any:
            samples = cut_position(job)
            with self.cuts.open("a") as file:
                file.write(f"{job.scan.name}/{job.position}\n")
            return samples

        vars(build_cutting)["cut_position"] = cut
        sys.addaudithook(audit)
        split = build.SplitSettings(ratios=None)
        build.build_dataset(self.scans, out, split=split, shard=SHARD)
        self.events.write_text(str(count))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a data set, less what a build that is not concluded keeps in it."""
    files = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    return {str(name): p.read_bytes() for name, p in files.items() if name.parts[0] != ".build"}


def main() -> None:
    """Build once undisturbed, then killed and resumed; compare."""
    given = json.loads(sys.argv[1])
    builder = Builder([Path(scan) for scan in given["scans"]], Path(given["out"]))
    began = time.monotonic()
    in_child(partial(builder.build, builder.out))
    took = time.monotonic() - began
    wanted = contents(builder.out)
    positions = len(builder.cuts.read_text().splitlines())
    events = int(builder.events.read_text())
    rng = random.Random(given["seed"])
    found: dict[str, Any] = {
        "positions": positions,
        "events": events,
        "kills": 0,
        "kept": 0,
        "faults": [],
    }
    for trial in range(given["kills"]):
        out = builder.out.with_name(f"{trial}.zarr")
        builder.cuts.unlink(missing_ok=True)
        moment, step = rng.uniform(0.05, 1.0) * took, rng.randrange(1, events + 1)
        if trial % 3 == 2:
            killed = in_child(partial(builder.build, out), kill_after_s=moment)
        else:
            killed = in_child(partial(builder.build, out, kill_at=step))
        found["kills"] += killed
        if out.exists():
            Dataset.open(out)
            if contents(out) != wanted:
                found["faults"].append(f"{trial}: half a data set")
        if killed and not (out.exists() and not (out / ".build").exists()):
            in_child(partial(builder.build, out))
        if contents(out) != wanted or (out / ".build").exists():
            found["faults"].append(f"{trial}: another data set")
        if out.with_name(f"{out.name}.part").exists():
            found["faults"].append(f"{trial}: something is left")
        cuts = len(builder.cuts.read_text().splitlines())
        if cuts > positions + 1:
            found["faults"].append(f"{trial}: {cuts} positions cut, there are {positions}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
