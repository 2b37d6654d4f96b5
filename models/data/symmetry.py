"""Mirrors and turns under which an LED array, or most of it, maps onto itself.

The image of a mirrored sample under the LED from direction M s is the mirrored image of the sample
under the LED from s. So a mirrored or turned stack is a true one once its images are exchanged as
the map exchanges the LEDs. Directions are cosines in the axes of the image (x right, y down).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import ALIGNED, CameraOrientation, rotate
from plsctl.acquire.errors import UserError
from plsctl.process.dataset.records import DatasetFrame

MASKED = -1

Directions = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """One image of the stack: the directions lit together, shape (LED, 2), and its exposure.

    Images of one `variant` were exposed alike, and in one colour.
    """

    label: str
    variant: str
    directions: Directions


@dataclass(frozen=True)
class Symmetry:
    """A map of the image plane, and the images that take each other's places.

    The map mirrors x where `mirrored`, then turns by `angle_deg` (from x towards y). Image i of
    the new stack is image `sources[i]` of the old one, mapped; where that is `MASKED` no LED comes
    near enough. `error_deg` is the largest angle between an LED that is wanted and the one taken.
    """

    angle_deg: float
    mirrored: bool
    sources: tuple[int, ...]
    error_deg: float

    @property
    def name(self) -> str:
        """For example "turn 72" or "mirror, turn 180"."""
        turn = f"turn {self.angle_deg:g}"
        if not self.mirrored:
            return turn
        return "mirror" if self.angle_deg == 0 else f"mirror, {turn}"

    def describe(self, labels: Sequence[str]) -> dict[str, object]:
        """Name, error and the labels of masked images, as a run records them."""
        return {
            "name": self.name,
            "error_deg": round(self.error_deg, 2),
            "masked": [labels[index] for index in self.masked],
        }

    @property
    def masked(self) -> tuple[int, ...]:
        """Images without a source."""
        return tuple(index for index, source in enumerate(self.sources) if source == MASKED)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The map of (x, y), shape (2, 2)."""
        return plane_map(self.angle_deg, self.mirrored)

    @property
    def keeps_pixels(self) -> bool:
        """Whether pixels fall on pixels, so that nothing is interpolated."""
        return self.angle_deg % 90 == 0


def plane_map(angle_deg: float, mirrored: bool) -> NDArray[np.float64]:
    """Mirror of x, then a turn by `angle_deg`, as a matrix on (x, y)."""
    columns = [rotate(1.0, 0.0, angle_deg), rotate(0.0, 1.0, angle_deg)]
    turn = np.array(columns).T
    exact = np.rint(turn)
    turn = exact if np.allclose(turn, exact, atol=1e-12) else turn
    return turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])


def lights_of(
    frames: Sequence[DatasetFrame],
    every_frame: Sequence[DatasetFrame],
    orientation: CameraOrientation = ALIGNED,
) -> tuple[Light, ...]:
    """The light of each frame, from what a data set stores of its frames.

    Parameters
    ----------
    frames
        The frames of the stack.
    every_frame
        All frames of the data set; a pattern's LEDs are looked up among them.
    orientation
        Of the camera against the axes in which the directions were stored.

    Raises
    ------
    UserError
        If directions are not stored.
    """
    single = {
        f.leds[0] if len(f.leds) == 1 else MASKED: f.direction for f in every_frame if f.direction
    }
    lights = []
    for frame in frames:
        found = [frame.direction] if frame.direction else [single.get(n) for n in frame.leds]
        known = [direction for direction in found if direction is not None]
        if not known or len(known) < len(found):
            raise UserError(
                f"the data set does not say from where the light of '{frame.label}' came.",
                field="augment",
                hint="Build it again from scans with all single-LED images, or use --augment none.",
            )
        turned = [orientation.to_image(*direction) for direction in known]
        kind = frame.variant if frame.colour == "white" else f"{frame.variant} {frame.colour}"
        lights.append(Light(frame.label, kind, np.array(turned)))
    return tuple(lights)


