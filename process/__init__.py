"""From frames to samples: segmentation, matching, data sets.

The names below are stable (docs/python.md).
"""

from typing import TYPE_CHECKING

from plsctl.acquire.lazy_names import lazy_names

if TYPE_CHECKING:
    from plsctl.process.aperture.led_stack import stack_from_pass
    from plsctl.process.aperture.reconstruction import reconstruct
    from plsctl.process.building.builder import build_dataset
    from plsctl.process.cells.finder import find_cells
    from plsctl.process.dataset.merge import merge_datasets
    from plsctl.process.dataset.reader import Dataset
    from plsctl.process.dataset.rewrite import rewrite_table
    from plsctl.process.dataset.single_leds import SingleLeds
    from plsctl.process.focus.stacking import FocusStackSettings, focus_stack
    from plsctl.process.image_files import read_image
    from plsctl.process.matching.locate import match
    from plsctl.process.quality.flags import QualitySettings, flag_samples
    from plsctl.process.roles import scan_roles
    from plsctl.process.segmentation.segment import segment
    from plsctl.process.segmentation.settings import SegmentationSettings
    from plsctl.process.segmentation.single_cells import segment_crop
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "plsctl.process.aperture.led_stack": ("stack_from_pass",),
            "plsctl.process.aperture.reconstruction": ("reconstruct",),
            "plsctl.process.building.builder": ("build_dataset",),
            "plsctl.process.cells.finder": ("find_cells",),
            "plsctl.process.dataset.merge": ("merge_datasets",),
            "plsctl.process.dataset.reader": ("Dataset",),
            "plsctl.process.dataset.rewrite": ("rewrite_table",),
            "plsctl.process.dataset.single_leds": ("SingleLeds",),
            "plsctl.process.focus.stacking": ("FocusStackSettings", "focus_stack"),
            "plsctl.process.image_files": ("read_image",),
            "plsctl.process.matching.locate": ("match",),
            "plsctl.process.quality.flags": ("QualitySettings", "flag_samples"),
            "plsctl.process.roles": ("scan_roles",),
            "plsctl.process.segmentation.segment": ("segment",),
            "plsctl.process.segmentation.settings": ("SegmentationSettings",),
            "plsctl.process.segmentation.single_cells": ("segment_crop",),
        },
    )

__all__ = [
    "Dataset",
    "FocusStackSettings",
    "QualitySettings",
    "SegmentationSettings",
    "SingleLeds",
    "build_dataset",
    "find_cells",
    "flag_samples",
    "focus_stack",
    "match",
    "merge_datasets",
    "read_image",
    "reconstruct",
    "rewrite_table",
    "scan_roles",
    "segment",
    "segment_crop",
    "stack_from_pass",
]
