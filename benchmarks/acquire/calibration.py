"""Calibrations against the simulator's truth: `python benchmarks/acquire/calibration.py`.

Cameras that are turned, mirrored and of another pixel size, stages with backlash and scatter,
objectives off their place, scale and rotation; each under a hardware file that knows nothing of it.
Each calibration is measured through the command line, its result compared with the truth. Then
slides and microscopes on which none can be measured: each must end with a sentence and a page, and
nothing written over. The exit code is 1 where a target is missed. `--quick` takes one of each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from typer.testing import CliRunner

from plsctl.acquire.bench.bright_field import BrightFieldBench
from plsctl.acquire.bench.exposures import measure_exposures
from plsctl.acquire.capture.auto_exposure import PERCENTILE, TARGET
from plsctl.acquire.devices.calibration_kinds import FlatField, FlatSurface
from plsctl.acquire.devices.calibrations import read_calibrations
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.microscope import Microscope, open_microscope
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.exposures import ExposureTable, level_exposures
from plsctl.acquire.plans.recipe_frames import LitFrame
from plsctl.acquire.plans.recipes import load_recipe
from plsctl.cli.app import app
from plsctl.process.focus.sharpness import GradientFocusMeasure
from plsctl.sim.backend import open_world

SIZE_PX = (800, 600)
PITCH_UM = 5.86

PIXEL, ROTATION_DEG, SCALE = 1e-3, 0.05, 5e-4
"""Targets: share of the pixel size, degrees, share of the scale between objectives."""

EXACT, SNAPPED, MOST_IMAGES = 0.05, 0.15, 6
"""Targets of exposures: share by which an image's level departs, and images an LED."""

SEEDS = 5
"""Arrays, slides and sensors on which exposures and flat field are measured."""

CAMERAS: list[dict[str, Any]] = [
    {"rotation_deg": 1.37, "mirrored": True, "pixel_scale": 1.021},
    {"rotation_deg": -90.6, "mirrored": False, "pixel_scale": 0.985},
    {"rotation_deg": 180.3, "mirrored": True, "pixel_scale": 1.1},
]
TRUTHS: list[dict[str, float]] = [
    {"scale": 1.006, "rotation_deg": 0.5, "offset_x_um": 7.0, "offset_y_um": -9.0},
    {"scale": 0.98, "rotation_deg": -1.2, "offset_x_um": -12.0, "offset_y_um": 4.0},
    {"scale": 1.03, "rotation_deg": 2.5, "offset_x_um": 0.0, "offset_y_um": 15.0},
]
IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "bare glass": {"smear": {"bare_um": [[0, 75000, 0, 25000]]}},
    "slide that slides": {"mount": {"creep_um_per_min": [60, 0]}},
    "another objective": {"camera": {"pixel_scale": 0.5}},
    "far too much light": {"sensor": {"electrons_per_ms": 8e6}},
    "far too little light": {"sensor": {"electrons_per_ms": 0.01}},
}


def describe(folder: Path, size_px: tuple[int, int], **options: Any) -> Path:
    """A hardware file whose options hide a truth that its other fields do not tell."""
    content = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    content["camera"]["size_px"] = list(size_px)
    content["led_array"]["geometry"] = "shipped:leds_43.csv"
    content["options"] |= options
    folder.mkdir(parents=True)
    path = folder / "scope.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def run(*words: object) -> tuple[int, dict[str, Any]]:
    """A calibration by the command line: exit code and what it says as JSON."""
    result = CliRunner().invoke(app, ["calibrate", *map(str, words), "--json"])
    return result.exit_code, json.loads(result.stdout)


def pixel_size(folder: Path, camera: dict[str, Any], seed: int) -> bool:
    """Pixel size, rotation, mirror and backlash of a camera."""
    stage = {"repeatability_um": 0.3, "backlash_um": 2.0 + seed}
    path = describe(folder, SIZE_PX, camera=camera, stage=stage, smear={"seed": seed})
    code, found = run("pixel-size", "--hardware", path)
    if code:
        print(f"pixel size {camera}: {found['error']['message']}", flush=True)
        return False
    size = found["pixel_um"] / (PITCH_UM / 20 * camera["pixel_scale"]) - 1
    turn = (found["rotation_deg"] - camera["rotation_deg"] + 180) % 360 - 180
    play = max(abs(b - stage["backlash_um"]) for b in found["backlash_um"])
    print(
        f"pixel size {camera}: {100 * size:+.4f} % (said ± "
        f"{100 * found['pixel_um_error'] / found['pixel_um']:.4f} %), rotation {turn:+.4f} deg "
        f"(said ± {found['rotation_deg_error']:.4f}), backlash off by {play:.3f} um, "
        f"mirror {'right' if found['mirrored'] == camera['mirrored'] else 'WRONG'}",
        flush=True,
    )
    is_right = found["mirrored"] == camera["mirrored"] and play < 0.2
    return is_right and abs(size) <= PIXEL and abs(turn) <= ROTATION_DEG


