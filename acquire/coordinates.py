"""Pixels of an image, micrometres of the stage, micrometres of the slide, and the ways between.

    pixel  --ImageAxes.to_um-->  stage  --SlideTransform.invert-->  slide
           <--ImageAxes.to_px--         <--SlideTransform.apply---

Every frame has x to the right and y down. Pixel (0, 0) is the middle of the image's first pixel,
and the stage position of an image is that of its middle, ((width - 1) / 2, (height - 1) / 2). The
slide's frame is the stage's frame while the slide was scanned unstained. Image axes that are given
in the slide's frame (`CameraOrientation.on_slide`) lead from pixels to the slide in one step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Length = TypeVar("Length", float, NDArray[np.float64])
"""One coordinate, or an array of them: many places are led from frame to frame at once."""

LEVEL_DEG = 2.0
"""An image that is turned by less counts as upright: neighbours overlap by more than it matters."""


def rotate(x: Length, y: Length, angle_deg: float) -> tuple[Length, Length]:
    """A vector (x right, y down) turned by an angle."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return cosine * x - sine * y, sine * x + cosine * y


@dataclass(frozen=True)
class CameraOrientation:
    """How the camera stands against the stage (or the slide, or the LED array).

    The image is first mirrored left to right, if it is mirrored, and then turned by `rotation_deg`
    into the axes of the stage.
    """

    rotation_deg: float = 0.0
    mirrored: bool = False

    def to_stage(self, dx: Length, dy: Length) -> tuple[Length, Length]:
        """A vector along the image's axes, in the axes of the stage."""
        return rotate(-dx if self.mirrored else dx, dy, self.rotation_deg)

    def to_image(self, dx: Length, dy: Length) -> tuple[Length, Length]:
        """A vector along the axes of the stage, in the image's axes."""
        x, y = rotate(dx, dy, -self.rotation_deg)
        return -x if self.mirrored else x, y

    def on_slide(self, slide_rotation_deg: float) -> CameraOrientation:
        """The same camera against a slide that lies turned on the stage."""
        return CameraOrientation(self.rotation_deg - slide_rotation_deg, self.mirrored)

    def upright(self, width: float, height: float) -> tuple[float, float]:
        """Width and height, along the stage's axes, of what an image of that size surely shows.

        Sides change places with every quarter turn; of an image that lies askew it is a smaller
        rectangle inside.
        """
        quarters = round(self.rotation_deg / 90)
        askew = math.radians(abs(self.rotation_deg - 90 * quarters))
        share = 1.0
        if askew > math.radians(LEVEL_DEG):
            cosine, sine = math.cos(askew), math.sin(askew)
            share = min(
                width / (width * cosine + height * sine), height / (height * cosine + width * sine)
            )
        sides = (share * width, share * height)
        return sides if quarters % 2 == 0 else sides[::-1]

    def turn_in_image(self, angle_deg: float) -> float:
        """A turn on the stage as the image shows it: the other way round where it is mirrored."""
        return -angle_deg if self.mirrored else angle_deg

    def turn_to(self, other: CameraOrientation) -> float:
        """Degrees from this one to another, -180 to 180, mirrored or not."""
        return (other.rotation_deg - self.rotation_deg + 180.0) % 360.0 - 180.0


ALIGNED = CameraOrientation()
"""Rows of the image run along the stage's x axis."""


@dataclass(frozen=True)
class ImageAxes:
    """Where an image lies: on the stage, or on the slide if so oriented.

    Parameters
    ----------
    centre_um
        Place (x, y) of the image's middle.
    size_px
        Width and height.
    pixel_um
        Size of a pixel in the sample.
    orientation
        Of the camera, against the axes of `centre_um`.
    """

    centre_um: tuple[float, float]
    size_px: tuple[int, int]
    pixel_um: float
    orientation: CameraOrientation = ALIGNED

    @property
    def middle_px(self) -> tuple[float, float]:
        """The pixel place (x, y) of the image's middle."""
        width, height = self.size_px
        return (width - 1) / 2, (height - 1) / 2

    def to_um(self, x_px: Length, y_px: Length) -> tuple[Length, Length]:
        """Micrometres of a pixel."""
        middle = self.middle_px
        dx, dy = (x_px - middle[0]) * self.pixel_um, (y_px - middle[1]) * self.pixel_um
        dx, dy = self.orientation.to_stage(dx, dy)
        return self.centre_um[0] + dx, self.centre_um[1] + dy

    def from_middle_px(self, x_um: Length, y_um: Length) -> tuple[Length, Length]:
        """Pixels from the image's middle to a place in micrometres."""
        dx, dy = x_um - self.centre_um[0], y_um - self.centre_um[1]
        dx, dy = self.orientation.to_image(dx, dy)
        return dx / self.pixel_um, dy / self.pixel_um

    def to_px(self, x_um: Length, y_um: Length) -> tuple[Length, Length]:
        """The pixel, also fractions of one, of a place in micrometres."""
        (dx, dy), middle = self.from_middle_px(x_um, y_um), self.middle_px
        return middle[0] + dx, middle[1] + dy

    @property
    def matrix(self) -> NDArray[np.float64]:
        """`to_um` as an affine matrix (2, 3) on (x, y, 1), as OpenCV takes it."""
        (ax, ay), (bx, by) = (
            self.orientation.to_stage(self.pixel_um, 0.0),
            self.orientation.to_stage(0.0, self.pixel_um),
        )
        (x, y), (px, py) = self.centre_um, self.middle_px
        return np.array([[ax, bx, x - ax * px - bx * py], [ay, by, y - ay * px - by * py]])


@dataclass(frozen=True)
class SlideTransform:
    """Where the returned slide lies: stage = R(rotation) (slide - centre) + centre + shift."""

    centre_x_um: float
    centre_y_um: float
    shift_x_um: float
    shift_y_um: float
    rotation_deg: float

    def apply(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Slide coordinates to present stage coordinates."""
        dx, dy = rotate(x_um - self.centre_x_um, y_um - self.centre_y_um, self.rotation_deg)
        return dx + self.centre_x_um + self.shift_x_um, dy + self.centre_y_um + self.shift_y_um

    def invert(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Present stage coordinates to slide coordinates."""
        dx = x_um - self.shift_x_um - self.centre_x_um
        dy = y_um - self.shift_y_um - self.centre_y_um
        dx, dy = rotate(dx, dy, -self.rotation_deg)
        return dx + self.centre_x_um, dy + self.centre_y_um
