"""How often a reader changes place along the calls of one training step and one built position.

    python benchmarks/rooms.py [--quick] [--before CHECKOUT] [--list]

Scans a tiny simulated slide of one position, builds its data set, and trains a network for one
epoch on a few simulated cells, all by `plsctl` itself. Within one training step (`Trainer._step`),
one built position (`cut_position`), and the whole build (`build_dataset`) every call between
functions of plsctl is looked at, through other libraries and lambdas too: who called is the nearest
function of plsctl on the stack. Module: a file. Room: the folder that holds it. A call that leads
from one to another is a change. Each is counted as often as it is made, and, as `pairs`, once for
each pair of functions, which is what somebody follows who reads the code.

What is compared. Until 845f8cc each folder held its modules in one row, 38 to 80 of them: there
were no rooms, and a reader who left a file found nothing that said where the next one belonged. The
honest unit of before is therefore the module of that commit's own code, measured by this script in
that commit's own environment (`--before`, a checkout with its `.venv`). Without it, the changes of
module of the code as it is stand for it. The ratio is that of changes of room now to changes of
module before. By folders alone (acquire, process, models, sim, cli) there would have been fewer
changes before than rooms can ever have; these are printed, too. `--quick` counts a smaller sensor's
position; calls are what they are in full.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import yaml

import plsctl.acquire as acquire

PACKAGE = str(Path(acquire.__file__).parents[1]) + os.sep
FOLDERS = ("acquire", "process", "models", "sim", "cli")
OURS = tuple(f"{PACKAGE}{folder}{os.sep}" for folder in FOLDERS)
ROOTS = {
    "one training step": ("_step", "trainer.py"),
    "one position built": ("cut_position", ""),
    "the whole build": ("build_dataset", ""),
}
"""Function and end of its file; the first call of each is counted."""
UNITS = ("module", "room", "folder")

Call = tuple[CodeType, CodeType]


@dataclass
class Counts:
    """Calls beneath one function, by caller and callee."""

    name: str
    calls: Counter[Call] = field(default_factory=Counter)

    def changes(self) -> list[str]:
        """Every pair of functions whose call changes the room, the most frequent first."""
        return [
            f"{count:6,}  "
            + " -> ".join(f"{place('module', c.co_filename)}:{c.co_name}" for c in call)
            for call, count in self.calls.most_common()
            if _changes("room", call)
        ]

    def row(self) -> dict[str, list[int]]:
        """Calls and pairs of functions: all, and those that change each unit."""
        found = {"all": [self.calls.total(), len(self.calls)]}
        for unit in UNITS:
            kept = [count for call, count in self.calls.items() if _changes(unit, call)]
            found[unit] = [sum(kept), len(kept)]
        return found


def _changes(unit: str, call: Call) -> bool:
    caller, callee = (place(unit, code.co_filename) for code in call)
    return caller != callee


def place(unit: str, file: str) -> str:
    """The module, room or folder of a file of the package."""
    parts = {"module": None, "room": -1, "folder": 1}
    return "/".join(Path(file.removeprefix(PACKAGE)).parts[: parts[unit]])


class Watcher:
    """Counts the calls beneath the first run of each root."""

    def __init__(self) -> None:
        self.found: dict[str, Counts] = {}
        self._open: list[tuple[FrameType, Counts]] = []

    def __enter__(self) -> Watcher:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "return" and self._open and self._open[-1][0] is frame:
            self._open.pop()
        if event != "call" or not code.co_filename.startswith(OURS):
            return
        # Lambdas and comprehensions belong to the function that holds them.
        if self._open and not code.co_name.startswith("<"):
            caller = _nearest(frame.f_back)
            if caller is not None:
                for _, counts in self._open:
                    counts.calls[caller, code] += 1
        for name, (function, file) in ROOTS.items():
            if (
                code.co_name == function
                and code.co_filename.endswith(file)
                and name not in self.found
            ):
                self.found[name] = Counts(name)
                self._open.append((frame, self.found[name]))


def _nearest(frame: FrameType | None) -> CodeType | None:
    """The function of plsctl that called, whatever lies between."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(OURS) and not code.co_name.startswith("<"):
            return code
        frame = frame.f_back
    return None


def count_calls(folder: Path, side_px: int) -> dict[str, Counts]:
    """Scan, build and train in a folder; what was called beneath each root."""
    slide = write_slide(folder, side_px)
    scans = folder / "scans"
    for name in ("unstained", "stained", "highres"):
        plsctl_command("scan", slide, "--pass", name, "--yes", "--force", "--out", scans)
    cells, built = folder / "cells.zarr", folder / "built.zarr"
    options = ("--cells", "12", "--recipe", "brightfield", "-o", cells)
    plsctl_command("simulate", "dataset", *options)
    with Watcher() as watcher:
        plsctl_command("build-dataset", scans / "tiny", "-o", built, "--split", "none")
        plsctl_command(
            "train", "maepnet", "--data", cells, "--out", folder / "run", "--recipe", "brightfield",
            "--epochs", "1", "--blocks", "1", "--width", "8", "--batch", "4",
            "--precision", "float32", "--device", "cpu", *one_layout(),
        )  # fmt: skip
    missing = set(ROOTS) - set(watcher.found)
    if missing:
        raise SystemExit(f"never called: {', '.join(sorted(missing))}")
    return {name: watcher.found[name] for name in ROOTS}


