"""Progress of a training: expected time, then steps, their rate, loss and similarity."""

import time
from typing import TYPE_CHECKING

from plsctl.acquire.words import counted, duration
from plsctl.cli.shared.output import print_message
from plsctl.cli.shared.work import Work

if TYPE_CHECKING:
    from plsctl.models.training.checkpoint import StepReport

FORECAST_AFTER_S = 2.0
"""Time over which steps are counted before the time of the whole run is predicted."""


class TrainingProgress:
    """Turns the callbacks of `plsctl.models.staining.train.train` into progress."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._similarity = ""
        self._began: tuple[float, int] | None = None
        self._foretold = False

    def on_phase(self, phase: str) -> None:
        """Show what is done now."""
        self._work(description=phase, unit="step")

    def on_step(self, report: "StepReport") -> None:
        """Show how far the run has come."""
        if not self._foretold:
            self._foretell(report)
        loss = "" if report.loss is None else f"loss {report.loss:.4f}, "
        rate = f"{report.samples_per_s:.1f} samples/s"
        self._work(
            completed=report.step, total=_all_steps(report), note=f"{loss}{self._similarity}{rate}"
        )

    def on_epoch(self, row: dict[str, float]) -> None:
        """Note the similarity that an epoch has reached."""
        if "validation_ssim" in row:  # there may be no validation split
            self._similarity = f"validation SSIM {row['validation_ssim']:.3f}, "

    def _foretell(self, report: "StepReport") -> None:
        """Print once how long the rest takes; the first step is a warm-up and is not counted."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, report.step)
            return
        began, first = self._began
        if now - began < FORECAST_AFTER_S:
            return
        self._foretold = True
        left = _all_steps(report) - report.step
        seconds = left * (now - began) / (report.step - first)
        print_message(f"{counted(left, 'step')} to go: about {duration(seconds)} on this machine.")


def _all_steps(report: "StepReport") -> int:
    """Steps of the whole run; fewer than it asks for where a limit on time runs ahead of them."""
    if report.share * report.steps <= report.step:
        return report.steps
    return max(report.step, round(report.step / report.share))