def objectives(folder: Path, truth: dict[str, float], seed: int) -> bool:
    """Scale, rotation and offsets of the 100x objective."""
    path = describe(
        folder, SIZE_PX, objectives={"100x": truth | {"offset_z_um": 5.0}}, smear={"seed": seed},
        camera={"mirrored": bool(seed % 2)},
    )  # fmt: skip
    if seed % 2:  # the file knows it, as it does after a calibration of the pixel size
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["camera"]["mirrored"] = True
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    code, found = run("objectives", "--hardware", path)
    if code:
        print(f"objectives {truth}: {found['error']['message']}", flush=True)
        return False
    scale = found["scale"] / (5 * truth["scale"]) - 1
    turn = found["rotation_deg"] - truth["rotation_deg"]
    wanted = (18 + truth["offset_x_um"], -11 + truth["offset_y_um"], 17.0)
    off = [f - w for f, w in zip(found["offset_um"], wanted, strict=True)]
    print(
        f"objectives {truth}: scale {100 * scale:+.4f} % (said ± "
        f"{100 * found['scale_error'] / found['scale']:.4f} %), rotation {turn:+.4f} deg, "
        f"x {off[0]:+.3f}, y {off[1]:+.3f}, z {off[2]:+.2f} um",
        flush=True,
    )
    return abs(scale) <= SCALE and max(abs(off[0]), abs(off[1])) < 0.5


def flat_field(folder: Path, on_glass: bool, seed: int) -> bool:
    """Surfaces, dust and dead pixels of a sensor."""
    bare = {"bare_um": [[0, 75000, 0, 25000]]} if on_glass else {}
    sensor = {"vignette": 0.15, "seed": seed}
    path = describe(folder, (400, 300), smear={"seed": seed} | bare, sensor=sensor)
    code, found = run("flatfield", "--hardware", path)
    if code:
        print(f"flat field: {found['error']['message']}", flush=True)
        return False
    sensor_now = open_world(load_hardware(path)).sensor
    (calibration,) = read_calibrations(load_hardware(path))
    assert isinstance(calibration, FlatField)
    rms = {
        label: _rms(FlatSurface.unpack(text), sensor_now.flat)
        for label, text in calibration.surfaces.items()
    }
    dead = sorted((int(x), int(y)) for y, x in zip(*sensor_now._dead, strict=True))
    right = sorted(map(tuple, found["dead"])) == dead
    shade = 1 - sensor_now.flat / _vignette(sensor_now.flat.shape)
    false = [s for s in found["dust"] if shade[round(s["y"]), round(s["x"])] < 0.005]
    print(
        f"flat field {'on glass' if on_glass else 'on a smear'}, seed {seed}: bright field "
        f"{100 * rms['brightfield']:.2f} % rms, single LEDs at most "
        f"{100 * max(rms.values()):.2f} %; dust: {len(found['dust']) - len(false)} of 6 specks "
        f"and {len(false)} false; dead pixels {'right' if right else 'WRONG'}",
        flush=True,
    )
    return right and not false and max(rms.values()) < 0.01


