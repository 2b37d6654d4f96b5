"""How long building a data set takes, against the bare reading of the frames it is made from.

    python benchmarks/process/building.py --out FOLDER [--slides 4] [--repeats 2] [--fields 4 3]
    python benchmarks/process/building.py --quick

Makes a scan once on the simulated microscope (1920 x 1200; --quick 800 x 600, one field, two
slides), widens its unstained pass to the 74 frames of the recipe `full`, and measures, each in a
fresh process:
reading every frame of all passes with tensorstore and nothing else; what is measured once per
slide; the whole job with one worker and with two; the most memory that its processes held
together. The libraries of all of them are kept to one thread.

A scan has 12 positions and some 20 cells in each (`--white-cells-per-mm2 125`). Real slides have
hundreds of positions and a few cells in each: what is done once per slide weighs less there, and
so do the cells. Copies of the scan under other slide names (--slides) make the job longer, so
that the start of processes does not count for much. CPU seconds, unlike seconds, mean something
on a machine that is busy with other things too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

if TYPE_CHECKING:
    from plsctl.acquire.store.records import FrameRecord


def main() -> None:
    """Run the benchmark, or one of its measurements in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="scans are kept here and used again")
    parser.add_argument("--fields", type=int, nargs=2, default=(4, 3), metavar=("X", "Y"))
    parser.add_argument("--white-cells-per-mm2", type=float, default=125.0)
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--measure", choices=("read", "prepare", "build"), help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return
    if options.quick:
        options.fields, options.slides, options.repeats = (1, 1), 2, 1
    with tempfile.TemporaryDirectory() as folder:
        options.out = options.out or Path(folder)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Measure everything and print it."""
    prepare(options)
    rows = {
        "reading": [run(options, "read", 1) for _ in range(options.repeats)],
        "once per slide": [run(options, "prepare", 1) for _ in range(options.repeats)],
        "one worker": [run(options, "build", 1) for _ in range(options.repeats)],
        "two workers": [run(options, "build", 2) for _ in range(options.repeats)],
    }
    row = rows["one worker"][0]
    frames = rows["reading"][0]["frames"]
    print(f"{row['positions']} positions, {row['samples']} samples, {frames:.0f} frames")
    print("               seconds (each run)   CPU s, of this process and its workers   MB")
    best = {name: min(row["seconds"] for row in found) for name, found in rows.items()}
    spent = {name: min(row["cpu"] + row["workers_cpu"] for row in found)
             for name, found in rows.items()}  # fmt: skip
    for name, found in rows.items():
        every = ", ".join(f"{row['seconds']:.1f}" for row in found)
        own, others = (min(row[kind] for row in found) for kind in ("cpu", "workers_cpu"))
        memory = max(row["memory_mb"] for row in found)
        print(f"{name:14s} {best[name]:6.1f} ({every})   {own:.1f} + {others:.1f}   {memory:.0f}")
    for what, one, other in (
        ("whole job / reading", "one worker", "reading"),
        ("of that, once per slide", "once per slide", "reading"),
        ("one / two workers", "one worker", "two workers"),
    ):
        by_cpu = spent[one] / spent[other]
        if what == "one / two workers":
            by_cpu *= 2  # what two cores that are never idle would reach
        print(f"{what:24s} {best[one] / best[other]:.2f}   by CPU seconds {by_cpu:.2f}")


def run(options: argparse.Namespace, what: str, workers: int) -> dict[str, float]:
    """One measurement in a fresh process: seconds, CPU seconds of it and its workers, memory."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--out", str(options.out), "--measure", what]
    command += ["--workers", str(workers), "--slides", str(options.slides)]
    done = subprocess.run(
        command, env=os.environ | threads, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(options: argparse.Namespace) -> None:
    """Read or build, and print seconds and memory as JSON."""
    import cv2

    import plsctl.process.building.builder  # noqa: F401  (loading it is no part of the job)

    cv2.setNumThreads(1)
    scans = [options.out / f"slide{number}" for number in range(1, options.slides + 1)]
    before = os.times()
    with Memory() as memory:
        if options.measure == "read":
            row = read(scans)
        else:
            row = prepare_slides(scans) if options.measure == "prepare" else build(scans, options)
    cpu = [after - begun for after, begun in zip(os.times(), before, strict=True)]
    spent = {"cpu": sum(cpu[:2]), "workers_cpu": sum(cpu[2:4])}
    print(json.dumps({**row, **spent, "memory_mb": memory.most_mb}))


def read(scans: list[Path]) -> dict[str, float]:
    """Decode every frame of all passes by one thread, and do nothing with it."""
    from plsctl.acquire.store.folder import ScanFolder
    from plsctl.acquire.store.ome_zarr import one_core, open_array

    began, frames = time.perf_counter(), 0
    for scan in scans:
        for name in ("unstained", "stained", "highres"):
            reader = ScanFolder(scan).open_pass(name)
            for position in reader.names:
                array = open_array(reader.path / position / "0" / "0", one_core()).array
                for index in range(len(reader.labels)):
                    array[index].read().result()
                    frames += 1
    return {"seconds": time.perf_counter() - began, "frames": frames}


def prepare_slides(scans: list[Path]) -> dict[str, float]:
    """What a build measures of each slide before its first position."""
    from plsctl.acquire.store.folder import ScanFolder
    from plsctl.process.quality.frame_samples import frames_of_pass
    from plsctl.process.samples.highres_scale import measure_highres_scale

    began = time.perf_counter()
    for scan in scans:
        frames_of_pass(ScanFolder(scan).open_pass("unstained", one_core=True))
        measure_highres_scale(ScanFolder(scan))
    return {"seconds": time.perf_counter() - began}


def build(scans: list[Path], options: argparse.Namespace) -> dict[str, float]:
    """Build the data set of all slides."""
    from plsctl.process.building.builder import build_dataset
    from plsctl.process.dataset.splits import SplitSettings

    began = time.perf_counter()
    result = build_dataset(
        scans,
        options.out / "wbc.zarr",
        split=SplitSettings(ratios=None),
        workers=options.workers,
        overwrite=True,
    )
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "samples": result.samples, "positions": result.positions}