def one_layout() -> tuple[str, ...]:
    """Options that keep a step from being timed in several layouts, where the commit times them."""
    times_layouts = (Path(PACKAGE) / "models" / "networks" / "winograd.py").exists()
    return ("--memory-format", "contiguous") if times_layouts else ()


def plsctl_command(*words: object) -> None:
    """Run the real command line in this process."""
    from plsctl.cli.app import main

    sys.argv = ["plsctl", *map(str, words)]
    printed, sys.stdout = sys.stdout, sys.stderr
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise SystemExit(f"plsctl {words[0]} ended with {ended.code}") from None
    finally:
        sys.stdout = printed


def write_slide(folder: Path, side_px: int) -> Path:
    """A slide file of one position on a simulated microscope with a square sensor."""
    shipped = Path(PACKAGE) / "hardware_configs"
    for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
        (folder / name).write_bytes((shipped / name).read_bytes())
    hardware = yaml.safe_load((shipped / "simulator_small.yaml").read_text(encoding="utf-8"))
    hardware["camera"]["size_px"] = [side_px, side_px]
    hardware["options"] |= {
        "smear": {"white_cells_per_mm2": 300},
        "mount": {"focus_error_um": 0.0, "tilt_um_per_mm": 0.0, "drift_um_per_min": 0.0},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
    low_power = hardware["turret"]["objectives"]["20x"]["magnification"]
    field_um = side_px * hardware["camera"]["pixel_pitch_um"] / low_power
    slide = {
        "slide": "tiny",
        "hardware": "tiny.yaml",
        "region": {"x_um": [10000, 10000 + field_um], "y_um": [5000, 5100], "overlap": 0.05},
        "recipe": "le8deg",
        "exposures": "exposures_20x.csv",
        "focus": {"mode": "fixed"},
        "slide_return": {"fields": 2},
        "passes": {
            "unstained": {"objective": "20x"},
            "stained": {"objective": "20x"},
            "highres": {"objective": "100x", "exposures": "exposures_100x.csv"},
        },
    }
    (folder / "slide.yaml").write_text(yaml.safe_dump(slide), encoding="utf-8")
    return folder / "slide.yaml"


def count_files() -> dict[str, int]:
    """Modules in each room, without `__init__.py`."""
    modules = [
        path.relative_to(PACKAGE).parent.as_posix()
        for name in FOLDERS
        for path in (Path(PACKAGE) / name).rglob("*.py")
        if path.name != "__init__.py"
    ]
    return dict(Counter(modules).most_common())


def measure(side_px: int) -> dict[str, Any]:
    """Counts and files of the plsctl that this interpreter imports."""
    with tempfile.TemporaryDirectory() as folder:
        counted = count_calls(Path(folder), side_px)
    return {
        "calls": {name: counts.row() for name, counts in counted.items()},
        "changes": {name: counts.changes() for name, counts in counted.items()},
        "files": count_files(),
    }


def measure_other(checkout: Path, words: Sequence[str]) -> dict[str, Any]:
    """The same of another checkout, by its own interpreter."""
    python = checkout / ".venv" / "bin" / "python"
    done = subprocess.run(
        [python, __file__, "--json", *words], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(title: str, found: dict[str, Any]) -> None:
    """What was counted in one checkout."""
    print(f"{title}: calls (pairs of functions), and those that change module, room, folder")
    for name, row in found["calls"].items():
        cells = (f"{calls:,} ({pairs})" for calls, pairs in row.values())
        print(f"  {name:20s} " + "  ".join(f"{cell:>16s}" for cell in cells))
    files = found["files"]
    largest = next(iter(files))
    print(
        f"  modules in a room: median {statistics.median(files.values()):g}, largest "
        f"{files[largest]} ({largest}), {len(files)} rooms"
    )


def main() -> None:
    """Count, and print what is compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a smaller sensor")
    parser.add_argument("--before", type=Path, help="checkout of another commit with its .venv")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="every call that changes the room")
    options = parser.parse_args()
    found = measure(440 if options.quick else 600)
    if options.json:
        print(json.dumps(found))
        return
    if options.list:
        for name, lines in found["changes"].items():
            print("\n".join([f"changes of room in {name}:", *lines]))
    report("now", found)
    before, what = found["calls"], "module now"
    if options.before:
        other = measure_other(options.before, ["--quick"] * options.quick)
        report("before", other)
        before, what = other["calls"], "module before"
    print(f"changes of room now / changes of {what}: calls, pairs")
    for name, row in found["calls"].items():
        ratios = (now / old for now, old in zip(row["room"], before[name]["module"], strict=True))
        print(f"  {name:20s} " + "  ".join(f"{ratio:16.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