def _vignette(shape: tuple[int, ...]) -> np.ndarray:
    """What the sensor's flat field is without dust."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius_2 = (y - (shape[0] - 1) / 2) ** 2 + (x - (shape[1] - 1) / 2) ** 2
    return 1 - 0.15 * radius_2 / ((shape[0] ** 2 + shape[1] ** 2) / 4)


def exposures(folder: Path, seed: int) -> bool:
    """The level of every image with the exposures that were found, as they are and in 6 levels."""
    path = describe(folder, (400, 300), seed=seed, smear={"seed": seed}, led_spread=0.4)
    hardware = load_hardware(path)
    na = hardware.objective(hardware.low_power).na
    frames = load_recipe("le36deg-nohe").light(hardware.geometry(), na)
    stop = StopRequest()
    with open_microscope(hardware) as microscope:
        images, taken = [0], []

        def told(what: str, done: int, count: int) -> None:
            if what == "measuring exposures":
                taken.append(images[0])
            images[0] = 0

        def counted(exposure_ms: float, gain: float = 1.0) -> np.ndarray:
            images[0] += 1
            return Microscope.snap(microscope, exposure_ms, gain)

        bench = BrightFieldBench(microscope, GradientFocusMeasure(), stop, told)
        bench.settle(11_000, 5_600)
        microscope.snap = counted  # type: ignore[method-assign]
        images[0] = 0
        table, _ = measure_exposures(bench, frames)
        exact, snapped = (
            max(abs(_level(microscope, frame, each) - 1) for frame in frames)
            for each in (table, level_exposures(table, 6, dim=True))
        )
    print(
        f"exposures, seed {seed}: {len(frames)} images at most {100 * exact:.1f} % off, in 6 "
        f"levels {100 * snapped:.1f} %; at most {max(taken)} images an LED",
        flush=True,
    )
    return exact <= EXACT and snapped <= SNAPPED and max(taken) <= MOST_IMAGES


def _level(microscope: Microscope, lit: LitFrame, table: ExposureTable) -> float:
    """The level of an image over the wanted one."""
    found, camera = table.rows[lit.frame], microscope.hardware.camera
    leds = [led.led for led in lit.leds]
    microscope.light(leds, found.brightness * lit.weight, lit.colour)
    image = microscope.snap(found.exposure_ms, found.gain)
    level = float(np.percentile(image.reshape(-1, 3), PERCENTILE, axis=0).max())
    full = 2**camera.bit_depth - 1
    return (level - camera.black_level) / (TARGET * full - camera.black_level)


def _rms(surface: np.ndarray, flat: np.ndarray) -> float:
    rows, columns = surface.shape[:2]
    parts = [
        [float(np.median(part)) for part in np.array_split(band, columns, axis=1)]
        for band in np.array_split(flat, rows, axis=0)
    ]
    truth = np.array(parts) / np.mean(parts)
    return float(np.sqrt(((surface.mean(axis=2) / truth - 1) ** 2).mean()))


def refused(folder: Path, what: str, options: dict[str, Any]) -> bool:
    """Whether what cannot be measured is told with a page, and nothing written over."""
    path = describe(folder, (360, 270), **options)
    kept = path.with_name("scope.calibration") / "pixel-size_20x.yaml"
    code, found = run("pixel-size", "--hardware", path)
    page = kept.with_name("pixel-size_20x.failed.html")
    is_told = code in (2, 3) and page.is_file() and not kept.exists()
    message = found["error"]["message"] if "error" in found else "MEASURED"
    print(f"{what}: exit {code}, {message.replace(str(folder), '')[:150]}", flush=True)
    return is_told


def main() -> int:
    """All of them; 1 where any target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one of each")
    parser.add_argument("--only", default="", help="parts of the benchmark whose name contains it")
    arguments = parser.parse_args()
    quick = arguments.quick
    began, cpu = time.monotonic(), time.process_time()
    some = 1 if quick else None
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        parts: dict[str, Callable[[], list[bool]]] = {
            "pixel sizes": lambda: [
                pixel_size(root / f"camera{n}", camera, n)
                for n, camera in enumerate(CAMERAS[:some])
            ],
            "objectives": lambda: [
                objectives(root / f"lens{n}", truth, n) for n, truth in enumerate(TRUTHS[:some])
            ],
            "flat fields": lambda: [
                flat_field(root / f"flat-{on_glass}-{seed}", on_glass, seed)
                for on_glass, seeds in ((True, 2), (False, SEEDS))[:some]
                for seed in range(1, 1 + (some or seeds))
            ],
            "exposures": lambda: [
                exposures(root / f"exposures{seed}", seed) for seed in range(1, 1 + (some or SEEDS))
            ],
            "told why not": lambda: [
                refused(root / what.replace(" ", "-"), what, options)
                for what, options in list(IMPOSSIBLE.items())[:some]
            ],
        }
        counts = {what: take() for what, take in parts.items() if arguments.only in what}
    for what, good in counts.items():
        print(f"{what}: {sum(good)} of {len(good)} within their targets")
    print(f"{time.monotonic() - began:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    return 0 if all(all(good) for good in counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
