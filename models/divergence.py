"""What to say when a loss is no longer a number."""

from __future__ import annotations

from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.models.checkpoint import Progress
from plsctl.models.training_settings import TrainingSettings


def diverged(
    value: float, step: int, folder: Path | None, config: TrainingSettings, progress: Progress
) -> UserError:
    """The error that names the step, what is kept and the remedy."""
    if folder is None:
        return UserError(
            f"the loss became {value} in step {step}.",
            hint=f"Check the data, or train with a lower rate (now {config.learning_rate:g}).",
        )
    finished = len(progress.history)
    kept = f"The weights up to epoch {finished} are kept in {folder}. " if finished else ""
    return UserError(
        f"the loss became {value} in epoch {finished + 1}, step {step}.",
        hint=f"{kept}Train into another folder with a lower --learning-rate "
        f"(now {config.learning_rate:g}) or with --precision float32.",
    )
