"""An LED array from images alone: its pose, every LED's direction, and which LEDs are at fault.

1. The circles of bright-field LEDs (`circles`) give the pose of the array without its tilt, from
   up to a third of the aperture off.
2. Small parts of the fields are put together to synthetic apertures, which finds each LED's
   direction (`refinement`).
3. Where images do not fit, each is given to the place that it fits (`exchange`), and 2 is done
   again.
4. The circles fix what all directions have in common; the pose is fitted to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plsctl.acquire.leds.pose import ArrayPose
from plsctl.process.calibration.circles import CircleEdges, FoundCircle, circle_edges, find_circle
from plsctl.process.calibration.exchange import (
    ODD,
    OWN_ODD,
    assign,
    is_bright,
    is_lit,
    misplaced,
    usual,
)
from plsctl.process.calibration.failures import (
    MOST_RESIDUAL,
    check_arrangement,
    check_circles,
    check_fit,
    check_inside,
    check_light,
    check_objective,
    typical_residual,
)
from plsctl.process.calibration.pose_fit import fit_pose, search_pose
from plsctl.process.calibration.refinement import Refined, Tile, choose_tiles, refine
from plsctl.process.calibration.views import ArrayOptics, LedViews

Kind = Literal["dead", "dim", "swapped"]

INSIDE = 0.95
"""Share of the aperture within which an LED draws circles by its table."""

CLEAR = 4.5
"""Circles are trusted from this clearness on."""

CIRCLE_ERROR = 0.004
"""Of a direction cosine from trusted circles, as a share of the aperture."""

CIRCLE_REACH = 0.05
"""How far, as a share of the aperture, circles are looked for around the array's pose."""

ENOUGH_CIRCLES = 3

CIRCLES_HELD = 0.1
"""Error of a circle over how much too far out, as a share of the direction, circles may lie: .001
over .01."""

REACHES = (0.9, 0.9, 1.7, 2.5)
"""Shares of the aperture up to which LEDs are put together first where circles are not clear."""

ENOUGH_TO_JOIN = 5

FAR = 0.07
"""From how far off the pose an LED may be another one, as a share of the aperture."""

ASSIGNED_BY = 2
"""Tiles that decide which image belongs where."""


