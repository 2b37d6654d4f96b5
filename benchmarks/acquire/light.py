"""Steps and drift of the light: `python benchmarks/acquire/light.py`.

Scans of other slides under a steady light, none of which may be complained of. Then scans during
which all light falls or rises at once, by 12 to 50 %, for good or for a few frames, or the array's
controller restarts at half its level: each must be named, and no frame that is kept may be of
another light than the others. Last, slow drift: up to 30 % is measured and accepted, more refused.
The exit code is 1 where any of it fails. `--quick` takes a few of each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.journal import read_journal
from plsctl.cli.shared.roles import make_roles

SIZE_PX = (256, 192)
COLUMNS, ROWS = 3, 2
PIXEL_UM = 0.293
STEADY_SCANS = 20
SAME_LIGHT = 0.06
"""Frames that are kept depart from one another by less, beside what the drift explains."""

Settings = dict[str, Any]

LASTING = 100_000
STEPS: list[Settings] = [
    {"kind": "light_steps", "factor": 0.88, "times": LASTING},
    {"kind": "light_steps", "factor": 0.5, "times": LASTING},
    {"kind": "controller_restarts", "level": 128},
    {"kind": "light_steps", "factor": 0.7, "times": 6},
    {"kind": "light_steps", "factor": 1.15, "times": LASTING},
    {"kind": "light_steps", "factor": 0.8, "times": LASTING},
    {"kind": "controller_restarts", "level": 200},
    {"kind": "light_steps", "factor": 0.87, "times": LASTING},
    {"kind": "light_steps", "factor": 0.6, "times": LASTING},
    {"kind": "light_steps", "factor": 0.85, "times": 40},
]
DRIFTS = [(0.1, True), (0.2, True), (0.25, True), (0.36, False)]
"""Share by which the light falls over the pass, and whether the pass holds."""


@dataclass(frozen=True)
class Bench:
    """A simulated microscope with a small sensor, and one slide on it."""

    folder: Path

    def scan(
        self, slide: int, recipe: str, fault: Settings | None = None, lamp: Settings | None = None
    ) -> Scan:
        """A scan of six fields."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        rng = np.random.default_rng(slide)
        hardware = yaml.safe_load(load_hardware("simulator_small").file.read_text("utf-8"))
        hardware["camera"]["size_px"] = list(SIZE_PX)
        low = [float(v) for v in rng.uniform((4000, 3900), (13000, 4850))]
        hardware["options"] |= {
            # The lower edge of this smear lies within reach: some fields show glass.
            "smear": {
                "seed": slide,
                "white_cells_per_mm2": float(rng.uniform(9, 400)),
                "smear_y_um": [300, 5000],
            },
            "mount": {"drift_um_per_min": 0.0, "focus_error_um": 0.0, "tilt_um_per_mm": 0.0},
            "lamp": lamp or {},
            "faults": [fault] if fault else [],
        }
        (self.folder / "microscope.yaml").write_text(yaml.safe_dump(hardware), "utf-8")
        sides = np.multiply(SIZE_PX, PIXEL_UM) * (COLUMNS, ROWS) * 0.9
        axes = ("x_um", "y_um")
        region = {a: [v, v + float(s)] for a, v, s in zip(axes, low, sides, strict=True)}
        content = {
            "slide": "light",
            "hardware": "microscope.yaml",
            "region": region | {"overlap": 0.05},
            "recipe": recipe,
            "exposures": "shipped:exposures_20x.csv",
            "focus": {"mode": "fixed"},
        }
        (self.folder / "slide.yaml").write_text(yaml.safe_dump(content), "utf-8")
        return open_scan(self.folder / "slide.yaml", self.folder / "scans")