def find_symmetries(
    lights: Sequence[Light], *, turns: bool, tolerance_deg: float, most_masked: float
) -> tuple[Symmetry, ...]:
    """Symmetries of an array but for the identity, in order of their error.

    Mirrors and quarter turns that keep pixels are always tried. With `turns`, so is every turn and
    mirror that brings an LED onto another one of the same ring.

    Parameters
    ----------
    tolerance_deg
        How far an LED may stand from where it is wanted. For images of several LEDs the mean over
        them counts, since their light adds up.
    most_masked
        Largest share of the images that may be masked because no LED is near enough.
    """
    found = [
        _match(lights, angle, mirrored, tolerance_deg)
        for angle, mirrored in _candidates(lights, turns)
    ]
    kept = [s for s in found if len(s.masked) <= most_masked * len(lights)]
    return tuple(sorted(kept, key=lambda s: (len(s.masked), not s.keeps_pixels, s.error_deg)))


def _candidates(lights: Sequence[Light], turns: bool) -> list[tuple[float, bool]]:
    quarters = [(90.0 * n, mirrored) for mirrored in (False, True) for n in range(4)]
    candidates = dict.fromkeys(quarters)
    if turns:
        singles = np.array([light.directions[0] for light in lights if len(light.directions) == 1])
        azimuth = np.degrees(np.arctan2(singles[:, 1], singles[:, 0])) if len(singles) else []
        sine = np.hypot(*singles.T) if len(singles) else []
        for a, sine_a in zip(azimuth, sine, strict=True):
            for b, sine_b in zip(azimuth, sine, strict=True):
                if abs(sine_a - sine_b) < 1e-3:
                    candidates[round((b - a) % 360, 2) % 360, False] = None
                    # The mirror sends azimuth a to 180 - a.
                    candidates[round((b + a - 180) % 360, 2) % 360, True] = None
    return [candidate for candidate in candidates if candidate != (0.0, False)]


def _match(
    lights: Sequence[Light], angle_deg: float, mirrored: bool, tolerance_deg: float
) -> Symmetry:
    back = plane_map(angle_deg, mirrored).T  # orthogonal: the inverse
    sources, worst = [MASKED] * len(lights), 0.0
    for group in _alike(lights):
        have = [lights[index].directions for index in group]
        distances = _distances_deg([directions @ back.T for directions in have], have)
        for index, row in zip(group, distances, strict=True):
            nearest = int(row.argmin())
            if row[nearest] <= tolerance_deg:
                sources[index] = group[nearest]
                worst = max(worst, float(row[nearest]))
    return Symmetry(angle_deg, mirrored, tuple(sources), worst)


def _alike(lights: Sequence[Light]) -> list[list[int]]:
    """Images that may take each other's places: as many LEDs, exposed alike."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index, light in enumerate(lights):
        groups.setdefault((light.variant, len(light.directions)), []).append(index)
    return list(groups.values())


def _distances_deg(wanted: list[Directions], have: list[Directions]) -> NDArray[np.float64]:
    """Mean angle between each two sets of as many LEDs, paired as well as can be."""
    if len(wanted[0]) == 1:
        return _angles_deg(np.concatenate(wanted), np.concatenate(have))
    from scipy.optimize import linear_sum_assignment

    def distance(first: Directions, second: Directions) -> float:
        angles = _angles_deg(first, second)
        return float(angles[linear_sum_assignment(angles)].mean())

    return np.array([[distance(first, second) for second in have] for first in wanted])


def _angles_deg(first: Directions, second: Directions) -> NDArray[np.float64]:
    """Angle between each two directions, shape (first, second)."""
    cosine: NDArray[np.float64] = np.clip(_upright(first) @ _upright(second).T, -1, 1)
    return np.degrees(np.arccos(cosine))


def _upright(directions: Directions) -> NDArray[np.float64]:
    height = np.sqrt(np.maximum(1 - (directions**2).sum(axis=1), 0))
    return np.column_stack([directions, height])
