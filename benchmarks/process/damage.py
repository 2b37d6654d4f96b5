"""Damage to scans and data sets: what reaches a sample or a picture, and what checksums cost.

    python benchmarks/process/damage.py [--quick] [--seed 0]

A scan of two fields on the simulated microscope (440 x 440 px, recipe le8deg, all passes) and its
data set are damaged, one copy after the other: 200 single bits flipped and 50 files deleted, drawn
by bytes and by files from all that the passes and the data set consist of; 50 more bits are flipped
in their text: metadata and tables.
After each, everything is read as commands read it: whole frames, parts of frames and the lower
levels of every position, all samples and targets, the table. Outcomes:

    named       an error that names the file or the position
    harmless    what is read is what was written, pixel by pixel and row by row
    UNNOTICED   something else is read, without an error
    a bug       an error of another kind

Pixels and metadata are counted apart: nothing sums up the text files, which people may edit. Then
builds of damaged scans from one end to the other, compared with the samples of the whole one.

Costs: CPU seconds of this process (user) for 1920 x 1200 frames and for samples of 74 images, with
and without checksums, alternating; the least of the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import tensorstore
import yaml

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.store.images import checksum
from plsctl.acquire.store.ome_zarr import create_array, one_core, open_array
from plsctl.acquire.store.reader import PassReader
from plsctl.process.building.builder import build_dataset
from plsctl.process.dataset.format import create_array as create_samples
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import SplitSettings

PASSES = ("unstained", "stained", "highres")
UNDIVIDED = SplitSettings(ratios=None)
SLIDE = """\
slide: tiny
hardware: tiny_microscope.yaml
region: {x_um: [10000, 10200], y_um: [5000, 5100], overlap: 0.05}
recipe: le8deg
exposures: exposures_20x.csv
focus: {mode: fixed}
slide_return: {fields: 2}
passes:
  unstained: {objective: 20x}
  stained: {objective: 20x}
  highres: {objective: 100x, exposures: exposures_100x.csv}
"""


def main() -> None:
    """Make the scan, damage it, and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the trials, small frames")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    flips, deletions, builds, repeats = (40, 10, 2, 2) if options.quick else (200, 50, 24, 5)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = make_scan(folder)
        data = build_dataset([scan], folder / "tiny.zarr", split=UNDIVIDED).path
        rng = np.random.default_rng(options.seed)
        trials(folder, scan, data, flips, deletions, rng)
        print_builds(folder, scan, data, builds, rng)
        print_costs(folder, (480, 480) if options.quick else (1200, 1920), repeats)