def take(scan: Scan) -> PassResult | HardwareError:
    """The unstained pass, or why it stopped; the operator's talk is kept to itself."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return run_pass(scan, "unstained", lambda who: make_roles(who, True), StopRequest())
        except HardwareError as error:
            return error


def events(scan: Scan, kind: str) -> list[dict[str, Any]]:
    """Those events of the journal."""
    return [event for event in read_journal(scan.folder.journal) if event["event"] == kind]


def light_problems(result: PassResult) -> list[str]:
    """What a verdict says about the light."""
    if result.verdict is None:
        return ["no verdict"]
    return [problem for problem in result.verdict.problems if "the light" in problem]


def steady(bench: Bench, slide: int, recipe: str) -> bool:
    """Whether nothing is said about a steady light."""
    scan = bench.scan(slide, recipe)
    result = take(scan)
    found = events(scan, "light_step")
    is_sound = (
        isinstance(result, PassResult)
        and result.totals.retaken == 0
        and not found
        and not light_problems(result)
    )
    compared = len(events(scan, "light_compared"))
    change = f", change {result.light.change:.3f}" if isinstance(result, PassResult) else ""
    print(
        f"slide {slide}, {recipe}: {'sound' if is_sound else 'FALSE ALARM'}, looked back "
        f"{compared} times{change}",
        flush=True,
    )
    return is_sound


def stepped(bench: Bench, slide: int, fault: Settings, at: int) -> bool:
    """Whether a step is named, and what is kept is of one light."""
    scan = bench.scan(slide, "le18deg", fault | {"at": at})
    result = take(scan)
    found = [*events(scan, "light_step"), *events(scan, "light_compared")]
    factors = _factors(scan)
    spread = max(factors) / min(factors) - 1 if factors else 0.0
    is_found = bool(found) and spread < SAME_LIGHT
    told = [f"{e['position']} {e['factor']:.2f} {e.get('when', 'compared')}" for e in found]
    end = "stopped" if isinstance(result, HardwareError) else f"retaken {result.totals.retaken}"
    print(
        f"{fault['kind']} {fault.get('factor', fault.get('level'))} at {at}: "
        f"{'found' if is_found else 'NOT FOUND'}, {end}, kept light within {100 * spread:.1f} %, "
        f"{'; '.join(told)}",
        flush=True,
    )
    return is_found


def _factors(scan: Scan) -> list[float]:
    """Light of each position that is kept, relative to the first."""
    if not scan.is_begun("unstained"):
        return []
    reader = scan.folder.open_pass("unstained")
    return [float(reader.position_metadata(name)["light_factor"]) for name in reader.names]


def drifted(bench: Bench, slide: int, share: float, is_held: bool) -> bool:
    """Whether slow drift is measured, and accepted up to its limit."""
    scan = bench.scan(slide, "le18deg")
    take(scan)
    reader = scan.folder.open_pass("unstained")
    frames = [reader.position_metadata(name)["frames"] for name in reader.names]
    first_s, last_s = (frames[place][0]["time_s"] for place in (0, -1))
    rate = 100 * math.log(1 - share) * 60 / (last_s - first_s)
    lamp = {"drift_percent_per_min": rate, "drifts_from_s": first_s}
    scan = bench.scan(slide, "le18deg", lamp=lamp)
    result = take(scan)
    if isinstance(result, HardwareError):
        print(f"drift by {share}: STOPPED: {result}", flush=True)
        return False
    held = not light_problems(result)
    found = result.light.change
    is_right = held == is_held and abs(found - share) < 0.04 and not events(scan, "light_step")
    print(
        f"drift by {100 * share:.0f} %: {'right' if is_right else 'WRONG'}, measured "
        f"{100 * found:.0f} %, {'accepted' if held else 'refused'}",
        flush=True,
    )
    return is_right


def main() -> int:
    """All slides, steps and drifts; 1 where any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of each")
    quick = parser.parse_args().quick
    began, cpu = time.monotonic(), time.process_time()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name) / "bench")
        recipes = ("le18deg", "le8deg")
        counts = {
            "steady scans without a false alarm": [
                steady(bench, 100 + n, recipes[n % 2]) for n in range(3 if quick else STEADY_SCANS)
            ],
            "steps found": [
                stepped(bench, 200 + n, fault, int(rng.integers(24, 70)))
                for n, fault in enumerate(STEPS[:4] if quick else STEPS)
            ],
            "drifts measured": [
                drifted(bench, 300 + n, share, is_held)
                for n, (share, is_held) in enumerate(DRIFTS[1::2] if quick else DRIFTS)
            ],
        }
    for what, good in counts.items():
        print(f"{what}: {sum(good)} of {len(good)}")
    print(f"{time.monotonic() - began:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    return 0 if all(all(good) for good in counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