class EstimateSettings(BaseModel):
    """What the images are put together from.

    `tiles` parts of the fields of `side_px` camera pixels each, in one colour of the images. Large
    parts are more exact, and small ones find directions that are farther off: these come
    first, with `first_side_px`; `side_px` 0 leaves it at that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiles: int = Field(default=3, ge=1)
    first_side_px: int = Field(default=128, ge=32)
    side_px: int = Field(default=192, ge=0)
    colour: int = Field(default=1, ge=0)


@dataclass(frozen=True)
class LedProblem:
    """What is wrong with an LED.

    `led` is its place in the table; `other` that of the LED whose light it shows, or -1.
    """

    led: int
    kind: Kind
    other: int = -1
    light: float = 0.0
    """What is left of its light, of a dim one."""


@dataclass(frozen=True)
class ArrayEstimate:
    """An LED array as its images show it.

    Parameters
    ----------
    pose
        Of the array against its table.
    pose_error
        Standard deviation of each of its values.
    directions
        Direction cosines of what each LED lights, in the axes of the table, shape (LED, 2): for a
        swapped LED those of the place that it is wired to.
    errors
        Standard deviation of one cosine, shape (LED,); NaN where an LED has only the pose.
    rms
        Root mean square by which directions depart from the pose, one cosine.
    from_place
        For each LED the one in whose place it shines, -1 where it is not known, shape (LED,).
    problems
        Dead and swapped LEDs.
    agreement
        How clearly the circles agree with the array, in standard deviations.
    """

    pose: ArrayPose
    pose_error: ArrayPose
    directions: NDArray[np.float64]
    errors: NDArray[np.float64]
    rms: float
    from_place: NDArray[np.int64]
    problems: tuple[LedProblem, ...]
    agreement: float

    @property
    def unclear(self) -> NDArray[np.int64]:
        """Lit LEDs that fit no place, or only the pose tells where they are."""
        dead = [problem.led for problem in self.problems if problem.kind == "dead"]
        return np.setdiff1d(np.flatnonzero(np.isnan(self.errors)), dead)


def estimate_array(
    views: Sequence[LedViews],
    optics: ArrayOptics,
    settings: EstimateSettings | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> ArrayEstimate:
    """Pose of an array, direction of every LED, and dead and swapped LEDs.

    A pure function of the images and of what is known of the optics. LEDs inside the aperture must
    be among them, at least four.

    Parameters
    ----------
    views
        One or more fields with structure, in focus, all of one size.
    progress
        Called with what is done next.

    Raises
    ------
    CalibrationError
        The images cannot tell: an empty slide, images without light or saturated, an objective or
        an array that is not the one described.
    """
    settings = settings or EstimateSettings()
    colour = min(settings.colour, len(optics.wavelengths_um) - 1)
    lit = np.flatnonzero([is_lit(views, led) for led in range(len(optics))])
    check_light(views, optics, lit)
    bright = np.array([led in lit and is_bright(views, led) for led in range(len(optics))])
    progress("looking for the circles of bright-field LEDs")
    circles, pose, agreement = _by_circles(views, optics, bright)
    start = optics.in_image(pose)
    central = int(lit[bright[lit]][np.argmin(np.hypot(*start[lit[bright[lit]]].T))])
    tiles = choose_tiles(views, central, colour, settings.first_side_px, settings.tiles)
    puzzle = _Puzzle(views, tiles, colour, optics, lit, bright, circles)
    progress("putting the images together")
    if len(circles) < ENOUGH_CIRCLES:
        pose = puzzle.grow(pose)
        start = optics.in_image(pose)
    from_place = np.full(len(optics), -1)
    fitting = np.setdiff1d(lit, np.flatnonzero(misplaced(bright, start, optics.na)))
    from_place[fitting] = fitting
    refined = puzzle.refine(from_place, start)
    # A pair that is exchanged may spoil the fit of all others, so that neither of them looks odd.
    spoilt = typical_residual(bright, refined.leds, refined.residual) > MOST_RESIDUAL
    if len(fitting) < len(lit) or spoilt or puzzle.is_odd(refined).any():
        progress("looking for exchanged LEDs")
        from_place = puzzle.assign(start)
        check_arrangement(views, optics, bright, from_place, lit)
        progress("putting the images together again")
        refined = puzzle.refine(from_place, start)
    if settings.side_px > settings.first_side_px:
        progress("putting larger parts together")
        tiles = choose_tiles(views, central, colour, settings.side_px, settings.tiles)
        puzzle = replace(puzzle, tiles=tiles)
        places = start.copy()
        places[from_place[refined.leds]] = refined.mean
        refined = puzzle.refine(from_place, places)
    check_fit(views, optics, bright, refined.leds, refined.residual)
    return puzzle.estimate(refined, from_place, agreement)


def _by_circles(
    views: Sequence[LedViews], optics: ArrayOptics, bright: NDArray[np.bool_]
) -> tuple[Mapping[int, FoundCircle], ArrayPose, float]:
    """Trusted circles by LED, the pose that follows from them, and how clear it is."""
    table = optics.in_image(ArrayPose())
    inside = np.flatnonzero(np.hypot(*table.T) < INSIDE * optics.na)
    check_inside(inside, bright)
    edges: dict[int, CircleEdges] = {
        int(led): circle_edges(views, int(led), optics) for led in inside[bright[inside]]
    }
    pose, agreement = search_pose(optics, edges)
    check_circles(views, optics, bright, agreement, len(edges))
    near = optics.in_image(pose)
    found = {led: find_circle(edges[led], near[led], CIRCLE_REACH * optics.na) for led in edges}
    trusted = {led: circle for led, circle in found.items() if circle.clearness > CLEAR}
    if len(trusted) < ENOUGH_CIRCLES:
        check_objective(views, optics, bright)
    else:
        directions = np.full((len(optics), 2), np.nan)
        for led, circle in trusted.items():
            directions[led] = circle.direction
        errors = np.full(len(optics), CIRCLE_ERROR * optics.na)
        pose = fit_pose(optics, directions, errors, with_tilt=False).pose
    return trusted, pose, agreement


@dataclass(frozen=True)
class _Puzzle:
    """Images, and what is known of them."""

    views: Sequence[LedViews]
    tiles: Sequence[Tile]
    colour: int
    optics: ArrayOptics
    lit: NDArray[np.int64]
    bright: NDArray[np.bool_]
    circles: Mapping[int, FoundCircle]

    def refine(self, from_place: NDArray[np.int64], places: NDArray[np.float64]) -> Refined:
        leds = np.flatnonzero(from_place >= 0)
        directions = places[from_place[leds]]
        return refine(self.views, self.tiles, self.colour, self.optics, leds, directions)

    def grow(self, pose: ArrayPose) -> ArrayPose:
        """A better pose by putting together LEDs farther and farther out."""
        for reach in REACHES:
            places = self.optics.in_image(pose)
            steepness = np.hypot(*places.T)
            wanted = (steepness < reach * self.optics.na) & ~misplaced(
                self.bright, places, self.optics.na
            )
            leds = np.intersect1d(self.lit, np.flatnonzero(wanted))
            if len(leds) < ENOUGH_TO_JOIN:
                continue
            from_place = np.full(len(self.optics), -1)
            from_place[leds] = leds
            refined = self.refine(from_place, places)
            with_tilt = reach > 2
            pose = fit_pose(self.optics, *self._spread(refined, leds), with_tilt=with_tilt).pose
        return pose

    def is_odd(self, refined: Refined) -> NDArray[np.bool_]:
        """Images that fit badly, or from far off the pose of the others, (n,)."""
        steepness = np.hypot(*refined.mean.T)
        badly = refined.residual > OWN_ODD * usual(refined.residual, steepness)
        fit = fit_pose(self.optics, *self._spread(refined, refined.leds))
        off = np.hypot(*fit.residual[refined.leds].T)
        limit = max(FAR * self.optics.na, ODD * float(np.median(off)))
        return np.asarray(badly | (off > limit))

    def assign(self, places: NDArray[np.float64]) -> NDArray[np.int64]:
        """For each LED the one in whose place it shines."""
        sure = np.array(sorted(self.circles), np.int64)
        if len(sure) < ENOUGH_CIRCLES:
            inside = np.hypot(*places.T) < INSIDE * self.optics.na
            sure = np.flatnonzero(inside & self.bright)
        tiles = self.tiles[:ASSIGNED_BY]
        return assign(self.views, tiles, self.colour, self.optics, self.lit, sure, places)

    def _spread(
        self, refined: Refined, places: NDArray[np.int64], tile: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Directions and errors over the whole table, NaN where there are none."""
        directions = np.full((len(self.optics), 2), np.nan)
        errors = np.full(len(self.optics), np.nan)
        directions[places] = refined.mean if tile is None else refined.directions[tile]
        errors[places] = CIRCLE_ERROR * self.optics.na
        return directions, errors

    def _common(self, refined: Refined) -> NDArray[np.float64]:
        """What the circles add to all directions, (2,).

        Circles come out a little too far from the axis, all alike: that does not count.
        """
        pairs = [
            (self.circles[int(led)].direction - direction, direction)
            for led, direction in zip(refined.leds, refined.mean, strict=True)
            if int(led) in self.circles
        ]
        if len(pairs) < ENOUGH_CIRCLES:
            return np.zeros(2)
        added, directions = (np.array(values).T for values in zip(*pairs, strict=True))
        one, none = np.ones_like(added[0]), np.zeros_like(added[0])
        # Where LEDs lie on one side, their distance from the axis is held by what is usual.
        x, y = (
            np.stack([*parts, along], axis=1)
            for parts, along in zip(((one, none), (none, one)), directions, strict=True)
        )
        terms = np.vstack([x, y, [0.0, 0.0, CIRCLES_HELD]])
        return np.asarray(np.linalg.lstsq(terms, np.array([*added[0], *added[1], 0.0]))[0][:2])

    def estimate(
        self, refined: Refined, from_place: NDArray[np.int64], agreement: float
    ) -> ArrayEstimate:
        """The whole array from the directions of its LEDs."""
        places = from_place[refined.leds]
        common = self._common(refined)
        directions, errors = self._spread(refined, places)
        fit = fit_pose(self.optics, directions + common, errors)
        rms = float(np.sqrt(np.nanmean(np.square(fit.residual))))
        single = [
            _values(fit_pose(self.optics, *self._spread(refined, places, tile)).pose)
            for tile in range(len(refined.directions))
        ]
        deviation = np.std(single, axis=0, ddof=1) if len(single) > 1 else np.full(6, np.nan)
        found = self.optics.in_image(fit.pose)
        error = np.full(len(self.optics), np.nan)
        found[refined.leds], error[refined.leds] = refined.mean + common, refined.error
        return ArrayEstimate(
            pose=fit.pose,
            pose_error=ArrayPose(*(float(v) / len(single) ** 0.5 for v in deviation)),
            directions=self.optics.in_table(found),
            errors=error,
            rms=rms,
            from_place=from_place,
            problems=self._problems(from_place),
            agreement=agreement,
        )

    def _problems(self, from_place: NDArray[np.int64]) -> tuple[LedProblem, ...]:
        dead = [LedProblem(led, "dead") for led in range(len(self.optics)) if led not in self.lit]
        swapped = [
            LedProblem(int(led), "swapped", int(from_place[led]))
            for led in self.lit
            if from_place[led] not in (led, -1)
        ]
        return tuple(sorted(dead + swapped, key=lambda problem: problem.led))


def _values(pose: ArrayPose) -> tuple[float, ...]:
    return (
        pose.x_mm, pose.y_mm, pose.height_mm, pose.rotation_deg, pose.tilt_x_deg, pose.tilt_y_deg,
    )  # fmt: skip
