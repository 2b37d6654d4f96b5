"""Controls: what is left of a network's scores when what it should learn is taken away.

    python benchmarks/models/controls.py [--out FOLDER] [--quick]

Simulated slides of different smears and stains; one `fast` network for each control and seed is
trained on some slides, and measured on the others.

- `as it is`: nothing is changed.
- `targets permuted`: each cell gets the stained image of another cell of its slide and split.
- `colours exchanged`: the colours of each stained image change places at random, so that the
  light tells where stain is, and nothing of its colour.
- `LEDs shuffled`: the LED images of each stack change places at random, all but the bright field,
  so that it is not known from where the light came; mean and deviation of a place stay.

Beside SSIM stands that of the chroma (the image less the mean of its three colours). Intervals are
over cells, slides and seeds, the widest of them. Runs that are finished are kept: the same command
goes on. About 11 minutes of one core.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from plsctl.acquire.files.shipped import shipped_file
from plsctl.models.classification.cell_types import CellTypeReader
from plsctl.models.classification.labelled_cells import types_of
from plsctl.models.evaluation.evaluate import mean_targets
from plsctl.models.metrics.intervals import mean_interval
from plsctl.models.metrics.similarity import mean_absolute_error, ssim_colour
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter

PLSCTL = [sys.executable, "-c", "from plsctl.cli.app import main; main()"]
TARGET = "100x"
VALIDATION = 8
"""Every so manieth cell of the slides to train on chooses the best epoch."""

Images = NDArray[np.uint8]
Values = NDArray[np.float64]
Change = Callable[[Images, Images, np.random.Generator], tuple[Images, Images]]


@dataclass(frozen=True)
class Size:
    """How much is rendered and trained."""

    train_slides: int = 3
    test_slides: int = 3
    train_cells: int = 72
    test_cells: int = 30
    seeds: int = 3
    steps: int = 240
    recipe: str = "full-nohe"
    reads_types: bool = True


QUICK = Size(1, 1, 16, 8, 1, 4, "le8deg", reads_types=False)


# Controls ----------------------------------------------------------------------------------------


def unchanged(stacks: Images, targets: Images, _: np.random.Generator) -> tuple[Images, Images]:
    """As it is."""
    return stacks, targets


def permuted(stacks: Images, targets: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """Each cell with the stained image of another."""
    order = rng.permutation(len(targets))
    changed = np.empty_like(targets)
    changed[order] = targets[np.roll(order, 1)]
    return stacks, changed


def exchanged(stacks: Images, targets: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """The three colours of each stained image in any order."""
    return stacks, _reordered(targets, rng)


def shuffled(stacks: Images, targets: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """The LED images of each stack in any order; the bright field, the first, stays."""
    leds = stacks[:, 1:].astype(np.float32)
    mean, deviation = (f(leds, axis=(0, 3, 4), keepdims=True) for f in (np.mean, np.std))
    # A faint LED's image in a bright one's place must not be told by its faintness.
    moved = _reordered((leds - mean) / deviation, rng) * deviation + mean
    counts = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    return np.concatenate([stacks[:, :1], counts], axis=1), targets


def _reordered(images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Each of the images (n, k, ...) with its k parts in another order."""
    return np.stack([image[rng.permutation(len(image))] for image in images])


CONTROLS: dict[str, Change] = {
    "as it is": unchanged,
    "targets permuted": permuted,
    "colours exchanged": exchanged,
    "LEDs shuffled": shuffled,
}


# Data sets and runs ------------------------------------------------------------------------------


def plsctl(*arguments: object) -> None:
    """A command; what it says goes to standard error."""
    subprocess.run([*PLSCTL, *map(str, arguments)], check=True, stdout=sys.stderr)


