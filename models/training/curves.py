"""Training curves: one CSV row an epoch, a picture of them, event files for TensorBoard."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.training.task import Score

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
    write_whole(file, text.getvalue())


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
    for axis in (loss, score):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        *loss.get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=4
    )
    figure.savefig(file, dpi=110)


def require_tensorboard() -> None:
    """Raise UserError where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "TensorBoard is not installed.",
            field="tensorboard",
            hint="Install it with pip install 'plsctl[tensorboard]', or leave --tensorboard out: "
            "curve.csv and curves.png hold the same.",
        ) from None


class EventWriter:
    """Writes a row of the curve after each epoch into the run's folder `tensorboard`.

    Parameters
    ----------
    epoch
        The last finished epoch; what an interrupted run wrote beyond it is hidden.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)

    def write(self, row: dict[str, float]) -> None:
        """Loss terms and SSIM as `train/NAME` and `validation/NAME` over epochs."""
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                part, _, term = name.partition("_")
                known = part in ("train", "validation")
                self._writer.add_scalar(f"{part}/{term}" if known else name, value, epoch)
        self._writer.flush()
