"""The simulated microscope; here its smear, and light through it, for use from Python.

The names below are stable (docs/smear.md, docs/simulator.md).
"""

from typing import TYPE_CHECKING

from plsctl.acquire.lazy_names import lazy_names

if TYPE_CHECKING:
    from plsctl.acquire.optics.field import FieldSpectrum
    from plsctl.acquire.optics.imaging import Imaging, object_grid
    from plsctl.sim.smear.settings import SmearSettings
    from plsctl.sim.smear.smear import Smear
    from plsctl.sim.smear.truth import cells_in_region, mask
    from plsctl.sim.smear.view import View
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "plsctl.acquire.optics.field": ("FieldSpectrum",),
            "plsctl.acquire.optics.imaging": ("Imaging", "object_grid"),
            "plsctl.sim.smear.settings": ("SmearSettings",),
            "plsctl.sim.smear.smear": ("Smear",),
            "plsctl.sim.smear.truth": ("cells_in_region", "mask"),
            "plsctl.sim.smear.view": ("View",),
        },
    )

__all__ = [
    "FieldSpectrum",
    "Imaging",
    "Smear",
    "SmearSettings",
    "View",
    "cells_in_region",
    "mask",
    "object_grid",
]
