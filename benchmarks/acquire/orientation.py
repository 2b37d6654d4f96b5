"""Cameras that stand otherwise than their file says: `python benchmarks/acquire/orientation.py`.

Eight orientations, a turn by 20 degrees and pixels off by 10 % or more, each under a hardware
file that does not know of it: an unstained pass must end with what was measured, before "safe to
stain". Then the same cameras rightly described: the pass must be safe to stain and the returned
slide found to 3 um. Last, scans of other slides on a sound microscope, none of which may be
complained of. The exit code is 1 where any of it fails. `--quick` takes two of each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.folder import load_transform
from plsctl.acquire.store.journal import read_journal
from plsctl.acquire.store.records import PassName
from plsctl.cli.shared.roles import make_roles

SIZE_PX = (360, 270)
AXES, SIDES_UM = ("x_um", "y_um"), (180.0, 130.0)
SOUND_SCANS = 20
LARGEST_UM = 3.0

TURNED = [
    {"mirrored": mirrored, "rotation_deg": turn + 0.7}
    for mirrored in (False, True)
    for turn in (0.0, 90.0, 180.0, 270.0)
]
WRONG: list[dict[str, Any]] = [
    *TURNED[1:],
    {"rotation_deg": 20.7},
    {"rotation_deg": -19.3},
    {"pixel_scale": 1.1},
    {"pixel_scale": 0.9},
    {"pixel_scale": 0.5},
    {"mirrored": True, "rotation_deg": 37.0, "pixel_scale": 1.1},
]


@dataclass(frozen=True)
class Bench:
    """A simulated microscope with a small sensor, and one slide on it."""

    folder: Path

    def scan(self, said: dict[str, Any], truth: dict[str, Any], slide: int = 1) -> Scan:
        """A scan of le18deg, four fields, described by `said` where `truth` is."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        shipped = load_hardware("simulator_small").file
        for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
            shutil.copy(shipped.parent / name, self.folder / name)
        rng = np.random.default_rng(slide)
        # Elsewhere the stage errs otherwise.
        low = [float(v) for v in rng.uniform((9000, 4000), (13000, 9000))]
        region = {axis: [v, v + side] for axis, v, side in zip(AXES, low, SIDES_UM, strict=True)}
        hardware = yaml.safe_load(shipped.read_text(encoding="utf-8"))
        hardware["camera"] |= {"size_px": list(SIZE_PX)} | said
        hardware["options"] |= {
            "camera": truth,
            "smear": {"seed": slide, "white_cells_per_mm2": float(rng.uniform(9, 400))},
            "mount": {
                "reference_um": low,
                "return_centre_um": low,
                "return_shift_um": [float(v) for v in rng.uniform(-60, 60, 2)],
                "return_rotation_deg": float(rng.uniform(-1, 1)),
            },
        }
        (self.folder / "microscope.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
        content = {
            "slide": "turned",
            "hardware": "microscope.yaml",
            "region": region | {"overlap": 0.05},
            "recipe": "le18deg",
            "exposures": "exposures_20x.csv",
            "focus": {"mode": "surface", "points": 1, "range_um": 16},
            "slide_return": {"fields": 3},
        }
        (self.folder / "slide.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return open_scan(self.folder / "slide.yaml", self.folder / "scans")


def take(scan: Scan, name: PassName) -> PassResult:
    """Take a pass and keep the operator's talk to itself."""
    with contextlib.redirect_stderr(io.StringIO()):
        return run_pass(scan, name, lambda who: make_roles(who, True), StopRequest())


def named(bench: Bench, truth: dict[str, Any]) -> bool:
    """Whether a camera unlike its file is named before the slide is stained."""
    scan = bench.scan({}, truth)
    try:
        verdict = take(scan, "unstained").verdict
    except UserError as error:
        print(f"{truth}: {error.field}: {str(error.hint).split('}')[0]}}}", flush=True)
        return str(error.field).startswith("camera.") and not scan.is_begun("unstained")
    print(f"{truth}: NOT NAMED, {verdict}", flush=True)
    return False


def found(bench: Bench, said: dict[str, Any], slide: int) -> bool:
    """Whether a camera that the file describes finds the returned slide."""
    scan = bench.scan(said, {}, slide)
    if not sound(scan, str(said)):
        return False
    take(scan, "stained")
    mount = scan.hardware.options["mount"]
    truth = SlideTransform(
        *mount["return_centre_um"], *mount["return_shift_um"], mount["return_rotation_deg"]
    )
    measured = load_transform(scan.folder)
    corners = [(x, y) for x in scan.slide.region.x_um for y in scan.slide.region.y_um]
    off_um = max(
        float(np.linalg.norm(np.subtract(measured.apply(*c), truth.apply(*c)))) for c in corners
    )
    print(f"{said}: the returned slide found to {off_um:.2f} um", flush=True)
    return off_um <= LARGEST_UM


def sound(scan: Scan, what: str) -> bool:
    """Whether an unstained pass is safe to stain, its camera checked."""
    verdict = take(scan, "unstained").verdict
    events = [e for e in read_journal(scan.folder.journal) if e["event"] == "camera_checked"]
    told = [(e["rotation_deg"], e["pixel_um"]) for e in events]
    is_sound = verdict is not None and verdict.safe and bool(events)
    problems = "" if verdict is None else ", ".join(verdict.problems)
    print(f"{what}: {'sound' if is_sound else 'FALSE ALARM'} {told} {problems}", flush=True)
    return is_sound


def main() -> int:
    """All cameras and slides; 1 where any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two of each")
    quick = parser.parse_args().quick
    began, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name) / "bench")
        wrong = WRONG[4:6] if quick else WRONG
        turned = TURNED[5:7] if quick else TURNED
        slides = range(2 if quick else SOUND_SCANS)
        counts = {
            "named before staining": [named(bench, truth) for truth in wrong],
            "returned slides found": [found(bench, said, 40 + n) for n, said in enumerate(turned)],
            "scans without a false alarm": [
                sound(bench.scan({}, {}, 100 + n), f"slide {n}") for n in slides
            ],
        }
    for what, good in counts.items():
        print(f"{what}: {sum(good)} of {len(good)}")
    print(f"{time.monotonic() - began:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    return 0 if all(all(good) for good in counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
