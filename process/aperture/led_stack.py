"""Single-LED images of one field as amplitudes with directions: what a synthetic aperture needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.dataset.single_leds import Counts, frames_by_led, intensity


@dataclass(frozen=True)
class LedStack:
    """Images of one field under single LEDs in one colour.

    Parameters
    ----------
    amplitude
        Square root of the intensity for equal exposure, shape (LED, y, x).
    directions
        Direction cosines of the light in image axes, shape (LED, 2), order (x, y), x to the right
        and y down: the convention of `plsctl.acquire.optics.field`.
    wavelength_um, pixel_um, na
        Of the light, the camera pixel in the sample, the objective (in air).
    defocus_um
        Known defocus, 0 in focus; the recovered pupil starts from it.
    names
        Of the LEDs, in messages and tables; numbers from 0 where they are left out.
    """

    amplitude: FloatArray
    directions: NDArray[np.float64]
    wavelength_um: float
    pixel_um: float
    na: float
    defocus_um: float = 0.0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.amplitude.ndim != 3 or self.directions.shape != (len(self.amplitude), 2):
            raise UserError(
                f"amplitudes of shape {self.amplitude.shape} and directions of shape "
                f"{self.directions.shape} make no stack; give (LED, y, x) and (LED, 2)."
            )
        if not self.names:
            numbers = tuple(str(number) for number in range(len(self.amplitude)))
            object.__setattr__(self, "names", numbers)
        if len(self.names) != len(self.amplitude):
            raise UserError(f"{len(self.names)} names were given for {len(self)} LEDs.")
        if self.na / self.wavelength_um >= 0.5 / self.pixel_um:
            raise UserError(
                f"a pixel of {self.pixel_um:g} µm cannot sample a pupil of NA {self.na:g}.",
                hint="Raise the magnification or lower the NA.",
            )

    def __len__(self) -> int:
        return len(self.amplitude)

    @property
    def steepness(self) -> NDArray[np.float64]:
        """|s| of each LED, the NA of its light."""
        return np.asarray(np.hypot(*self.directions.T))

    def take(self, leds: NDArray[np.integer]) -> LedStack:
        """The stack of some of the LEDs."""
        return replace(
            self,
            amplitude=self.amplitude[leds],
            directions=self.directions[leds],
            names=tuple(self.names[led] for led in leds),
        )

    def part(self, window: tuple[slice, slice]) -> LedStack:
        """A part (rows, columns) of every image."""
        return replace(self, amplitude=np.ascontiguousarray(self.amplitude[:, *window]))

    def lit_from(self, directions: NDArray[np.float64]) -> LedStack:
        """The same images with other directions of the LEDs."""
        return replace(self, directions=directions)


def stack_from_pass(
    reader: PassReader,
    position: str,
    colour: int,
    wavelength_um: float,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> LedStack:
    """The single-LED frames of a scanned position.

    Black level, exposure, gain and brightness are taken out of each frame; directions are turned
    into the axes of the image. Where an LED was taken
    with a low and a high exposure, each pixel comes from the longest one that is not saturated.

    Parameters
    ----------
    position
        Well, such as "A/1".
    colour
        0 red, 1 green, 2 blue.
    wavelength_um
        Of that colour.
    window
        Part of the frame (rows, columns), slices without a step.

    Raises
    ------
    UserError
        The pass holds no single-LED frames, or an image of it cannot be read.
    """
    attributes = reader.attributes
    groups = frames_by_led(attributes.frames)
    if not groups:
        raise UserError(
            f"the pass '{attributes.pass_name}' holds no images under single LEDs.",
            file=reader.path,
            hint="Take it with a recipe such as full or le36deg.",
        )
    left, top, right, bottom = box = _box(reader.size_px(position), window)
    black = attributes.black_level * 255 / attributes.full_scale
    amplitude = np.empty((len(groups), bottom - top, right - left), np.float32)
    for image, indices in zip(amplitude, groups.values(), strict=True):
        taken = [reader.windows(position, index, [box])[0][..., colour] for index in indices]
        light = [attributes.frames[index].light for index in indices]
        image[...] = np.sqrt(intensity(taken, light, black, 255))
    return LedStack(
        amplitude=amplitude,
        directions=_directions(attributes.frames, groups, attributes.orientation),
        wavelength_um=wavelength_um,
        pixel_um=attributes.pixel_um,
        na=attributes.na,
        names=tuple(groups),
    )


@dataclass(frozen=True)
class SampleOptics:
    """How the stacks of a data set were taken.

    `frames` are those of the image axis, `black_level` and `full_scale` in the counts of the
    stacks.
    """

    frames: tuple[FrameRecord, ...]
    black_level: float
    full_scale: float
    orientation: CameraOrientation
    pixel_um: float
    na: float
    wavelengths_um: tuple[float, float, float]


def stack_from_sample(images: Counts, colour: int, optics: SampleOptics) -> LedStack:
    """The single-LED images of one sample of a data set.

    Parameters
    ----------
    images
        All images of the sample, shape (image, 3, y, x).
    colour
        0 red, 1 green, 2 blue.

    Raises
    ------
    UserError
        None was taken under a single LED.
    """
    groups = frames_by_led(optics.frames)
    if not groups:
        raise UserError(
            "the data set holds no images under single LEDs.",
            hint="Build it with a recipe such as full or le36deg.",
        )
    amplitude = [
        np.sqrt(
            intensity(
                [images[index, colour] for index in indices],
                [optics.frames[index].light for index in indices],
                optics.black_level,
                optics.full_scale,
            )
        )
        for indices in groups.values()
    ]
    return LedStack(
        amplitude=np.stack(amplitude),
        directions=_directions(optics.frames, groups, optics.orientation),
        wavelength_um=optics.wavelengths_um[colour],
        pixel_um=optics.pixel_um,
        na=optics.na,
        names=tuple(groups),
    )


def _directions(
    frames: Sequence[FrameRecord],
    groups: Mapping[str, list[int]],
    orientation: CameraOrientation,
) -> NDArray[np.float64]:
    """Direction cosines of each LED in the axes of the image, (LED, 2)."""
    table = [frames[indices[0]].lit_from or (0.0, 0.0) for indices in groups.values()]
    return np.array([orientation.to_image(*direction) for direction in table], np.float64)


def _box(size_px: tuple[int, int], window: tuple[slice, slice]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a window (rows, columns) of an image (width, height)."""
    (top, bottom, _), (left, right, _) = (
        part.indices(size) for part, size in zip(window, reversed(size_px), strict=True)
    )
    return left, top, right, bottom