class Memory:
    """Watches what this process and its children hold of the memory, libraries counted once."""

    def __init__(self) -> None:
        self.most_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            held = [held_mb(process) for process in family(os.getpid())]
            now = sum(own for own, _ in held) + max(shared for _, shared in held)
            self.most_mb = max(self.most_mb, now)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()


def family(process: int) -> list[int]:
    """A process and all of its descendants (Linux)."""
    found = [process]
    for task in Path(f"/proc/{process}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        found += [number for child in children for number in family(int(child))]
    return found


def held_mb(process: int) -> tuple[float, float]:
    """Memory of a process: its own, and of files such as libraries (Linux); 0 if it has ended."""
    try:
        _, resident, of_files = Path(f"/proc/{process}/statm").read_text().split()[:3]
    except (OSError, ValueError):
        return 0.0, 0.0
    page_mb = os.sysconf("SC_PAGESIZE") / 2**20
    return (int(resident) - int(of_files)) * page_mb, int(of_files) * page_mb


def prepare(options: argparse.Namespace) -> None:
    """Scan the slide, widen its unstained pass, and copy it under the names of other slides."""
    first = options.out / "slide1"
    if not first.is_dir():
        narrow = scan(options)
        began = time.monotonic()
        shutil.rmtree(options.out / "wide", ignore_errors=True)
        widen(narrow, options.out / "wide")
        (options.out / "wide").rename(first)
        print(f"widened to 74 frames in {time.monotonic() - began:.0f} s", flush=True)
    for number in range(2, options.slides + 1):
        copy = options.out / f"slide{number}"
        if not copy.is_dir():
            shutil.copytree(first, copy, copy_function=os.link)
            rename_slide(copy)


def rename_slide(folder: Path) -> None:
    """Make a copy of a scan that of another slide."""
    cells = (folder / "cells.csv").read_bytes()
    (folder / "cells.csv").unlink()
    (folder / "cells.csv").write_bytes(cells)
    for path in folder.glob("*.ome.zarr/zarr.json"):
        group = json.loads(path.read_text(encoding="utf-8"))
        group["attributes"]["plsctl"]["slide"] = folder.name
        path.unlink()
        path.write_text(json.dumps(group), encoding="utf-8")


def scan(options: argparse.Namespace) -> Path:
    """All three passes of a slide on the simulated microscope, recipe le8deg."""
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.acquire.interrupt import StopRequest
    from plsctl.acquire.scanning.pass_run import run_pass
    from plsctl.acquire.scanning.scan import open_scan
    from plsctl.acquire.store.records import PASSES
    from plsctl.cli.shared.roles import make_roles

    options.out.mkdir(parents=True, exist_ok=True)
    described = load_hardware("simulator_small" if options.quick else "simulator")
    document = yaml.safe_load(described.file.read_text(encoding="utf-8"))
    document["options"]["smear"] = {"white_cells_per_mm2": options.white_cells_per_mm2}
    (options.out / "hardware.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    width, height = (size * described.pixel_um("20x") for size in described.camera.size_px)
    across, down = (1 + (count - 1) * 0.95 for count in options.fields)
    slide = {
        "slide": "slide1",
        "hardware": "hardware.yaml",
        "recipe": "le8deg",
        "exposures": "shipped:exposures_20x.csv",
        "region": {
            "x_um": [10000.0, 10000.0 + across * width],
            "y_um": [5000.0, 5000.0 + down * height],
        },
        "focus": {"points": 3},
    }
    (options.out / "slide.yaml").write_text(yaml.safe_dump(slide), encoding="utf-8")
    opened = open_scan(options.out / "slide.yaml", options.out / "scans")
    for name in PASSES:
        began = time.monotonic()
        if not opened.is_finished(name):
            run_pass(opened, name, lambda operator: make_roles(operator, True), StopRequest())
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return opened.folder.path


def full_frames(na: float) -> tuple[FrameRecord, ...]:
    """The frames of the recipe `full` on the simulated array."""
    from plsctl.acquire.devices.hardware import find_file, load_hardware
    from plsctl.acquire.plans.exposures import load_exposures
    from plsctl.acquire.plans.plan import frame_records

    hardware = load_hardware("simulator")
    exposures = load_exposures(find_file("exposures_20x.csv", hardware.file.parent))
    return frame_records("full", exposures, hardware.geometry(), na)


def widen(narrow: Path, wide: Path) -> None:
    """Copy a scan; its LED images become those of the recipe `full`, with noise of their own.

    Only the first image of a stack is matched, so the others need no more than the size, and the
    noise that decides how well they compress, of real ones.
    """
    from plsctl.acquire.store.reader import PassReader
    from plsctl.acquire.store.writer import PassWriter

    shutil.copytree(narrow, wide, ignore=shutil.ignore_patterns("unstained.ome.zarr"))
    reader = PassReader(narrow / "unstained.ome.zarr")
    known = reader.attributes
    frames = full_frames(known.na)
    attributes = known.model_copy(update={"recipe": "full", "frames": frames})
    writer = PassWriter(wide / "unstained.ome.zarr", attributes)
    rng = np.random.default_rng(0)
    for place in reader.positions:
        position = writer.position(place.name, (place.x_um, place.y_um, place.z_um))
        position.write(0, reader.raw_frame(place.name, 0))
        for index in range(1, len(frames)):
            image = reader.raw_frame(place.name, 1 + index % (len(known.frames) - 1))
            noise = rng.integers(0, 5, image.shape, dtype=np.uint8)
            position.write(index, np.minimum(image, 250) + noise)
        position.finish(reader.position_metadata(place.name))
    writer.finish()


if __name__ == "__main__":
    main()
