"""A trained run that stains, with the expected error at every pixel."""

from __future__ import annotations

import math

import numpy as np

from plsctl.acquire.arrays import Images
from plsctl.models.compute.device import is_memory_error
from plsctl.models.networks.sizes import alignment_px
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.prediction.tiles import FrameStainer
from plsctl.models.uncertainty.error_model import ErrorModel


class UncertainStainer(FrameStainer):
    """Colours and a fourth channel: the error to expect, in grey values of 255.

    The halo is the staining network's. The error network looks farther, but what lies there
    decides little.

    Raises
    ------
    UserError
        If the run has no uncertainty, or one of other weights.
    """

    channels = 4

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(
            predictor.metadata,
            predictor.exact_halo_px,
            math.lcm(predictor.alignment_px, alignment_px("fast")),
            predictor.weights_sha256,
            predictor.origin,
            predictor.least_px,
        )
        self._predictor = predictor
        self._errors = ErrorModel(predictor.run, predictor.device.type)

    @property
    def identity(self) -> str:
        """Another error network makes another result."""
        return f"{self.weights_sha256} {self._errors.sha256}"

    @property
    def notes(self) -> dict[str, object]:
        """How to read the fourth channel."""
        return {
            "expected_error": "mean absolute error of the three colours, grey values of 255",
            "error_limits": self._errors.metadata.limits,
            "uncertainty_sha256": self._errors.sha256,
        }

    @property
    def tile_shape_px(self) -> tuple[int, int]:
        """That of the staining network."""
        return self._predictor.tile_shape_px

    def stain_window(self, window: Images) -> Images:
        """(4, y, x) for a window (image, y, x, 3) of a stack."""
        colours = self._predictor.stain_window(window)
        stack = np.moveaxis(window, 3, 1)[None]
        try:
            error = 255 * self._errors.errors(stack, colours[None])
        except RuntimeError as failure:
            if is_memory_error(failure):
                raise MemoryError from None
            raise
        grey = np.clip(np.rint(error), 0, 255).astype(np.uint8)
        return np.concatenate([colours, grey])
