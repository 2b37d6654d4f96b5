"""The images that a run takes of scans and data sets, at its exposures. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import UserError
from plsctl.models.prediction.tiles import FrameStainer
from plsctl.models.runs.metadata import RunMetadata
from plsctl.process.dataset.compatibility import Frames
from plsctl.process.dataset.reader import Dataset

SAME_PIXEL = 0.1
"""Pixels may differ by this share: cells of one type differ as much."""


def matching_frames(stainer: FrameStainer, labels: Sequence[str], source: str) -> list[int]:
    """Indices of the run's frames among the given labels, in the order of the network's input.

    Raises
    ------
    UserError
        Naming the frames that are missing.
    """
    metadata = stainer.metadata
    place = {label: index for index, label in enumerate(labels)}
    missing = [label for label in metadata.labels if label not in place]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if missing[6:] else "")
        raise UserError(
            f"{source} lacks {len(missing)} of the {len(metadata.labels)} images that the run "
            f"{stainer.origin} was trained on ({metadata.recipe}): {shown}.",
            hint="Use a run that was trained on a smaller recipe, or scan with this one.",
        )
    return [place[label] for label in metadata.labels]


def require_same_pixel(metadata: RunMetadata, pixel_um: float, source: str) -> None:
    """Raise UserError where cells are shown at another scale than the run was trained on."""
    if abs(pixel_um / metadata.pixel_um - 1) > SAME_PIXEL:
        raise UserError(
            f"{source} has pixels of {pixel_um:g} µm, the run was trained on pixels of "
            f"{metadata.pixel_um:g} µm.",
            hint="Use images of the same magnification, or train a run on images of this one.",
        )


def exposure_scale(metadata: RunMetadata, frames: Frames) -> NDArray[np.float64]:
    """Factor per frame that brings its signal to the exposures of the training data.

    1 where either does not say how it was exposed.
    """
    lights = [(then.light, now.light) for then, now in zip(metadata.frames, frames, strict=True)]
    return np.array([then / now if then and now else 1.0 for then, now in lights])


def rescale(stack: Images, scale: NDArray[np.float64], black_level: float) -> Images:
    """Signal above black of every frame times its factor, 8 bit.

    Parameters
    ----------
    stack
        (image, y, x, 3), or those of samples (n, image, 3, y, x).
    scale
        (image,).
    black_level
        In counts of 255.
    """
    if np.allclose(scale, 1, rtol=1e-3):
        return stack
    signal = (stack.astype(np.float32) - black_level) * scale.reshape(-1, 1, 1, 1)
    return np.clip(np.rint(signal + black_level), 0, 255).astype(np.uint8)


def read_stacks(
    metadata: RunMetadata, data: Dataset, numbers: Sequence[int] | NDArray[np.int64], margin_px: int
) -> Images:
    """Stacks (n, image, 3, y, x) of samples in the order of the run's frames, as they are.

    Raises
    ------
    UserError
        If the data set lacks images or the margin, or has pixels of another size or type.
    """
    require_same_pixel(metadata, data.pixel_um, f"the data set {data.path}")
    stacks = data.read_images(numbers, data.channels_of(metadata.labels), margin_px)
    if stacks.dtype != np.uint8:
        raise UserError(f"the data set {data.path} holds {stacks.dtype}, runs take uint8.")
    return stacks.astype(np.uint8, copy=False)


def as_trained(metadata: RunMetadata, data: Dataset, stacks: Images) -> Images:
    """What `read_stacks` gave, brought to the exposures of the run's own training data."""
    frames = [data.frames[index] for index in data.channels_of(metadata.labels)]
    return rescale(stacks, exposure_scale(metadata, frames), data.attributes.black)