def slide(folder: Path, number: int, cells: int, recipe: str) -> Dataset:
    """The cells of one slide, of all types alike often."""
    path = folder / f"slide-{number}.zarr"
    if not path.exists():
        hardware = yaml.safe_load(shipped_file("simulator_small.yaml").read_text("utf-8"))
        hardware["options"]["smear"] |= {"seed": number, "proportions": "balanced"}
        file = folder / f"slide-{number}.yaml"
        file.write_text(yaml.safe_dump(hardware), "utf-8")
        for name in ("exposures_20x.csv", "exposures_100x.csv"):
            shutil.copy(shipped_file(name), folder)
        options = ["--cells", cells, "--recipe", recipe, "--hardware", file, "-o", path]
        plsctl("simulate", "dataset", *options)
    return Dataset.open(path)


def write(out: Path, slides: Sequence[Dataset], train_slides: int, change: Change) -> Dataset:
    """One data set of all slides, changed; the first slides are to train on."""
    if out.exists():
        return Dataset.open(out)
    first, random = slides[0], np.random.default_rng(0)
    kept = ("black_level", "full_scale", "camera_rotation_deg", "camera_mirrored")
    attributes = {name: getattr(first.attributes, name) for name in kept}
    names = [data.path.stem for data in slides]
    writer = DatasetWriter(
        out,
        first.frames,
        recipe=first.recipe,
        pixel_um=first.pixel_um,
        targets=(TARGET,),
        attributes=attributes | {"slides": names},
    )
    with writer:
        for number, (name, data) in enumerate(zip(names, slides, strict=True)):
            rows = data.table.drop(columns=["sample", "targets"])
            split = np.full(len(rows), "train" if number < train_slides else "test", object)
            if number < train_slides:
                split[::VALIDATION] = "validation"
            rows = rows.assign(slide=name, patient=name, split=split)
            for part in np.unique(split):
                numbers = np.flatnonzero(split == part)
                every = range(len(data.frames))
                stacks, targets = change(
                    data.read_images(numbers, every).astype(np.uint8),
                    data.read_target(TARGET, numbers).astype(np.uint8),
                    random,
                )
                writer.append(stacks, {TARGET: targets}, rows.iloc[numbers])
        writer.finish()
    return Dataset.open(out)


def trained(data: Dataset, out: Path, seed: int, steps: int) -> Run:
    """A network, trained or found finished, as `plsctl train fast` does."""
    options: dict[str, object] = {
        "data": data.path, "out": out, "seed": seed, "target": TARGET, "blocks": 1, "width": 16,
        "batch": 4, "steps": steps, "epochs": steps, "patience": steps, "learning_rate": 1e-3,
        "schedule": "cosine", "average": 0.98, "device": "cpu", "precision": "float32",
        "memory_format": "channels_last", "threads": 1,
    }  # fmt: skip
    train(config_from_options("fast", options))
    print(f"{out.name} is trained.", file=sys.stderr)
    return Run.open(out)


# Scores ------------------------------------------------------------------------------------------


def chroma(images: Images) -> Images:
    """The images (n, 3, y, x) less the mean of their colours, about the middle of the scale."""
    less = images - images.mean(axis=1, keepdims=True) + 128
    return np.clip(np.rint(less), 0, 255).astype(np.uint8)


MEASURES: dict[str, Callable[[Images, Images], Values]] = {
    "SSIM": ssim_colour,
    "chroma": lambda found, target: ssim_colour(chroma(found), chroma(target)),
    "MAE": mean_absolute_error,
}


