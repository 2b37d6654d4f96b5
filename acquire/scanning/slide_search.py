"""A slide that was taken out, stained and put back is found again: at first roughly, then exactly.

One field is taken where the middle of the scanned region was, and sought among the fields from
before. Where it shows a part of the slide that was not scanned, the next is taken beside it, and so
on outwards. What was found is then checked: fields all over the region are taken where they should
now lie, and must show what they showed before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.errors import UserError
from plsctl.acquire.focus.plane import spread_points
from plsctl.acquire.plans.slide import ReturnSettings
from plsctl.acquire.roles import FieldPair, FieldView, SlideRegistrar
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PassAttributes, PositionRecord

LEAST_OVERLAP = 0.5
"""Looks are so far apart that one of them shares this of its width and height with the region."""

FIELDS_LOOKED_AT = 25
"""So many fields from before, all over the region, tell where it shows most."""

Look = Callable[[float, float], Image | None]
"""Takes a bright-field image at a stage position; None where the stage cannot go."""

Check = Callable[[Sequence[Image]], None]
"""Raises `UserError` when images show that the slide is not what the pass needs."""


@dataclass(frozen=True)
class SlideSearch:
    """How the returned slide is sought.

    Parameters
    ----------
    before
        The pass that was taken before.
    attributes
        Of the pass to be taken: pixel size and rotation of the camera.
    settings
        How far and with how many fields.
    """

    before: PassReader
    attributes: PassAttributes
    registrar: SlideRegistrar
    settings: ReturnSettings

    def find(self, look: Look, check: Check) -> SlideTransform:
        """Where the slide lies now.

        Raises
        ------
        UserError
            The slide is not ready, or was not found: it is another one, lies the other way round,
            or is out of focus.
        """
        seen: list[Image] = []
        problem = ""
        for x, y in self._places():
            image = look(x, y)
            if image is None:
                continue
            seen.append(image)
            guess = self._locate(FieldView(x, y, image))
            if guess is None:
                continue
            try:
                return self._confirmed(guess, look, check)
            except _NotConfirmed as error:
                problem = f" ({error})"
        check(seen)
        raise UserError(
            f"the returned slide was not found within {self.settings.reach_um:g} µm of where it "
            f"lay: none of {len(seen)} fields shows what was scanned before{problem}.",
            file=self.before.path.parent,
            hint="Check that it is the same slide, put back as it lay, and in focus; a larger "
            "slide_return.reach_um in the slide file searches farther.",
        )

    def _locate(self, view: FieldView) -> SlideTransform | None:
        attributes = self.attributes
        return self.registrar.locate(
            [self._field(p) for p in self._near(view)],
            view,
            self.settings.reach_um,
            attributes.pixel_um,
            attributes.camera_rotation_deg,
        )

    def _confirmed(self, guess: SlideTransform, look: Look, check: Check) -> SlideTransform:
        """The exact transform, from fields taken where the guess says they lie."""
        by_place = {(p.slide_x_um, p.slide_y_um): p for p in self.before.positions}
        pairs = []
        for place in spread_points(list(by_place), self.settings.fields):
            there = guess.apply(*place)
            image = look(*there)
            if image is not None:
                pairs.append(FieldPair(self._field(by_place[place]), FieldView(*there, image)))
        check([pair.moving.image for pair in pairs])
        attributes = self.attributes
        try:
            return self.registrar.register(
                pairs, attributes.pixel_um, attributes.camera_rotation_deg, guess
            )
        except UserError as error:
            raise _NotConfirmed(error.message.rstrip(".")) from None

    def _field(self, position: PositionRecord) -> FieldView:
        image = self.before.brightfield(position.name)
        return FieldView(position.slide_x_um, position.slide_y_um, image)

    def _near(self, view: FieldView) -> list[PositionRecord]:
        """Fields of which a part may be seen in a view."""
        height, width = (side * self.attributes.pixel_um for side in view.image.shape[:2])
        reach = self.settings.reach_um
        return [
            p
            for p in self.before.positions
            if abs(p.slide_x_um - view.x_um) < width + reach
            and abs(p.slide_y_um - view.y_um) < height + reach
        ]

    def _places(self) -> Iterator[tuple[float, float]]:
        """Stage positions around the middle of what was scanned, then around what shows most."""
        centres = np.array([(p.slide_x_um, p.slide_y_um) for p in self.before.positions])
        size = np.array(self.before.size_px(self.before.names[0])) * self.attributes.pixel_um
        extent = np.ptp(centres, axis=0) + size
        middle = (centres.min(axis=0) + centres.max(axis=0)) / 2
        # Looks farther apart than this would leave the region between them.
        yield from self._around(middle, extent + size * (1 - 2 * LEAST_OVERLAP))
        # Where much of the region is bare glass, its middle may show nothing.
        yield from self._around(np.array(self._fullest()), size)

    def _around(
        self, middle: NDArray[np.float64], step: NDArray[np.float64]
    ) -> list[tuple[float, float]]:
        """Places a step (x, y) apart as far as shifts within reach go, the nearest first."""
        counts = [max(0, math.ceil((self.settings.reach_um - s / 2) / s)) for s in step]
        places = [
            middle + np.array([column, row]) * step
            for row in range(-counts[1], counts[1] + 1)
            for column in range(-counts[0], counts[0] + 1)
        ]
        places.sort(key=lambda place: float(np.linalg.norm(place - middle)))
        return [(float(x), float(y)) for x, y in places]

    def _fullest(self) -> tuple[float, float]:
        """The place, of some all over the region, whose field varies most in brightness."""
        by_place = {(p.slide_x_um, p.slide_y_um): p for p in self.before.positions}
        spread = spread_points(list(by_place), FIELDS_LOOKED_AT)
        return max(spread, key=lambda place: self._field(by_place[place]).image[::8, ::8].std())


class _NotConfirmed(Exception):
    """Fields taken where the slide should lie did not show what they should."""
