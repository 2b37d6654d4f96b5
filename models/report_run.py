"""What a training run looks like: its curves, and its predictions beside the targets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from plsctl.acquire.store import PassReader, ScanFolder
from plsctl.models.prediction import Predictor
from plsctl.models.report_scores import read_scores, score_sections
from plsctl.models.run import Run
from plsctl.models.stain_task import SSIM
from plsctl.process.dataset import Dataset
from plsctl.process.report_charts import curves
from plsctl.process.report_dataset import as_image, spread_samples
from plsctl.process.report_page import Section, picture, row, tiles
from plsctl.process.report_scan import mosaic, three_views

_SHOWN = 16


def run_facts(path: Path) -> list[tuple[str, str]]:
    """Key figures of a run: the network's size, and its scores where it has been evaluated."""
    facts = Run.open(path).facts
    found = [("parameters", f"{facts.parameters:,}")]
    scores = read_scores(path)
    if scores is not None:
        found.append((f"SSIM on {scores['split']}", f"{scores['metrics']['ssim']['mean']:.3f}"))
    return found


def run_sections(path: Path) -> list[Section]:
    """The sections of a report on a run; what the run does not have yet is left out."""
    run = Run.open(path)
    sections = []
    if (path / "curve.csv").is_file():
        sections.append(_curve_section(run))
    sections += score_sections(path)
    if (path / "best.safetensors").is_file() and run.config.data.exists():
        sections.append(_prediction_section(run))
    return sections


def _curve_section(run: Run) -> Section:
    history = pd.read_csv(run.path / "curve.csv")
    epochs = history["epoch"].tolist()
    best = int(history.loc[history["validation_loss"].idxmin(), "epoch"])
    losses = {
        "training": (epochs, history["train_loss"].tolist()),
        "validation": (epochs, history["validation_loss"].tolist()),
    }
    similarity = {"validation": (epochs, history[SSIM.column].tolist())}
    facts = run.facts
    note = (
        f"{run.config.model} on {len(facts.labels)} images a sample ({facts.recipe}), target "
        f"{facts.target}: {facts.parameters:,} parameters, {facts.samples.get('train', 0)} "
        f"training samples, {len(epochs)} epochs in {history['seconds'].iloc[-1] / 60:.1f} min. "
        f"The dashed line marks the epoch whose weights were kept ({best})."
    )
    body = row(
        curves(losses, "epoch", "weighted loss", logarithmic=True, marked_x=best),
        curves(similarity, "epoch", SSIM.label, marked_x=best, names_below=True),
    )
    return Section("Training", note, body)


def _prediction_section(run: Run) -> Section:
    data = Dataset.open(run.config.data)
    split = "test" if "test" in set(data.table["split"]) else "validation"
    among = data.split(split, run.facts.target)
    numbers = spread_samples(data, _SHOWN, [int(number) for number in among])
    predicted, bright = Predictor(run).predict_samples(data, numbers)
    target = data.read_target(run.facts.target, numbers)
    images = [
        (as_image(crop), label)
        for index, number in enumerate(numbers)
        for crop, label in (
            (bright[index], f"#{number}"),
            (predicted[index], "virtual"),
            (target[index], "real"),
        )
    ]
    note = (
        f"Cells of the {split} split in threes: what the microscope saw unstained, what the "
        "network made of it, the real stain."
    )
    return Section("Virtual staining of single cells", note, tiles(images, columns=12))


def stained_section(scan: Path, stained: Path) -> Section:
    """Whole frames of a scan that a network stained, beside the real stain.

    Parameters
    ----------
    stained
        What `plsctl stain` wrote for the scan.
    """
    virtual, folder = PassReader(stained), ScanFolder(scan)
    real = folder.open_pass("stained")
    name = virtual.names[len(virtual.names) // 2]
    views = [
        (folder.open_pass("unstained").brightfield(name), f"field {name}, unstained"),
        (virtual.brightfield(name), "virtually stained"),
        (real.brightfield(name), "really stained (the slide was taken out and put back)"),
    ]
    maps = row(
        picture(mosaic(virtual).image, "all fields, virtually stained"),
        picture(mosaic(real).image, "all fields, really stained"),
    )
    note = (
        "The network is convolutional: trained on crops of white cells, it stains whole fields. "
        "What it has rarely or never seen in training (red cells in crowds, platelets, dust) is "
        "a guess."
    )
    return Section("Whole fields, virtually stained", note, three_views(views) + maps)
