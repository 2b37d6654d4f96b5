"""Pixel size, rotation, mirror and backlash: the stage moves along x and y, the image shifts.

Along each axis a row of overlapping images is taken, all approached from the same side. Each is
found in the one before, so that the row spans several fields and the stage's errors weigh little.
Then the stage goes back along the row: what is missing on the way back is its play.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image
from plsctl.acquire.bench.bright_field import BrightFieldBench
from plsctl.acquire.bench.camera_axes import Pair, axes_from_shifts
from plsctl.acquire.bench.rough_scale import check_pixels, recognised_shift, rough_axes
from plsctl.acquire.devices.calibration_kinds import PixelSize
from plsctl.acquire.devices.calibrations import made
from plsctl.acquire.errors import UserError
from plsctl.acquire.roles import ShiftFinder

STEPS = 8
"""So many steps make a row."""

STEP_SHARE = 0.4
"""A step, as a share of the image's shorter side."""

RETURNS = 3
"""So many steps are gone back, to measure the play."""

MOST_MISFIT = 0.02
"""Steps in x and y may differ by this share, or be so far from a right angle."""

MOST_CREEP_UM, MOST_CREEP = 0.5, 4.0
"""The slide may seem to have moved by so much in the end, or so many times the stage's scatter."""


@dataclass(frozen=True)
class Row:
    """Images along one axis: where the stage stood, and where the content lay.

    Parameters
    ----------
    places_um
        Of the stage, (image, x and y).
    content_px
        How far the content has moved since the first image, (image, x and y).
    slope
        Pixels in x and y that the content moves for a micrometre of the stage.
    residual_px
        How far each image departs from the straight line, (image, x and y).
    """

    places_um: NDArray[np.float64]
    content_px: NDArray[np.float64]
    slope: NDArray[np.float64]
    residual_px: NDArray[np.float64]

    @property
    def slope_error(self) -> float:
        """Standard error of either part of the slope."""
        way = self.places_um - self.places_um.mean(axis=0)
        freedom = max(2 * len(way) - 4, 1)
        variance = float((self.residual_px**2).sum()) / freedom
        return math.sqrt(variance / float((way**2).sum()))


def fit_row(places_um: Sequence[Pair], shifts_px: Sequence[Pair]) -> Row:
    """The straight line through images along an axis; each shift is against the image before."""
    places = np.array(places_um, dtype=np.float64)
    content = np.cumsum(np.array([(0.0, 0.0), *shifts_px], dtype=np.float64), axis=0)
    span = places[-1] - places[0]
    along = (places - places.mean(axis=0)) @ (span / np.linalg.norm(span))
    middle = content - content.mean(axis=0)
    slope = along @ middle / float(along @ along)
    return Row(places, content, slope, middle - np.outer(along, slope))


@dataclass(frozen=True)
class PixelSizeResult:
    """What was measured, and the rows and the image that show it.

    `step_ratio` is how far a step in y goes over one in x.
    """

    calibration: PixelSize
    rows: tuple[Row, Row]
    image: Image
    step_ratio: float


def measure_pixel_size(bench: BrightFieldBench, finder: ShiftFinder) -> PixelSizeResult:
    """Measure at the place where the bench stands in focus.

    Raises
    ------
    UserError
        The images do not show the moves of the stage, the slide slides, or the file names another
        objective. `bench.seen` shows why.
    """
    return _Measurement(bench, finder).run()


