"""From samples to predictions: training, evaluation, staining.

The names below are stable (docs/python.md).
"""

from typing import TYPE_CHECKING

from plsctl.acquire.lazy_names import lazy_names

if TYPE_CHECKING:
    from plsctl.models.compute.placement import Compute
    from plsctl.models.data.torch_dataset import TorchDataset
    from plsctl.models.evaluation.evaluate import evaluate
    from plsctl.models.learned_optics.fixed_filter import FixedFilter
    from plsctl.models.learned_optics.layer import OpticsLayer
    from plsctl.models.learned_optics.led_patterns import LedPatterns
    from plsctl.models.learned_optics.shown_patterns import (
        ArrayLimits,
        pattern_recipe,
        save_recipe,
    )
    from plsctl.models.prediction.engines import open_stainer
    from plsctl.models.prediction.stain import StainingOptions, stain
    from plsctl.models.prediction.tiles import FrameStainer
    from plsctl.models.runs.config import TrainingConfig
    from plsctl.models.runs.run import Run
    from plsctl.models.runs.training_settings import TrainingSettings
    from plsctl.models.staining.train import train
    from plsctl.models.training.task import Step, Task
    from plsctl.models.training.task_run import train_task
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "plsctl.models.compute.placement": ("Compute",),
            "plsctl.models.data.torch_dataset": ("TorchDataset",),
            "plsctl.models.evaluation.evaluate": ("evaluate",),
            "plsctl.models.learned_optics.fixed_filter": ("FixedFilter",),
            "plsctl.models.learned_optics.layer": ("OpticsLayer",),
            "plsctl.models.learned_optics.led_patterns": ("LedPatterns",),
            "plsctl.models.learned_optics.shown_patterns": (
                "ArrayLimits",
                "pattern_recipe",
                "save_recipe",
            ),
            "plsctl.models.prediction.engines": ("open_stainer",),
            "plsctl.models.prediction.stain": ("StainingOptions", "stain"),
            "plsctl.models.prediction.tiles": ("FrameStainer",),
            "plsctl.models.runs.config": ("TrainingConfig",),
            "plsctl.models.runs.run": ("Run",),
            "plsctl.models.runs.training_settings": ("TrainingSettings",),
            "plsctl.models.staining.train": ("train",),
            "plsctl.models.training.task": ("Step", "Task"),
            "plsctl.models.training.task_run": ("train_task",),
        },
    )

__all__ = [
    "ArrayLimits",
    "Compute",
    "FixedFilter",
    "FrameStainer",
    "LedPatterns",
    "OpticsLayer",
    "Run",
    "StainingOptions",
    "Step",
    "Task",
    "TorchDataset",
    "TrainingConfig",
    "TrainingSettings",
    "evaluate",
    "open_stainer",
    "pattern_recipe",
    "save_recipe",
    "stain",
    "train",
    "train_task",
]
