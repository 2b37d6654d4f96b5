"""Images under single LEDs: which they are, and their intensity for the same amount of light."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.dataset.reader import Dataset

Counts = NDArray[np.uint8] | NDArray[np.uint16]

NEARLY_FULL = 0.97
"""Share of the full scale above which a pixel may be cut off."""


def frames_by_led(frames: Sequence[FrameRecord]) -> dict[str, list[int]]:
    """Frames under each single LED, shortest exposure first, by the name of the first of them.

    An LED that was also taken under another name is the same LED, where its number is known.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        if frame.direction is not None and frame.colour == "white":
            groups[(frame.leds, frame.direction) if frame.leds else frame.led].append(index)
    return {
        frames[indices[0]].led: sorted(indices, key=lambda index: frames[index].light)
        for indices in groups.values()
    }


def intensity(
    images: Sequence[Counts], light: Sequence[float], black: float, full: float
) -> FloatArray:
    """Counts above black for unit light, 0 or above, in the shape of an image.

    Parameters
    ----------
    images
        The same with rising amounts of light; each pixel comes from the longest exposure in which
        it is not saturated.
    light
        Exposure x gain x brightness of each.
    black, full
        Black level and full scale in counts.
    """
    result = (images[0].astype(np.float32) - np.float32(black)) / np.float32(light[0])
    for image, factor in zip(images[1:], light[1:], strict=True):
        good = image < NEARLY_FULL * full
        longer = (image.astype(np.float32) - np.float32(black)) / np.float32(factor)
        result = np.where(good, longer, result)
    return np.asarray(np.maximum(result, 0), dtype=np.float32)


@dataclass(frozen=True)
class SingleLeds:
    """The LEDs of which a data set holds single images.

    Parameters
    ----------
    names
        Of the LEDs, in the order of the stack.
    directions
        (LED, 2): their direction cosines by the array's table, along its +x and +y.
    images
        For each LED its images on the image axis of the data set, shortest exposure first.
    """

    names: tuple[str, ...]
    directions: NDArray[np.float64]
    images: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, data: Dataset) -> SingleLeds:
        """Those of a data set.

        Raises
        ------
        UserError
            There are none, or the data set does not say with how much light one was taken.
        """
        records = [frame.record() for frame in data.frames]
        groups = frames_by_led(records)
        if not groups:
            raise UserError(
                "the data set holds no images under single LEDs.",
                file=data.path,
                hint="Build it from a scan with a recipe such as full or le36deg.",
            )
        used = [data.frames[index] for indices in groups.values() for index in indices]
        unknown = next((frame for frame in used if frame.light is None), None)
        if unknown is not None:
            raise UserError(
                f"the data set does not say how the image '{unknown.label}' was exposed.",
                file=data.path,
                hint="Every image needs exposure_ms, gain and brightness above 0 in zarr.json.",
            )
        directions = [records[indices[0]].direction for indices in groups.values()]
        return cls(
            tuple(groups),
            np.array(directions, dtype=np.float64),
            tuple(tuple(indices) for indices in groups.values()),
        )

    def read(
        self, data: Dataset, numbers: Sequence[int] | NDArray[np.integer], margin_px: int = 0
    ) -> FloatArray:
        """What each LED shows of samples, linear and for the same light.

        Returns
        -------
        FloatArray
            (sample, LED, 3, y, x), float32, 0 or above: share of the full scale for 1 ms at gain 1
            and full brightness.

        Raises
        ------
        UserError, DamagedData
            As `Dataset.read_images`.
        """
        wanted = [index for indices in self.images for index in indices]
        stacks = cast(Counts, data.read_images(numbers, wanted, margin_px))
        black, white = data.attributes.black, data.attributes.white
        light = [data.frames[index].record().light for index in wanted]
        found = np.empty((len(stacks), len(self), *stacks.shape[2:]), dtype=np.float32)
        start = 0
        for led, indices in enumerate(self.images):
            part = slice(start, start + len(indices))
            images: list[Counts] = [stacks[:, index] for index in range(part.start, part.stop)]
            found[:, led] = intensity(images, light[part], black, white) / (white - black)
            start = part.stop
        return found
