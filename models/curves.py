"""Training curves: one CSV row an epoch, and a picture of them."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from plsctl.models.facts import write_text
from plsctl.models.task import Score
from plsctl.models.tensorboard import EventWriter

DRAW_EVERY_S = 30


class CurveFiles:
    """The files in a run's folder that show its curve while it is trained.

    Parameters
    ----------
    folder
        The run's.
    epoch
        The last finished epoch.
    tensorboard
        Write events for TensorBoard too.
    drawn, shown
        See `draw_curves`.
    """

    def __init__(
        self, folder: Path, epoch: int, tensorboard: bool, drawn: Mapping[str, str], shown: Score
    ) -> None:
        self._folder, self._drawn_terms, self._shown = folder, drawn, shown
        self._drawn = time.monotonic()
        self._events = EventWriter(folder, epoch) if tensorboard else None

    def write(self, history: Sequence[dict[str, float]]) -> None:
        """After an epoch, the last of the history."""
        write_curves(self._folder / "curve.csv", history)
        if self._events is not None:
            self._events.write(history[-1])
        # Drawing takes longer than a short epoch: now and then is enough for looking on.
        if time.monotonic() - self._drawn > DRAW_EVERY_S:
            self.draw(history)

    def draw(self, history: Sequence[dict[str, float]]) -> None:
        """Draw the picture."""
        draw_curves(self._folder / "curves.png", history, self._drawn_terms, self._shown)
        self._drawn = time.monotonic()


def write_curves(file: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the CSV; its rows are those of the checkpoint, never more."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(file, text.getvalue())


def draw_curves(
    file: Path, history: Sequence[dict[str, float]], drawn: Mapping[str, str], shown: Score
) -> None:
    """Draw loss terms and a score over the epochs.

    Parameters
    ----------
    drawn
        Terms of the loss, each with its colour.
    shown
        The score beside them.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, score = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for part, style in (("train", "--"), ("validation", "-")):
        for term, colour in drawn.items():
            values = [row.get(f"{part}_{term}") for row in history]
            if None not in values:
                loss.plot(epochs, values, style, color=colour, label=f"{part} {term}")
    scores = [row.get(shown.column) for row in history]
    if None not in scores:
        score.plot(epochs, scores, color="C3")
    loss.set(xlabel="epoch", ylabel="weighted loss", yscale="log")
    score.set(xlabel="epoch", ylabel=f"validation {shown.label}")
    loss.legend(fontsize=7)
    figure.savefig(file, dpi=110)
