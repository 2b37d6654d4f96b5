"""How slide B lies against slide A: shift, rotation and scale, with their errors.

One field of B is sought among those of A; where it lies tells which fields of both show the same
part of the slide. Tiles of these are matched, and one similarity goes through all of them. Its
errors come from leaving out one field after the other (jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.focus.plane import spread_points
from plsctl.acquire.roles import FieldPair, FieldView
from plsctl.process.matching.similarity import (
    Points,
    Similarity,
    fit_similarity,
    robust_similarity,
)
from plsctl.process.matching.slide_registration import CoarseRegistrar
from plsctl.process.registration.slide_images import SlideImages

FIELDS = 16
"""Fields of B, spread over the slide, from which the motion is measured."""

TRIES = 8
"""Fields of B that are sought one after the other until one is found among those of A."""

LEAST_TILES = 6
LEAST_SHARE = 0.5
"""Of the fields that show something, and of their tiles: so many must follow the motion."""

OVERLAP = 0.7
"""Fields show the same part when their middles lie nearer than this share of a side."""


@dataclass(frozen=True)
class Motion:
    """B = R(rotation) scale (A - place) + place + shift, in micrometres of the two stages.

    `x_um, y_um` is the place, amid what was matched; `residual_um` is the root mean square distance
    of the matched tiles from the motion. Errors are standard errors, None where fewer than three
    fields were matched.
    """

    x_um: float
    y_um: float
    dx_um: float
    dy_um: float
    rotation_deg: float
    scale: float
    residual_um: float
    dx_error_um: float | None = None
    dy_error_um: float | None = None
    rotation_error_deg: float | None = None
    scale_error: float | None = None

    @property
    def similarity(self) -> Similarity:
        """From places on A to places on B, micrometres."""
        here, there = (self.x_um, self.y_um), (self.x_um + self.dx_um, self.y_um + self.dy_um)
        return Similarity.about(here, there, self.rotation_deg, self.scale)


@dataclass(frozen=True)
class Registration:
    """The motion that was found, or why it is not to be trusted.

    `fields` is how many fields of B were looked at that show something, `fields_matched` how many
    of them follow the motion.
    """

    fields: int
    fields_matched: int
    motion: Motion | None = None
    reason: str = ""


def register(before: SlideImages, after: SlideImages, reach_um: float) -> Registration:
    """Find how a slide lies against another, or itself before.

    Parameters
    ----------
    before, after
        Images of A and of B.
    reach_um
        Largest shift along x or y that is looked for.

    Raises
    ------
    UserError
        An image cannot be read.
    """
    fields = _Fields(before, after)
    chosen = fields.spread(after, FIELDS)
    best: Registration | None = None
    for guess in _guesses(fields, chosen[:TRIES], reach_um):
        found = _measured(fields, chosen, guess)
        if found.motion is not None:
            return found
        if best is None or found.fields_matched > best.fields_matched:
            best = found
    reason = (
        f"none of {min(TRIES, len(chosen))} fields of B is found among the {len(before.places_um)} "
        f"of A within {reach_um:g} µm of where it lies on the stage"
    )
    return best or Registration(len(chosen), 0, reason=reason)


class _Fields:
    """Fields of both slides as one camera would have taken them."""

    def __init__(self, before: SlideImages, after: SlideImages) -> None:
        self.pixel_um = max(before.pixel_um, after.pixel_um)
        self.rotation_deg = before.orientation.rotation_deg
        self._before, self._after = before, after
        self.before = self._reader(before)
        self.after = self._reader(after)

    def _reader(self, images: SlideImages) -> Callable[[int], FieldView]:
        return lru_cache(maxsize=32)(
            lambda index: images.view(index, self.pixel_um, self.rotation_deg)
        )

    @staticmethod
    def spread(images: SlideImages, count: int) -> list[int]:
        """Numbers of images that are spread over the slide."""
        numbers = {place: index for index, place in enumerate(images.places_um)}
        return [numbers[place] for place in spread_points(list(images.places_um), count)]

    def near(self, place: FieldView, reach_um: float) -> list[FieldView]:
        """Fields of A of which a part may lie within reach of a field of B."""
        height, width = (side * self.pixel_um + reach_um for side in place.image.shape[:2])
        far = math.hypot(height, width)
        return [
            self.before(index)
            for index, there in enumerate(self._before.places_um)
            if math.dist(there, (place.x_um, place.y_um)) < far
        ]

    def pair(self, field: FieldView, guess: SlideTransform) -> FieldPair | None:
        """A field of B and the field of A that shows most of the same."""
        place = guess.invert(field.x_um, field.y_um)
        apart = [math.dist(place, there) for there in self._before.places_um]
        nearest = int(np.argmin(apart))
        reference = self.before(nearest)
        shorter = self.pixel_um * min(*reference.image.shape[:2], *field.image.shape[:2])
        return FieldPair(reference, field) if apart[nearest] < OVERLAP * shorter else None


def _guesses(fields: _Fields, chosen: Sequence[int], reach_um: float) -> Iterator[SlideTransform]:
    """Where B lies by single fields of it."""
    for index in chosen:
        view = fields.after(index)
        near = fields.near(view, reach_um)
        found = (
            CoarseRegistrar().locate(near, view, reach_um, fields.pixel_um, fields.rotation_deg)
            if near
            else None
        )
        if found is not None:
            yield found


def _measured(fields: _Fields, chosen: Sequence[int], guess: SlideTransform) -> Registration:
    """The motion through all fields that a guess brings together."""
    views = [fields.after(index) for index in chosen]
    pairs = [pair for view in views if (pair := fields.pair(view, guess)) is not None]
    registrar = CoarseRegistrar()
    matched = registrar.match(pairs, fields.pixel_um, fields.rotation_deg, guess)
    found = [(places, shifts) for places, shifts in matched if len(places)]
    if len(found) < LEAST_SHARE * len(matched):
        reason = f"only {len(found)} of {len(matched)} fields of B are found again on A"
        return Registration(len(matched), len(found), reason=reason)
    here = np.concatenate([places for places, _ in found])
    there = here + np.concatenate([shifts for _, shifts in found])
    fitted = _fitted(here, there, guess, registrar.agreement_um)
    if fitted is None:
        reason = "the fields disagree on where B lies"
        return Registration(len(matched), len(found), reason=reason)
    motion, kept = fitted
    number = np.concatenate([np.full(len(part[0]), index) for index, part in enumerate(found)])
    x, y = (float(value) for value in here[kept].mean(axis=0))
    errors = _errors(here[kept], there[kept], number[kept], (x, y))
    off = np.linalg.norm(motion.apply(here[kept]) - there[kept], axis=1)
    residual_um = float(np.sqrt(np.mean(off**2)))
    measured = Motion(x, y, *_numbers(motion, (x, y)), residual_um, *errors)
    return Registration(len(matched), len(np.unique(number[kept])), measured)


def _fitted(
    here: Points, there: Points, guess: SlideTransform, tolerance_um: float
) -> tuple[Similarity, NDArray[np.bool_]] | None:
    """The similarity that most of the tiles follow."""
    place = guess.centre_x_um, guess.centre_y_um
    rough = Similarity.about(place, guess.apply(*place), guess.rotation_deg)
    found = robust_similarity(rough.apply(here), there, tolerance_um, least=LEAST_TILES)
    if found is None or found[1].sum() < LEAST_SHARE * len(here):
        return None
    return rough.then(found[0]), found[1]


def _numbers(motion: Similarity, place: tuple[float, float]) -> tuple[float, float, float, float]:
    """Shift (x, y) at a place, rotation and scale."""
    x, y = motion.apply_to(*place)
    return x - place[0], y - place[1], motion.rotation_deg, motion.scale


def _errors(
    here: Points, there: Points, field: NDArray[np.int64], place: tuple[float, float]
) -> tuple[float | None, ...]:
    """Standard errors of shift (x, y), rotation and scale, by leaving out each field in turn."""
    names = np.unique(field)
    if len(names) < 3:
        return (None,) * 4
    without = [
        _numbers(motion, place)
        for name in names
        if (motion := fit_similarity(here[field != name], there[field != name])) is not None
    ]
    spread = np.array(without) - np.mean(without, axis=0)
    return tuple(float(v) for v in np.sqrt((len(names) - 1) * np.mean(spread**2, axis=0)))