class _Measurement:
    def __init__(self, bench: BrightFieldBench, finder: ShiftFinder) -> None:
        self._bench = bench
        self._microscope = bench.microscope
        self._finder = finder
        self._hardware = bench.microscope.hardware
        self._side_px = min(self._hardware.camera.size_px)
        self._taken = 0
        self._total = 2 * (STEPS + 2 + RETURNS) + 3

    def run(self) -> PixelSizeResult:
        start = self._microscope.position_um[:2]
        here = self._look(start)
        rough = rough_axes(self._bench, self._finder, start, here, self._look)
        check_pixels(self._bench, rough)
        step_um = STEP_SHARE * self._side_px * rough.pixel_um
        rows, plays = [], []
        for axis in ((1.0, 0.0), (0.0, 1.0)):
            row, play = self._row(start, axis, step_um)
            rows.append(row)
            plays.append(play)
        found = axes_from_shifts([(1.0, 0.0), (0.0, 1.0)], [tuple(row.slope) for row in rows])
        assert found is not None
        lengths = [float(np.linalg.norm(row.slope)) for row in rows]
        if found.misfit > MOST_MISFIT:
            raise UserError(
                "moves of the stage in x and in y do not shift the image equally far and at right "
                f"angles, as they do under every camera (misfit {found.misfit:.1%}).",
                file=self._hardware.file,
                field="stage.xy_device",
                hint="Check the stage's step size in x and in y, and that the slide lies firmly.",
            )
        # Both rows tell the size and the rotation.
        error = math.hypot(*(row.slope_error for row in rows)) / 2 * found.pixel_um
        residual = np.concatenate([row.residual_px for row in rows])
        name = self._microscope.objective_name
        fields = made(self._hardware, [name], self._microscope.answers[0], None)
        calibration = PixelSize.model_validate(
            {
                **fields,
                "pixel_um": round(found.pixel_um, 7),
                "pixel_um_error": round(error * found.pixel_um, 7),
                "rotation_deg": round(found.orientation.rotation_deg, 5),
                "rotation_deg_error": round(math.degrees(error), 5),
                "mirrored": found.orientation.mirrored,
                "backlash_um": [
                    round(play / length, 3) for play, length in zip(plays, lengths, strict=True)
                ],
                "residual_um": round(
                    float(np.sqrt((residual**2).sum(axis=1).mean())) * found.pixel_um, 4
                ),
                "images": self._taken,
            }
        )
        return PixelSizeResult(calibration, (rows[0], rows[1]), here, lengths[0] / lengths[1])

    def _look(self, place_um: Pair, straight: bool = False) -> Image:
        self._taken += 1
        self._bench.progress("moving the stage", self._taken, self._total)
        near = self._microscope
        near.lens.move_xy(*place_um, straight=straight)
        return self._bench.look(f"at x {place_um[0]:.0f}, y {place_um[1]:.0f} µm")

    def _shift(self, before: Image, after: Image, move_um: Pair) -> Pair:
        return recognised_shift(self._bench, self._finder, before, after, move_um)

    def _row(self, start: Pair, axis: Pair, step_um: float) -> tuple[Row, float]:
        """The row along an axis, and the play in pixels."""
        places = [
            (start[0] + axis[0] * n * step_um, start[1] + axis[1] * n * step_um)
            for n in np.arange(STEPS + 1) - STEPS / 2
        ]
        move = (axis[0] * step_um, axis[1] * step_um)
        images = [self._look(place) for place in places]
        shifts = [self._shift(one, other, move) for one, other in pairwise(images)]
        row = fit_row(places, shifts)
        unit = row.slope / np.linalg.norm(row.slope)
        back, plays = images[-1], []
        content = row.content_px[-1]
        for index in range(STEPS - 1, STEPS - 1 - RETURNS, -1):
            image = self._look(places[index], straight=True)
            content = content + self._shift(back, image, (-move[0], -move[1]))
            plays.append(float((content - row.content_px[index]) @ unit))
            back = image
        shift = self._shift(self._look(places[0]), images[1], move)
        self._check_creep(math.dist(shift, shifts[0]), row)
        return row, float(np.mean(plays))

    def _check_creep(self, closing_px: float, row: Row) -> None:
        """Compare two images of one place, from before and after a row."""
        pixel_um = 1 / float(np.linalg.norm(row.slope))
        creep_um = closing_px * pixel_um
        scatter_um = float(np.sqrt((row.residual_px**2).mean())) * pixel_um
        if creep_um > max(MOST_CREEP_UM, MOST_CREEP * scatter_um):
            raise UserError(
                f"the slide moves: the same place of the stage shows it {creep_um:.1f} µm "
                "elsewhere after one row of images.",
                file=self._hardware.file,
                field="stage.tolerance_um",
                hint="Clamp the slide, wait until oil and stage have settled, and see that the "
                "stage comes back where it was. Nothing was written.",
            )
