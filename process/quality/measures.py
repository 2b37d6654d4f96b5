"""The measures of quality of a position's samples, as columns of the data set's table.

What is measured here needs the images; what is made of it (`plsctl.process.quality.flags`) needs
only the table, so that thresholds can be changed without building anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.store.records import FrameRecord
from plsctl.process.focus.sharpness import detail_ratio
from plsctl.process.quality.content import BACKGROUND_PERCENTILE, measure_content, measure_grain
from plsctl.process.quality.frames import FrameReference, frame_agreement

Stacks = NDArray[np.uint8]

SATURATED = 254
COLOURS = ("red", "green", "blue")
FRAME_MEASURES = ("shift_px", "exchange", "misfit", "light")
"""Of `FrameAgreement`; each with the frames that it concerns."""


def measure_position(
    stacks: Stacks,
    targets: Mapping[str, Stacks],
    frames: Sequence[FrameRecord],
    black_level: float,
    reference: FrameReference | None,
    further: Stacks | None = None,
) -> pd.DataFrame:
    """Measure the quality of the samples of one position.

    Parameters
    ----------
    stacks
        (sample, image, rgb, y, x), uint8, without margin.
    targets
        Stained crops (sample, rgb, y, x) by name; "20x" is needed.
    frames
        Of the stacks, bright field first.
    black_level
        Grey value without light, in 8 bits.
    reference
        What the slide's frames were found to be like; None where bright field is the only one.
    further
        More stacks of the position, for checking its frames.

    Returns
    -------
    One row per sample; docs/quality.md says what the columns are.
    """
    rows = [
        _measure(stacks[index], {name: crops[index] for name, crops in targets.items()}, frames,
                 black_level)
        for index in range(len(stacks))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    if reference is not None and len(stacks):
        evidence = stacks if further is None else np.concatenate([stacks, further])
        agreement = frame_agreement(evidence, reference)
        for name in FRAME_MEASURES:
            column = f"frame_{name}"
            table[column] = round(float(getattr(agreement, name)), 4)
            table[f"{column}_of"] = getattr(agreement, f"{name}_of")
    return table


def _measure(
    stack: Stacks,
    targets: Mapping[str, Stacks],
    frames: Sequence[FrameRecord],
    black_level: float,
) -> dict[str, float]:
    bright = np.array([frame.bright_field and frame.colour == "white" for frame in frames])
    lit = np.ascontiguousarray(np.moveaxis(stack[bright], 1, -1))
    stained = {name: np.ascontiguousarray(np.moveaxis(crop, 0, -1))
               for name, crop in targets.items()}  # fmt: skip
    content = measure_content(lit, stained["20x"], black_level)
    ratios = {name: detail_ratio(image) for name, image in stained.items()}
    ratios["input"] = detail_ratio(lit[0])
    row: dict[str, float] = {"focus_20x": ratios["20x"] - ratios["input"]}
    dark = _innermost_dark(frames)
    if dark:
        row["focus_dark"] = detail_ratio(stack[dark].mean(axis=(0, 1), dtype=np.float32))
    if "100x" in stained:
        row["focus_100x"] = ratios["100x"] - ratios["20x"]
    row |= {
        "saturated": _saturated(lit, stained),
        "dirt_px": content.dirt_px,
        "vanished_px": content.vanished_px,
        "spot_20x": content.spot,
        "unexplained": content.unexplained,
        "peak_20x": content.peak,
        "leak_px": content.leak_px,
        "stray_px": content.stray_px,
    }
    if "100x" in stained:
        grain = measure_grain(lit[0], stained["100x"], black_level)
        row |= {f"{name}_100x": value for name, value in asdict(grain).items()}
    row |= {f"nucleus_{c}": v for c, v in zip(COLOURS, content.nucleus, strict=True)}
    row |= _background(lit[0], stained["20x"], black_level)
    return {
        name: value if isinstance(value, int) else round(float(value), 4)
        for name, value in row.items()
    }


def _innermost_dark(frames: Sequence[FrameRecord]) -> list[int]:
    """Frames of the dark field's innermost ring, at the lower exposure."""
    sines = {
        index: float(np.hypot(*frame.direction))
        for index, frame in enumerate(frames)
        if not frame.bright_field and frame.direction is not None and frame.variant != "high"
    }
    nearest = min(sines.values(), default=0.0)
    return [index for index, sine in sines.items() if sine <= nearest + 0.02]


def _saturated(lit: Stacks, stained: Mapping[str, Stacks]) -> float:
    """The largest share of saturated values in a bright-field frame or a target."""
    shares = [float((lit >= SATURATED).mean(axis=(1, 2, 3)).max())]
    shares += [float((image >= SATURATED).mean()) for image in stained.values()]
    return max(shares)


def _background(before: Stacks, after: Stacks, black_level: float) -> dict[str, float]:
    """Light on the glass of the input, and the additional absorbance of the target's glass."""
    glass = [
        np.percentile(image[::2, ::2].reshape(-1, 3), BACKGROUND_PERCENTILE, axis=0) - black_level
        for image in (before, after)
    ]
    unlit, stained = (np.maximum(level, 1.0) for level in glass)
    density = np.log(unlit / stained)
    return {"light": float(unlit.mean())} | {
        f"glass_{colour}": float(value) for colour, value in zip(COLOURS, density, strict=True)
    }
