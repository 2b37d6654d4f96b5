"""Training curves: one CSV row an epoch, and a picture of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from plsctl.models.run import write_text

COLOURS = {"loss": "k", "mae": "C0", "perceptual": "C1", "fourier": "C2", "adversarial": "C4"}


def write_curves(file: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the CSV; its rows are those of the checkpoint, never more."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(file, text.getvalue())


def draw_curves(file: Path, history: Sequence[dict[str, float]]) -> None:
    """Draw the loss terms and the SSIM over the epochs."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, similarity = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for part, style in (("train", "--"), ("validation", "-")):
        for term, colour in COLOURS.items():
            values = [row.get(f"{part}_{term}") for row in history]
            if None not in values:
                loss.plot(epochs, values, style, color=colour, label=f"{part} {term}")
    similarity.plot(epochs, [row["validation_ssim"] for row in history], color="C3")
    loss.set(xlabel="epoch", ylabel="weighted loss", yscale="log")
    similarity.set(xlabel="epoch", ylabel="validation SSIM")
    loss.legend(fontsize=7)
    figure.savefig(file, dpi=110)
