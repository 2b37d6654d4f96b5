"""The images of a scan that a run takes, brought to its exposures. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.store import FrameRecord
from plsctl.models.facts import RunFacts
from plsctl.models.tiling import FrameStainer

Images = NDArray[np.uint8]


def matching_frames(stainer: FrameStainer, labels: Sequence[str], source: str) -> list[int]:
    """Indices of the run's frames among the given labels, in the order of the network's input.

    Raises
    ------
    UserError
        Naming the frames that are missing.
    """
    facts = stainer.facts
    place = {label: index for index, label in enumerate(labels)}
    missing = [label for label in facts.labels if label not in place]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if missing[6:] else "")
        raise UserError(
            f"{source} lacks {len(missing)} of the {len(facts.labels)} images that the run "
            f"{stainer.origin} was trained on ({facts.recipe}): {shown}.",
            hint="Use a run that was trained on a smaller recipe, or scan with this one.",
        )
    return [place[label] for label in facts.labels]


def exposure_scale(facts: RunFacts, frames: Sequence[FrameRecord]) -> NDArray[np.float64]:
    """Factor per frame that brings a scan's signal to the exposures of the training data.

    1 where the training data do not say how they were exposed.
    """
    scale = np.ones(len(frames))
    for index, (trained, frame) in enumerate(zip(facts.frames, frames, strict=True)):
        then = [trained.get(name) for name in ("exposure_ms", "gain", "brightness")]
        if all(isinstance(value, int | float) and value > 0 for value in then):
            now = frame.exposure_ms * frame.gain * frame.brightness
            scale[index] = float(np.prod([float(str(value)) for value in then])) / now
    return scale


def rescale(stack: Images, scale: NDArray[np.float64], black_level: float) -> Images:
    """Signal above black of every frame (image, y, x, 3) times its factor, 8 bit."""
    if np.allclose(scale, 1, rtol=1e-3):
        return stack
    signal = (stack.astype(np.float32) - black_level) * scale.reshape(-1, 1, 1, 1)
    return np.clip(np.rint(signal + black_level), 0, 255).astype(np.uint8)
