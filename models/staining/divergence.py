"""What to say when a loss is no longer a number."""

from __future__ import annotations

from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.staining.checkpoint import Progress


def diverged(
    value: float, step: int, folder: Path, config: TrainingConfig, progress: Progress
) -> UserError:
    """The error that names the step, what is kept and the remedy."""
    finished = len(progress.history)
    kept = f"The weights up to epoch {finished} are kept in {folder}. " if finished else ""
    return UserError(
        f"the loss became {value} in epoch {finished + 1}, step {step}.",
        hint=f"{kept}Train into another folder with a lower --learning-rate "
        f"(now {config.learning_rate:g}) or with --precision float32.",
    )
