"""Report sections on a run: its curves, and its predictions beside the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.models.data.seen_samples import count_seen
from plsctl.models.evaluation.scores import JUDGING, seen_text
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.run import Run
from plsctl.models.staining.task import SSIM
from plsctl.process.dataset.reader import Dataset
from plsctl.process.pages.pictures import tile_sets
from plsctl.process.report.charts import curves
from plsctl.process.report.dataset import as_image, bar_note, spread_samples
from plsctl.process.report.page import Section, row
from plsctl.process.report.provenance import Pairs, exposure_range

_SHOWN = 16
_NOT_SHOWN = {"data", "out", "model", "recipe", "target", "seed"}


@dataclass(frozen=True)
class CellImages:
    """Cells of a split: images (n, 3, y, x) of each kind."""

    split: str
    numbers: list[int]
    layers: dict[str, NDArray[np.generic]]
    data: Dataset
    seen: str
    """What the network knows of them, in words."""


def predicted_cells(run: Run) -> CellImages | None:
    """Cells of the test split, unstained, as predicted and stained; None where that cannot be.

    Of data sets without one, of the validation split, or of the training split.
    """
    if not (run.path / "best.safetensors").is_file() or not run.config.data.exists():
        return None
    data = Dataset.open(run.config.data)
    target = run.metadata.target
    split = next((x for x in (*JUDGING, "train") if data.has_split(x, target)), None)
    if split is None:
        return None
    numbers = spread_samples(data, _SHOWN, [int(number) for number in data.split(split, target)])
    seen = count_seen(run, data, np.array(numbers, dtype=np.int64)).as_dict()
    predicted, bright = Predictor(run).predict_samples(data, numbers)
    real = data.read_target(run.metadata.target, numbers)
    layers = {"unstained": bright, "virtually stained": predicted, "really stained": real}
    return CellImages(split, numbers, layers, data, seen_text(split, len(numbers), seen))


def curve_section(run: Run) -> Section | None:
    """Loss and similarity over the epochs; None before the first has ended."""
    if not (run.path / "curve.csv").is_file():
        return None
    history = pd.read_csv(run.path / "curve.csv")
    epochs = history["epoch"].tolist()
    judged = "validation_loss" if "validation_loss" in history else "train_loss"
    best = int(history.loc[history[judged].idxmin(), "epoch"])
    losses = {
        name: (epochs, history[f"{split}_loss"].tolist())
        for name, split in (("training", "train"), ("validation", "validation"))
        if f"{split}_loss" in history
    }
    metadata = run.metadata
    note = (
        f"{run.config.model} on {len(metadata.labels)} images a sample ({metadata.recipe}), target "
        f"{metadata.target}: {metadata.parameters:,} parameters, "
        f"{metadata.samples.get('train', 0)} training samples, "
        f"{len(epochs)} epochs in {history['seconds'].iloc[-1] / 60:.1f} min. "
        f"The dashed line marks the epoch whose weights were kept ({best}), that of the lowest "
        f"{judged.removesuffix('_loss').replace('train', 'training')} loss."
    )
    charts = [
        curves(losses, "epoch", "weighted loss", logarithmic=True, marked_x=best, whole_x=True)
    ]
    if SSIM.column in history:
        similarity = {"validation": (epochs, history[SSIM.column].tolist())}
        charts.append(
            curves(similarity, "epoch", SSIM.label, marked_x=best, names_below=True, whole_x=True)
        )
    body = row(*charts)
    return Section("Training", note, body)


def prediction_section(cells: CellImages) -> Section:
    """Predictions beside what the microscope saw and the real stain."""
    sets = [
        (f"#{number}", [(as_image(crops[index]), name) for name, crops in cells.layers.items()])
        for index, number in enumerate(cells.numbers)
    ]
    note = (
        f"Cells of the {cells.split} split, {cells.seen}; each as "
        f"{', '.join(cells.layers)}. {bar_note(cells.data)}"
    )
    body = tile_sets(sets, 4, um_per_px=cells.data.pixel_um)
    return Section("Virtual staining of single cells", note, body)


def run_provenance(run: Run) -> Pairs:
    """Model, settings, seed and versions of a run."""
    metadata, config = run.metadata, run.config
    changed = {
        name: value
        for name, value in config.model_dump(mode="json").items()
        if name not in _NOT_SHOWN and value != type(config).model_fields[name].default
    }
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changed.items())
    return [
        ("model", f"{metadata.model}, {metadata.parameters:,} parameters"),
        ("input", f"recipe {metadata.recipe}, {len(metadata.labels)} images"),
        ("exposures", exposure_range(metadata.frames)),
        ("target", metadata.target),
        ("data set", config.data.name),
        ("slides", ", ".join(metadata.slides) or "unknown"),
        ("samples", ", ".join(f"{name} {count}" for name, count in metadata.samples.items())),
        ("settings other than the defaults", settings or "none"),
        ("seed", str(config.seed)),
        ("versions", ", ".join(f"{name} {version}" for name, version in metadata.versions.items())),
    ]
