"""The learning rate over a run."""

from __future__ import annotations

import math

from plsctl.models.runs.config import TrainingConfig

WARM_UP = 0.03
FINAL_RATE = 0.02


def learning_rate(config: TrainingConfig, share: float) -> float:
    """Learning rate when `share` of the run is done: constant, or a short rise and a cosine."""
    if config.schedule == "constant":
        return config.learning_rate
    if share < WARM_UP:
        return config.learning_rate * max(share / WARM_UP, 0.05)
    fall = 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
    return config.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * fall)