def make_scan(folder: Path) -> Path:
    """All passes of two fields."""
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.cli.app import app

    shipped = load_hardware("simulator_small").file
    for table in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
        shutil.copy(shipped.parent / table, folder / table)
    hardware = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    hardware["led_array"]["geometry"] = "leds_43.csv"
    hardware["camera"]["size_px"] = [440, 440]
    hardware["options"] |= {
        "smear": {"white_cells_per_mm2": 300},
        "mount": {"focus_error_um": 0.0, "tilt_um_per_mm": 0.0, "drift_um_per_min": 0.0},
    }
    (folder / "tiny_microscope.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
    (folder / "slide.yaml").write_text(SLIDE, encoding="utf-8")
    for name in PASSES:
        try:
            app(["scan", str(folder / "slide.yaml"), "--pass", name, "--out", str(folder / "scans"),
                 "--force"])  # fmt: skip
        except SystemExit as ended:
            if ended.code:
                raise
    return folder / "scans" / "tiny"


def read_scan(scan: Path) -> dict[str, object]:
    """Everything that commands read of the passes: pixels by their checksums, and places."""
    found: dict[str, object] = {}
    for name in PASSES:
        reader = PassReader(scan / f"{name}.ome.zarr")
        for place in reader.positions:
            width, height = reader.size_px(place.name)
            boxes = [(0, 0, width // 2, height), (width // 2, 0, width, height)]
            found[f"{name} {place.name} place"] = place
            for index in range(len(reader.labels)):
                key = f"{name} {place.name} {index}"
                found[key] = [checksum(reader.raw_frame(place.name, index, n)) for n in (0, 1, 2)]
                parts = reader.planes(place.name, index, boxes)
                found[key + " parts"] = [checksum(part) for part in parts]
        found[name] = reader.attributes
    return found


def read_data(path: Path) -> dict[str, object]:
    """All samples, targets and rows of a data set."""
    data = Dataset.open(path)
    numbers = range(len(data))
    found: dict[str, object] = {"table": data.table.to_csv(), "attributes": data.attributes}
    found["input"] = [checksum(stack) for stack in data.read_input(numbers)]
    for name in data.targets:
        found[name] = [checksum(crop) for crop in data.read_target(name, numbers)]
    return found


def outcome(read: Callable[[], dict[str, object]], whole: dict[str, object]) -> str:
    """What became of a damage."""
    try:
        return "harmless" if read() == whole else "UNNOTICED"
    except (DamagedData, UserError):
        return "named"
    except Exception as error:
        return f"a bug ({type(error).__name__})"


def flip(file: Path, rng: np.random.Generator) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def is_pixels(file: Path) -> bool:
    """Whether a file holds pixels; the others are text."""
    return file.suffix not in (".json", ".csv")


def trials(
    folder: Path, scan: Path, data: Path, flips: int, deletions: int, rng: np.random.Generator
) -> None:
    """Damage copies of the scan and of the data set, and print the outcomes."""
    roots: dict[Path, Callable[[Path], dict[str, object]]] = {scan: read_scan, data: read_data}
    whole = {root: read(root) for root, read in roots.items()}
    files = [
        (root, file)
        for root in roots
        for file in sorted(root.rglob("*"))
        if file.is_file() and (root == data or ".ome.zarr" in str(file))
    ]
    sizes = np.array([file.stat().st_size for _, file in files], float)
    counts: dict[tuple[str, str], Counter[str]] = {}
    equal, text = np.ones(len(files)), np.array([not is_pixels(file) for _, file in files])
    kinds = (
        ("bit flipped", flips, sizes),
        ("deleted", deletions, equal),
        ("bit flipped in text", flips // 4, sizes * text),
    )
    for kind, count, weights in kinds:
        for choice in rng.choice(len(files), count, p=weights / weights.sum()):
            root, file = files[choice]
            kept = file.read_bytes()
            file.unlink() if kind == "deleted" else flip(file, rng)
            found = outcome(lambda root=root: roots[root](root), whole[root])
            file.write_bytes(kept)
            key = (kind, "pixels" if is_pixels(file) else "text")
            counts.setdefault(key, Counter())[found] += 1
            if found not in ("named", "harmless") and is_pixels(file):
                print(f"  {kind} {found}: {file.relative_to(folder)}")
    for (kind, what), found in sorted(counts.items()):
        listed = ", ".join(f"{n} {name}" for name, n in found.most_common())
        print(f"{kind}, {what}: {found.total()} in {len(files)} files: {listed}")


def print_builds(
    folder: Path, scan: Path, data: Path, count: int, rng: np.random.Generator
) -> None:
    """Builds of scans with one damaged file of pixels, and with --skip-damaged."""
    whole = Dataset.open(data)
    cells = {
        (row.position, row.cell): checksum(whole.read_input([row.sample])[0])
        for row in whole.table.itertuples()
    }
    files = [p for p in sorted(scan.rglob("*/0/0/c/*/*/*/*/*")) if p.is_file()]
    found: Counter[str] = Counter()
    for number in range(count):
        file = files[int(rng.integers(len(files)))]
        kept = file.read_bytes()
        flip(file, rng) if number % 2 else file.unlink()
        try:
            build_dataset([scan], folder / "x.zarr", split=UNDIVIDED, overwrite=True)
            found["built" if same_samples(folder / "x.zarr", cells) else "UNNOTICED"] += 1
        except DamagedData:
            found["refused, file named"] += 1
        rest = build_dataset(
            [scan], folder / "x.zarr", split=UNDIVIDED, overwrite=True, skip_damaged=True
        )
        good = same_samples(folder / "x.zarr", cells) and len(rest.damaged) == 1
        found["the rest built with --skip-damaged" if good else "WRONG with --skip-damaged"] += 1
        file.write_bytes(kept)
        shutil.rmtree(folder / "x.zarr")
    listed = ", ".join(f"{n} {name}" for name, n in found.items())
    print(f"builds with one damaged frame: {count}: {listed}")


def same_samples(path: Path, cells: dict[tuple[str, int], int]) -> bool:
    """Whether every sample of a data set is what the whole scan gave."""
    data = Dataset.open(path)
    return all(
        checksum(data.read_input([row.sample])[0]) == cells.get((row.position, row.cell))
        for row in data.table.itertuples()
    )


def without_checksums(array: Path) -> None:
    """Make an array anew as it was before: its chunks carry no checksums."""
    metadata = json.loads((array / "zarr.json").read_text(encoding="utf-8"))
    inner = metadata["codecs"][0]["configuration"]["codecs"]
    inner[:] = [codec for codec in inner if codec["name"] != "crc32c"]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    shutil.rmtree(array)
    tensorstore.open(spec | {"metadata": metadata}, create=True).result()


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of this process, user, for a piece of work."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - before


def print_costs(folder: Path, size: tuple[int, int], repeats: int) -> None:
    """What checksums cost in writing and reading."""
    rng = np.random.default_rng(1)
    light = cv2.GaussianBlur(rng.normal(0, 1, size).astype(np.float32), (0, 0), 6)
    light = 170 + 30 * light / light.std()
    frames = [
        np.clip(light + rng.normal(0, 3, (3, *size)), 0, 255).astype(np.uint8) for _ in range(20)
    ]
    left = rng.integers(0, min(size) - 64, (20, 2))
    least: dict[str, list[float]] = {}

    def add(what: str, seconds: float) -> None:
        least.setdefault(what, []).append(seconds / len(frames) * 1e3)

    for _ in range(repeats):
        for kind in ("with", "without"):
            path = folder / "frames"
            shutil.rmtree(path, ignore_errors=True)
            create_array(path, (len(frames), 3, 1, *size), np.uint8)
            if kind == "without":
                without_checksums(path)
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)},
                    "store_data_equal_to_fill_value": True}  # fmt: skip
            array = tensorstore.open(spec, write=True, context=one_core()).result()
            add(f"writing a frame, {kind}", spent(
                lambda array=array: [array[n, :, 0].write(f).result() for n, f in enumerate(frames)]
            ))  # fmt: skip
            stored = open_array(path, one_core()).array
            add(f"reading a frame, {kind}", spent(
                lambda stored=stored: [stored[n, :, 0].read().result() for n in range(len(frames))]
            ))  # fmt: skip
            add(f"reading 20 windows of a frame, {kind}", spent(
                lambda stored=stored: [
                    stored[n, :, 0, y : y + 64, x : x + 64].read().result()
                    for n in range(len(frames)) for y, x in left
                ]
            ))  # fmt: skip
    images = [np.ascontiguousarray(np.moveaxis(frame, 0, -1)) for frame in frames]
    for _ in range(repeats):
        add("comparing a whole frame (CRC-32)", spent(lambda: [checksum(i) for i in images]))
    print(f"\nCPU ms (user, one core) a frame of {size[1]} x {size[0]}, least of {repeats}:")
    for what, found in least.items():
        print(f"  {what:44s} {min(found):7.2f}")
    sample_costs(folder, repeats)


def sample_costs(folder: Path, repeats: int) -> None:
    """Writing shards of samples and reading random batches of them."""
    rng = np.random.default_rng(1)
    shape, count = (74, 3, 64, 64), 128
    smooth = cv2.GaussianBlur(rng.normal(0, 1, (64, 64)).astype(np.float32), (0, 0), 4)
    block = np.clip(
        150 + 200 * smooth + rng.normal(0, 3, (count, *shape)), 0, 255
    ).astype(np.uint8)  # fmt: skip
    order = rng.permutation(count)
    least: dict[str, list[float]] = {}
    for _ in range(repeats):
        for kind in ("with", "without"):
            path = folder / "samples"
            shutil.rmtree(path, ignore_errors=True)
            create_samples(path, shape, np.dtype(np.uint8), count, "lz4")
            if kind == "without":
                without_checksums(path)
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
            array = tensorstore.open(spec, write=True, context=one_core()).result()
            array = array.resize(exclusive_max=[count, *shape]).result()
            writing = spent(lambda array=array: array[:count].write(block).result())
            array = tensorstore.open(spec, read=True, context=one_core()).result()
            reading = spent(
                lambda array=array: [
                    array[order[n : n + 16]].read().result() for n in range(0, count, 16)
                ]
            )
            least.setdefault(f"writing a sample, {kind}", []).append(writing)
            least.setdefault(f"reading a sample, {kind}", []).append(reading)
    print("CPU ms (user, one core) a sample of 74 images of 64 x 64:")
    for what, found in least.items():
        print(f"  {what:44s} {min(found) / count * 1e3:7.2f}")


if __name__ == "__main__":
    main()
