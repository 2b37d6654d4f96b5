"""Prediction with a trained run by torch: crops in batches, and windows of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plsctl.acquire.arrays import Images
from plsctl.models.compute.device import (
    autocast,
    choose_device,
    choose_precision,
    is_memory_error,
    memory_errors,
)
from plsctl.models.data.batches import InputScale, inner_window, to_counts
from plsctl.models.prediction.inputs import as_trained, read_stacks
from plsctl.models.prediction.tiles import FrameStainer, image_major
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import file_digest
from plsctl.models.runs.training_settings import Precision
from plsctl.process.dataset.reader import Dataset

GPU_TILE_SHAPE_PX = (2048, 2048)

OTHER_DEVICE = "End what else uses the GPU's memory, or use --device cpu."


class Predictor(FrameStainer):
    """A run's network, ready on a device.

    Parameters
    ----------
    run
        The trained run.
    device, precision
        As for training; "auto" takes the fastest there is.
    batch
        Crops predicted at once.

    Raises
    ------
    UserError
        If the run has no weights, or the device is not there.
    """

    def __init__(
        self,
        run: Run,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        batch: int = 16,
    ) -> None:
        network = run.network()
        super().__init__(
            run.metadata,
            run.config.exact_halo_px,
            run.config.alignment_px,
            file_digest(run.path / "best.safetensors"),
            str(run.path),
        )
        self.run = run
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.batch = batch
        with memory_errors(OTHER_DEVICE):
            # For frames, a forward pass in windows, this order of memory is the faster one.
            self._network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._scale = InputScale(run.metadata.normalisation).to(self.device)

    def predict(self, stacks: Images) -> Images:
        """Stained crops (n, 3, y, x) for stacks (n, image, 3, y, x) in the run's recipe.

        Raises
        ------
        ValueError
            If the number of images is another.
        UserError
            If memory runs out.
        """
        expected = (len(self.run.metadata.labels), 3)
        if stacks.ndim != 5 or stacks.shape[1:3] != expected:
            raise ValueError(f"expected (n, {expected[0]}, 3, y, x), got {stacks.shape}")
        with memory_errors(OTHER_DEVICE):
            parts = [
                self._run(torch.from_numpy(stacks[start : start + self.batch]).flatten(1, 2))
                for start in range(0, len(stacks), self.batch)
            ]
        return torch.cat(parts).numpy()

    def predict_samples(
        self, data: Dataset, numbers: Sequence[int] | NDArray[np.int64]
    ) -> tuple[Images, Images]:
        """Stained crops and bright-field crops of samples of a data set, each (n, 3, y, x).

        The network sees the surroundings and the exposures that it was trained with.

        Raises
        ------
        UserError
            If the data set lacks images, or the margin, of the run, or has pixels of another size.
        """
        metadata, margin = self.run.metadata, self.run.metadata.margin_px
        stacks = read_stacks(metadata, data, numbers, margin)
        seen = torch.from_numpy(self.predict(as_trained(metadata, data, stacks)))
        bright = torch.from_numpy(stacks[:, metadata.labels.index("brightfield")])
        inner = inner_window(margin)
        return seen[inner].numpy(), bright[inner].numpy()

    @property
    def tile_shape_px(self) -> tuple[int, int]:
        """A GPU takes whole frames at once."""
        return super().tile_shape_px if self.device.type == "cpu" else GPU_TILE_SHAPE_PX

    def stain_window(self, window: Images) -> Images:
        """8-bit colours (3, y, x) for a window (image, y, x, 3) of a stack."""
        try:
            return self._run(self._counts(window))[0].numpy()
        except RuntimeError as error:
            if is_memory_error(error):
                raise MemoryError from None
            raise

    def _counts(self, window: Images) -> Tensor:
        """The window as (1, image * 3, y, x)."""
        if self.device.type == "cpu":
            return torch.from_numpy(image_major(window)[None])
        # The GPU changes the order of values faster than the CPU does.
        sent = torch.from_numpy(np.ascontiguousarray(window)).to(self.device)
        return sent.permute(0, 3, 1, 2).flatten(0, 1)[None]

    @torch.inference_mode()
    def _run(self, counts: Tensor) -> Tensor:
        """8-bit colours (B, 3, H, W) on the CPU for 8-bit stacks (B, C, H, W)."""
        stacks = counts.to(self.device).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.dtype):
            prediction = self._network(self._scale(stacks))
        return to_counts(prediction).cpu()
