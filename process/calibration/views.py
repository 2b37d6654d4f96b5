"""What an LED array is calibrated from: images of fields under its single LEDs, and the optics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.coordinates import ALIGNED, CameraOrientation
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.pose import ArrayPose

Counts = NDArray[np.uint8] | NDArray[np.uint16] | FloatArray


@dataclass(frozen=True)
class LedViews:
    """Images of one field under each LED of an array.

    Parameters
    ----------
    images
        Linear counts, shape (LED, y, x, colour), in the order of the table.
    light
        Exposure times gain of each image, shape (LED,).
    black_level, full_scale
        Counts without light, and of a saturated pixel.
    """

    images: Counts
    light: NDArray[np.float64]
    black_level: float = 0.0
    full_scale: float = 255.0

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.light.shape != self.images.shape[:1]:
            raise UserError(
                f"images of shape {self.images.shape} and light of shape {self.light.shape} show "
                "no LED array; give (LED, y, x, colour) and (LED,)."
            )

    def intensity(self, led: int, colour: int) -> FloatArray:
        """One image without its black level, (y, x); negative values are kept."""
        counts = self.images[led, ..., colour].astype(np.float32)
        return np.asarray(counts - np.float32(self.black_level))

    def amplitude(self, window: tuple[slice, slice], colour: int) -> FloatArray:
        """Square roots of the light of all LEDs in a part of the field, (LED, y, x)."""
        counts = self.images[:, *window, colour].astype(np.float32)
        rate = np.maximum(counts - np.float32(self.black_level), 0)
        return np.asarray(np.sqrt(rate / self.light[:, None, None].astype(np.float32)))


@dataclass(frozen=True)
class ArrayOptics:
    """Array, objective and camera as they are described.

    Parameters
    ----------
    places_mm
        Of the LEDs by the table, shape (LED, 3), order (x, y, z).
    pixel_um, na
        Camera pixel in the sample, and the objective's aperture (in air).
    wavelengths_um
        Of the images' colours.
    orientation
        Of the camera against the axes of the table.
    defocus_um
        Known defocus of the images.
    names
        Of the LEDs; numbers from 0 where they are left out.
    """

    places_mm: NDArray[np.float64]
    pixel_um: float
    na: float
    wavelengths_um: tuple[float, ...] = (0.630, 0.530, 0.460)
    orientation: CameraOrientation = ALIGNED
    defocus_um: float = 0.0
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places_mm)

    def name(self, led: int) -> str:
        """Name of an LED by its place in the table."""
        return self.names[led] if self.names else str(led)

    def in_image(self, pose: ArrayPose) -> NDArray[np.float64]:
        """Direction cosines (LED, 2) of the array in a pose, in the axes of the image."""
        x, y = pose.directions(self.places_mm).T
        return np.stack(self.orientation.to_image(x, y), axis=1)

    def in_table(self, directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse: direction cosines in the axes of the table."""
        x, y = directions.T
        return np.stack(self.orientation.to_stage(x, y), axis=1)
