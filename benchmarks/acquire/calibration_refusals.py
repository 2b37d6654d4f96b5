"""What each calibration says where it cannot succeed.

    python benchmarks/acquire/calibration_refusals.py [--quick] [--only TEXT]

A simulated microscope is calibrated as it should be. Then every kind of calibration is asked for,
by its command, on an empty slide, one that moves, with far too much and far too little light, under
another objective than the file names, and with another LED array. Each must end with one sentence
and a page with images beside the hardware file, and leave every file as it was; what the condition
does not touch must be measured. Prints a table; the exit code is 1 where a cell falls. `--quick`
tries two kinds in three conditions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.cli.app import app

SIZE_PX, LEDS_SIZE_PX = (360, 270), (640, 480)
"""Of the sensor; the LED array's pose needs a larger one."""

GOOD: dict[str, Any] = {"stage": {"repeatability_um": 0.1}}
CONDITIONS: dict[str, dict[str, Any]] = {
    "empty slide": {"smear": {"bare_um": [[0, 75000, 0, 25000]]}},
    "moving slide": {"mount": {"creep_um_per_min": [60, 0]}},
    "saturated": {"sensor": {"electrons_per_ms": 8e6}},
    "dark": {"sensor": {"electrons_per_ms": 0.01}},
    "other objective": {"objectives": {"20x": {"scale": 1.5}}},
    "other array": {"led_array": {"table": "shipped:leds_257.csv"}},
}
HIGH_POWER: dict[str, Any] = {"objectives": {"100x": {"scale": 0.6}}}
"""The other objective where two are compared."""

KINDS: dict[str, list[str]] = {
    "exposures": ["exposures", "--recipe", "le36deg-nohe", "--overwrite"],
    "pixel-size": ["pixel-size"],
    "leds": ["leds"],
    "flatfield": ["flatfield"],
    "objectives": ["objectives"],
    "all": ["all", "--fresh"],
}
UNTOUCHED = {
    ("flatfield", "empty slide"): "clean glass is what it wants",
    ("pixel-size", "other array"): "any light will do",
}
"""What is measured all the same, and why that is right."""


def describe(folder: Path, options: dict[str, Any], kind: str) -> Path:
    """A hardware file in a folder, with the sensor that a kind of calibration needs."""
    content = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    content["camera"]["size_px"] = list(LEDS_SIZE_PX if kind == "leds" else SIZE_PX)
    content["led_array"]["geometry"] = "shipped:leds_43.csv"
    for name, values in (GOOD | options).items():
        content["options"][name] = content["options"].get(name, {}) | values
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scope.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def run(path: Path, kind: str) -> tuple[int, dict[str, Any]]:
    """A calibration by the command line: exit code, and what it says as JSON."""
    words = ["calibrate", *KINDS[kind], "--hardware", str(path), "--yes", "--json"]
    if kind == "exposures":
        words += ["-o", str(path.with_name("exposures_20x.csv"))]
    result = CliRunner().invoke(app, words)
    return result.exit_code, json.loads(result.stdout)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that a calibration could write over."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".failed.html", ".before"))
    }


def judge(good: Path, folder: Path, kind: str, condition: str) -> tuple[bool, str, str]:
    """Whether a cell of the table is as it should be, in short, and what was said."""
    shutil.copytree(good / ("leds" if kind == "leds" else "rest"), folder)
    is_pair = (kind, condition) == ("objectives", "other objective")
    path = describe(folder, HIGH_POWER if is_pair else CONDITIONS[condition], kind)
    before = contents(folder)
    code, found = run(path, kind)
    if "error" not in found:
        said = UNTOUCHED.get((kind, condition), "MEASURED")
        return (kind, condition) in UNTOUCHED, "measured", said
    message = found["error"]["message"].replace(str(folder), "")
    pages = [page.read_text(encoding="utf-8") for page in folder.rglob("*.failed.html")]
    lacks = [
        name
        for name, is_so in (
            ("exit code", code in (2, 3)),
            ("page", len(pages) == 1 and "<img" in pages[0]),
            ("files as they were", contents(folder) == before),
            ("a condition it does not notice", (kind, condition) not in UNTOUCHED),
        )
        if not is_so
    ]
    return not lacks, f"exit {code}" + "".join(f", NO {name}" for name in lacks), message


def main() -> int:
    """The table; 1 where a cell falls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two kinds in three conditions")
    parser.add_argument("--only", default="", help="cells whose kind and condition contain it")
    arguments = parser.parse_args()
    kinds, conditions = list(KINDS), list(CONDITIONS)
    if arguments.quick:
        kinds, conditions = ["exposures", "pixel-size"], conditions[::2]
    began = time.process_time()
    cells: dict[tuple[str, str], tuple[bool, str]] = {}
    fallen: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        good = Path(name) / "good"
        for kind in kinds:
            if kind == "all":
                continue
            path = describe(good / ("leds" if kind == "leds" else "rest"), {}, kind)
            code, found = run(path, kind)
            fallen += [] if code == 0 else [(kind, "nothing wrong")]
            print(f"{kind}, nothing wrong: exit {code} {found.get('error', '')}", flush=True)
        for kind in kinds:
            for condition in conditions:
                if arguments.only not in f"{kind} {condition}":
                    continue
                folder = Path(name) / f"{kind}-{condition}".replace(" ", "-")
                is_good, short, said = judge(good, folder, kind, condition)
                cells[kind, condition] = (is_good, short)
                print(f"{kind}, {condition}: {short}: {said}", flush=True)
    print("\n| | " + " | ".join(conditions) + " |\n|" + " --- |" * (len(conditions) + 1))
    for kind in kinds:
        row = [cells.get((kind, condition), (True, "not tried"))[1] for condition in conditions]
        print(f"| {kind} | " + " | ".join(row) + " |")
    fallen += [cell for cell, (is_good, _) in cells.items() if not is_good]
    print(f"not as they should be: {fallen or 'none'} of {len(cells)}; ", end="")
    print(f"{time.process_time() - began:.0f} s of CPU")
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
