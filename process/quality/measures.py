"""The measures of quality of a position's samples, as columns of the data set's table.

What is measured here needs the images; what is made of it (`plsctl.process.quality.flags`) needs
only the table, so that thresholds can be changed without building anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.focus.sharpness import EDGE_PX, detail_ratio
from plsctl.process.quality.content import measure_content, measure_grain
from plsctl.process.quality.frames import FrameReference, frame_agreement
from plsctl.process.quality.glass import crop_glass, glass_level

Stacks = NDArray[np.uint8]
Pixel = TypeVar("Pixel", np.uint8, np.float32)

REFERENCE_UM = 0.293
"""Pixel in which samples are measured: limits in pixels are in this one, whatever the camera."""

SAME_ZOOM = 0.02
"""Pixels that differ by no more than this share are taken as they are."""

SATURATED = 254
COLOURS = ("red", "green", "blue")
FRAME_MEASURES = ("shift_px", "exchange", "misfit", "light")
"""Of `FrameAgreement`; each with the frames that it concerns."""


@dataclass(frozen=True)
class Lighting:
    """What light the bright-field images of a position's two 20x passes had.

    Parameters
    ----------
    glass
        Grey values of the glass of the whole fields at every sample, (sample, 2, rgb): unstained,
        stained (`FieldGlass`).
    exposed
        Exposure x gain x brightness (`FrameRecord.light`) of the two images.
    """

    glass: FloatArray
    exposed: tuple[float, float] = (1.0, 1.0)


def measure_position(
    stacks: Stacks,
    targets: Mapping[str, Stacks],
    frames: Sequence[FrameRecord],
    black_level: float,
    reference: FrameReference | None,
    further: Stacks | None = None,
    lighting: Lighting | None = None,
    pixel_um: float = REFERENCE_UM,
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
    lighting
        Of the position; without it, crops are judged by what glass they show themselves, and both
        passes count as equally exposed.
    pixel_um
        Of the crops. They are brought to pixels of `REFERENCE_UM` before they are measured, so
        that all widths and areas are the same on the slide for every camera and objective.

    Returns
    -------
    One row per sample; docs/quality.md says what the columns are.
    """
    zoom = pixel_um / REFERENCE_UM
    rows = [
        _measure(stacks[index], {name: crops[index] for name, crops in targets.items()}, frames,
                 black_level, lighting, None if lighting is None else lighting.glass[index],
                 zoom)
        for index in range(len(stacks))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    if reference is not None and len(stacks):
        evidence = stacks if further is None else np.concatenate([stacks, further])
        agreement = frame_agreement(evidence, reference)
        for name in FRAME_MEASURES:
            column = f"frame_{name}"
            unit = zoom if name == "shift_px" else 1.0
            table[column] = round(unit * float(getattr(agreement, name)), 4)
            table[f"{column}_of"] = getattr(agreement, f"{name}_of")
    return table


def _measure(
    stack: Stacks,
    targets: Mapping[str, Stacks],
    frames: Sequence[FrameRecord],
    black_level: float,
    lighting: Lighting | None,
    glass: FloatArray | None,
    zoom: float,
) -> dict[str, float]:
    bright = np.array([frame.bright_field and frame.colour == "white" for frame in frames])
    lit = np.stack([_zoomed(np.moveaxis(image, 0, -1), zoom) for image in stack[bright]])
    stained = {name: _zoomed(np.moveaxis(crop, 0, -1), zoom) for name, crop in targets.items()}
    content = measure_content(lit, stained["20x"], black_level, glass)
    ratios = {name: detail_ratio(image) for name, image in stained.items()}
    ratios["input"] = detail_ratio(lit[0])
    row: dict[str, float] = {
        "focus_input": ratios["input"],
        "focus_20x": ratios["20x"] - ratios["input"],
    }
    dark = _innermost_dark(frames)
    if dark:
        mean = stack[dark].mean(axis=(0, 1), dtype=np.float32)
        row["focus_dark"] = detail_ratio(_zoomed(mean, zoom))
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
        seen = None if glass is None else _glass_100x(glass, stained, black_level)
        grain = measure_grain(lit[0], stained["100x"], black_level, seen)
        row |= {f"{name}_100x": value for name, value in asdict(grain).items()}
    row |= {f"nucleus_{c}": v for c, v in zip(COLOURS, content.nucleus, strict=True)}
    exposed = (1.0, 1.0) if lighting is None else lighting.exposed
    row |= _background((lit[0], stained["20x"]), black_level, glass, exposed)
    return {
        name: value if isinstance(value, int) else round(float(value), 4)
        for name, value in row.items()
    }


def _zoomed(image: NDArray[Pixel], zoom: float) -> NDArray[Pixel]:
    """An image, (y, x) or (y, x, rgb), with its pixels brought to `REFERENCE_UM`."""
    if abs(zoom - 1) <= SAME_ZOOM:
        return np.ascontiguousarray(image)
    size = [max(2 * EDGE_PX + 2, round(side * zoom)) for side in image.shape[1::-1]]
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=how).astype(image.dtype)


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


def _glass_100x(glass: FloatArray, stained: Mapping[str, Stacks], black_level: float) -> FloatArray:
    """Grey values of the glass (unstained, and at 100x), which 20x and 100x crops lack alike."""
    low, high = (crop_glass(stained[name], black_level) for name in ("20x", "100x"))
    lacking = np.maximum((glass[1] - black_level) / np.maximum(low, 1.0), 1.0)
    return np.stack([glass[0], high * lacking + np.float32(black_level)])


def _background(
    images: tuple[Stacks, Stacks],
    black_level: float,
    glass: FloatArray | None,
    exposed: tuple[float, float],
) -> dict[str, float]:
    """Light on the glass of the input, and the additional absorbance of the target's glass.

    Exposure, gain and brightness are taken out; what the light itself has lost or gained since is
    the same in all colours, or nearly so, and left to those who read the columns.
    """
    fields = (None, None) if glass is None else (glass[0], glass[1])
    before, after = (
        np.maximum(glass_level(image, black_level, field), 1.0)
        for image, field in zip(images, fields, strict=True)
    )
    density = np.log(before / exposed[0]) - np.log(after / exposed[1])
    return {"light": float(before.mean())} | {
        f"glass_{colour}": float(value) for colour, value in zip(COLOURS, density, strict=True)
    }
