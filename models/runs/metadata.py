"""Metadata of a run: its data, and what prediction needs. Imports no torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from plsctl.acquire.files.settings import Settings
from plsctl.process.dataset.records import DatasetFrame

FORMAT = "plsctl-run"
VERSION = 1


class Normalisation(Settings):
    """Mean and deviation of every input channel over the training split, in camera counts.

    Frames differ in level by orders of magnitude (steep dark field against bright field), so each
    image and colour gets its own scale; [-1, 1] for all would leave the dark field near constant.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...] = Field(min_length=1)

    @classmethod
    def of(cls, stacks: NDArray[np.generic]) -> Normalisation:
        """Measure stacks (sample, image, 3, y, x)."""
        flat = stacks.reshape(len(stacks), -1, *stacks.shape[-2:])
        # One by one: all at once would take eight times the memory of the stacks.
        channels = [flat[:, channel] for channel in range(flat.shape[1])]
        # At least one count: an image without any signal must not blow up its noise.
        return cls(
            mean=tuple(float(c.mean(dtype=np.float64)) for c in channels),
            std=tuple(max(float(c.std(dtype=np.float64)), 1.0) for c in channels),
        )


class ComputeMetadata(Settings):
    """Where and in which format a run is trained; kept, so that a continued run is the same one."""

    device: str
    processor: str
    threads: int
    precision: Literal["float32", "bfloat16"]
    """Number format of the convolutions; weights and losses are float32."""
    memory_format: Literal["contiguous", "channels_last", "winograd"]
    """Order of the network's memory, by tiles in "winograd"."""
    timed_ms: dict[str, float] = Field(default_factory=dict)
    """What forward and backward took in each format that was tried, of a short network."""

    def describe(self) -> str:
        """One line for people."""
        layout = self.memory_format.replace("_", "-")
        return f"{self.precision}, {layout}, {self.threads} threads, {self.processor}"


class RunMetadata(Settings):
    """Metadata of a run: its data, and what prediction needs."""

    format: str = FORMAT
    version: int = VERSION
    model: str
    recipe: str
    target: str
    frames: tuple[DatasetFrame, ...]
    """Frames in the order of the network's input, with exposure, gain and brightness."""
    channels: int
    parameters: int
    normalisation: Normalisation
    pixel_um: float
    crop_px: int
    margin_px: int = 0
    """Surroundings of the crops that the network saw in training, and the loss did not."""
    black_level: float
    data: str
    data_sha256: str | None = None
    """Digest of the cells and their images; None in runs that were made before it was recorded."""
    samples: dict[str, int]
    slides: tuple[str, ...]
    perceptual: dict[str, str] | None
    start: dict[str, str] | None = None
    """Run, and digest of its weights, that the training began with."""
    augmentation: tuple[dict[str, object], ...] = ()
    """Symmetries of the LED array that were used, with their errors and masked images."""
    versions: dict[str, str]
    compute: ComputeMetadata | None = None
    """None in runs that were made before it was recorded."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Frame labels in the order of the network's input."""
        return tuple(frame.label for frame in self.frames)
