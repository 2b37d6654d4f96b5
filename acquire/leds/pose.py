"""The pose of an LED array: how it stands against where its table puts it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.leds.geometry import LedGeometry


@dataclass(frozen=True)
class ArrayPose:
    """A rigid move of an LED array: tilted and turned about its middle, then shifted.

    Its middle lies on the optical axis of the table, at the height of its lowest LED. All zeros
    is the table's own pose.

    Parameters
    ----------
    x_mm, y_mm
        Shift along the axes of the table.
    height_mm
        Rise along z, towards the objective.
    rotation_deg
        Turn about the optical axis, from x (right) towards y (down).
    tilt_x_deg, tilt_y_deg
        Slope: how steeply the array rises along its x and its y axis.
    """

    x_mm: float = 0.0
    y_mm: float = 0.0
    height_mm: float = 0.0
    rotation_deg: float = 0.0
    tilt_x_deg: float = 0.0
    tilt_y_deg: float = 0.0

    @property
    def tilt_deg(self) -> float:
        """Angle between the array's axis and the optical axis."""
        return math.hypot(self.tilt_x_deg, self.tilt_y_deg)

    def places(self, places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where LEDs lie, from where the table puts them; shape (LED, 3), order (x, y, z)."""
        middle = np.array([0.0, 0.0, places_mm[:, 2].min()])
        shift = np.array([self.x_mm, self.y_mm, self.height_mm])
        return np.asarray((places_mm - middle) @ self._turn().T + middle + shift)

    def directions(self, places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Direction cosines (LED, 2) of LEDs that the table puts there, order (x, y)."""
        moved = self.places(places_mm)
        return np.asarray(moved[:, :2] / np.linalg.norm(moved, axis=1, keepdims=True))

    def move(self, geometry: LedGeometry) -> LedGeometry:
        """The table of an array that stands in this pose."""
        places = self.places(table_places(geometry))
        return LedGeometry(
            tuple(
                replace(led, x_mm=float(x), y_mm=float(y), z_mm=float(z))
                for led, (x, y, z) in zip(geometry.leds, places, strict=True)
            )
        )

    def _turn(self) -> NDArray[np.float64]:
        """Rotation matrix: the tilt, then the turn about the optical axis."""
        turn = math.radians(self.rotation_deg)
        about_z = np.array(
            [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
        )
        angle = math.radians(self.tilt_deg)
        if angle == 0:
            return about_z
        # Rising along x is a turn about -y, rising along y one about x.
        x, y = self.tilt_y_deg / self.tilt_deg, -self.tilt_x_deg / self.tilt_deg
        across = np.array([[0, 0, y], [0, 0, -x], [-y, x, 0]])
        tilt = np.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * across @ across
        return np.asarray(about_z @ tilt)


def table_places(geometry: LedGeometry) -> NDArray[np.float64]:
    """Places of all LEDs in millimetres, shape (LED, 3), order (x, y, z)."""
    return np.array([(led.x_mm, led.y_mm, led.z_mm) for led in geometry.leds], dtype=np.float64)