@dataclass(frozen=True)
class Scores:
    """Of the cells of the test slides: each measure (seed, cell) by row, and kappa by row."""

    values: dict[str, dict[str, Values]]
    kappas: dict[str, list[float | None]]
    slides: NDArray[np.int64]

    def mean(self, values: Values) -> str:
        """The mean with the widest of the intervals over cells, slides and seeds."""
        seeds, cells = values.shape
        groups = (np.tile(np.arange(cells), seeds), np.tile(self.slides, seeds))
        by_seed = np.repeat(np.arange(seeds), cells)
        low, high = mean_interval(values.ravel(), (*groups, by_seed)) or (np.nan, np.nan)
        return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def score(runs: Sequence[Run], data: Dataset, reader: CellTypeReader | None) -> Scores:
    """Predictions of the seeds, and the rows without a network."""
    numbers = data.split("test", TARGET)
    targets = data.read_target(TARGET, numbers).astype(np.uint8)
    shape = targets.shape
    mean = np.broadcast_to(mean_targets(data, TARGET)["mean_target"], shape)
    rows: dict[str, list[Images]] = {"prediction": [], "mean_target": [mean], "unstained": []}
    for run in runs:
        predicted, bright = Predictor(run, precision="float32").predict_samples(data, numbers)
        rows["prediction"].append(predicted)
        rows["unstained"] = [bright]
    types = types_of(data, numbers)
    return Scores(
        {
            name: {
                m: np.stack([f(image, targets) for image in images]) for m, f in MEASURES.items()
            }
            for name, images in rows.items()
        },
        {
            name: [_kappa(reader, types, image, targets) for image in images]
            for name, images in rows.items()
        },
        np.asarray(pd.factorize(data.table.set_index("sample").loc[numbers, "slide"])[0]),
    )


def _kappa(
    reader: CellTypeReader | None, types: NDArray[np.str_], found: Images, targets: Images
) -> float | None:
    if reader is None:
        return None
    kappa = reader.compare(types, np.ascontiguousarray(found), targets).summary()["kappa"]
    return None if kappa is None else float(str(kappa))


def report(scores: dict[str, Scores]) -> None:
    """Print the tables."""
    for measure in MEASURES:
        print(f"\n| {measure} | prediction | `mean_target` | unstained | less `mean_target` |")
        print("| --- | --- | --- | --- | --- |")
        for name, found in scores.items():
            rows = {row: values[measure] for row, values in found.values.items()}
            less = found.mean(rows["prediction"] - rows["mean_target"])
            cells = [found.mean(rows["prediction"])]
            cells += [f"{rows[row].mean():.3f}" for row in ("mean_target", "unstained")]
            print(f"| {name} | {' | '.join(cells)} | {less} |")
    print("\n| kappa | prediction, seed by seed | `mean_target` | unstained |")
    print("| --- | --- | --- | --- |")
    for name, found in scores.items():
        cells = [
            ", ".join("-" if kappa is None else f"{kappa:.2f}" for kappa in found.kappas[row])
            for row in found.values
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    own = scores["as it is"]
    for measure in MEASURES:
        for name in ("LEDs shuffled", "as it is, on shuffled LEDs"):
            other = scores[name].values["prediction"][measure]
            less = own.mean(own.values["prediction"][measure] - other)
            print(f"{measure}, as it is less {name}: {less}")


def main() -> None:
    """Render, train, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of data sets and runs, to go on with")
    parser.add_argument("--quick", action="store_true", help="two small slides, hardly trained")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        run_all(out, QUICK if given.quick else Size())


def run_all(out: Path, size: Size) -> None:
    """Every control."""
    counts = [size.train_cells] * size.train_slides + [size.test_cells] * size.test_slides
    slides = [slide(out, n, cells, size.recipe) for n, cells in enumerate(counts, start=1)]
    sets = {
        name: write(out / f"{name.replace(' ', '-')}.zarr", slides, size.train_slides, change)
        for name, change in CONTROLS.items()
    }
    runs: dict[str, list[Run]] = {name: [] for name in sets}
    for seed in range(size.seeds):
        for name, data in sets.items():
            folder = out / f"{data.path.stem}-{seed}"
            runs[name].append(trained(data, folder, seed, size.steps))
    own = sets["as it is"]
    reader = CellTypeReader(own, TARGET, device=torch.device("cpu")) if size.reads_types else None
    # The reader knows stained cells in their colours only.
    readers = dict.fromkeys(sets, reader) | {"colours exchanged": None}
    scores = {name: score(runs[name], data, readers[name]) for name, data in sets.items()}
    scores["as it is, on shuffled LEDs"] = score(runs["as it is"], sets["LEDs shuffled"], reader)
    report(scores)


if __name__ == "__main__":
    main()
