"""How fast random batches of whole samples are read: `python benchmarks/dataset_reading.py`.

Batches of 20 samples of 74 RGB images from a warm cache, through `Dataset` (tensorstore) and
through zarr-python's `oindex`, which a user may be tempted by; and from memory, as training holds
data sets that fit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from plsctl.acquire.plans.recipes import recipe
from plsctl.models.data.batches import SampleSource
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter

BATCH = 20


def write(path: Path, count: int, compression: Any) -> float:
    """Write samples with a smooth picture and shot noise; samples a second."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.uniform(0, 255, (64, 64)), 6)
    noise = rng.normal(0, 4, (BATCH, 74, 3, 64, 64))
    stacks = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    frames = [{"label": frame.label} for frame in recipe("full")]
    start = time.perf_counter()
    with DatasetWriter(
        path, frames, recipe="full", pixel_um=0.293, compression=compression
    ) as writer:
        for _ in range(count // BATCH):
            rows = pd.DataFrame({"slide": ["S"] * BATCH, "split": "train"})
            writer.append(stacks, {"20x": stacks[:, 0]}, rows)
        writer.finish()
    return count / (time.perf_counter() - start)


def rate(read: Callable[[NDArray[np.int64]], object], count: int, batches: int) -> float:
    """Samples a second over random batches."""
    rng = np.random.default_rng(1)
    read(np.arange(BATCH))
    start = time.perf_counter()
    for _ in range(batches):
        read(np.sort(rng.choice(count, BATCH, replace=False)))
    return batches * BATCH / (time.perf_counter() - start)


def main() -> None:
    """Print samples a second for each codec and reader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--batches", type=int, default=20)
    given = parser.parse_args()
    for compression in ("lz4", "none"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.zarr"
            written = write(path, given.samples, compression)
            data = Dataset.open(path)
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            plain: Any = zarr.open_group(path, mode="r")["input"]
            held = SampleSource(data, "train", range(74), "20x", memory_gb=64)
            readers: dict[str, Callable[[NDArray[np.int64]], object]] = {
                "Dataset (tensorstore)": data.read_input,
                "Dataset, 14 of 74 images": partial(data.read_input, recipe="le18deg"),
                "held in memory": held.take,
            }
            print(f"{compression}: {size / given.samples / 1e6:.2f} MB a sample")
            print(f"  {'written':26s} {written:8.0f} samples/s")
            for name, read in readers.items():
                found = rate(read, given.samples, given.batches)
                print(f"  {name:26s} {found:8.0f} samples/s")
            slow = rate(plain.oindex.__getitem__, given.samples, 2)
            print(f"  {'zarr-python, oindex':26s} {slow:8.0f} samples/s")


if __name__ == "__main__":
    main()
