"""Finding a slide that was taken out, stained and put back: first roughly, then exactly.

One field is taken where the middle of the scanned region was, and sought among the fields from
before. Where it shows a part of the slide that was not scanned, the next is taken beside it, and so
on outwards. What was found is then checked: fields all over the region are taken where they should
now lie, and must show what they showed before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.focus.plane import spread_points
from plsctl.acquire.plans.slide import ReturnSettings
from plsctl.acquire.roles import FieldPair, FieldView, SlideRegistrar
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PassAttributes, PositionRecord

LEAST_OVERLAP = 0.5
"""Spacing of search fields: one shares this part of its width and height with the region."""

CONFIRMED_UM = 10.0
"""A confirmation that lies farther from what it is to confirm is none."""

LOOKS = 2
"""How often fields are taken where the slide should lie."""

FIELDS_LOOKED_AT = 25
"""So many fields from before, all over the region, tell where it shows most."""

Look = Callable[[float, float], Image | None]
"""Takes a bright-field image at a stage position; None where the stage cannot go."""

Check = Callable[[Sequence[Image]], None]
"""Raises `UserError` if images show that the slide does not fit the pass."""


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
    _damaged: set[str] = field(default_factory=set)
    """Positions whose image from before is damaged: the search goes on without them."""

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
            guess = self._locate(self._view(x, y, image))
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
            [found for p in self._near(view) if (found := self._field(p)) is not None],
            view,
            self.settings.reach_um,
            attributes.pixel_um,
            attributes.camera_rotation_deg,
        )

    def _confirmed(self, guess: SlideTransform, look: Look, check: Check) -> SlideTransform:
        """The exact transform, from fields taken where the guess says they lie.

        What a guess leads to must be where it led: one field tells a turn only roughly, so that a
        right one may be some micrometres off far from it, and comes back right when it is looked at
        once more. With a wrong geometry, each look contradicts the one before.
        """
        for _ in range(LOOKS):
            found = self._registered(guess, look, check)
            off_um = max(
                math.dist(found.apply(*place), guess.apply(*place)) for place in self._confirming()
            )
            if off_um <= CONFIRMED_UM:
                return found
            guess = found
        raise _NotConfirmed(
            f"fields taken where it should lie show it {off_um:.0f} µm beside, twice"
        )

    def _confirming(self) -> list[tuple[float, float]]:
        return list(self._spread(self.settings.fields))

    def _spread(self, count: int) -> dict[tuple[float, float], FieldView]:
        """Fields from before that are spread over the region, none of them damaged, by place."""
        while True:
            by_place = {(p.slide_x_um, p.slide_y_um): p for p in self._sound}
            places = spread_points(list(by_place), count)
            found = {place: self._field(by_place[place]) for place in places}
            sound = {place: view for place, view in found.items() if view is not None}
            if len(sound) == len(found):
                return sound

    @property
    def _sound(self) -> list[PositionRecord]:
        sound = [p for p in self.before.positions if p.name not in self._damaged]
        if not sound:
            raise UserError(
                "not one field from before can be read.",
                file=self.before.path,
                hint="Take the files from a copy; plsctl scan SLIDE.yaml --verify names them.",
            )
        return sound

    def _registered(self, guess: SlideTransform, look: Look, check: Check) -> SlideTransform:
        pairs, looks = [], []
        for place, before in self._spread(self.settings.fields).items():
            there = guess.apply(*place)
            image = look(*there)
            if image is not None:
                looks.append(image)
                pairs.append(FieldPair(before, self._view(*there, image)))
        check(looks)
        attributes = self.attributes
        try:
            return self.registrar.register(
                pairs, attributes.pixel_um, attributes.camera_rotation_deg, guess
            )
        except UserError as error:
            raise _NotConfirmed(error.message.rstrip(".")) from None

    def _field(self, position: PositionRecord) -> FieldView | None:
        try:
            image = self.before.brightfield(position.name)
        except DamagedData:
            self._damaged.add(position.name)
            return None
        return self._view(position.slide_x_um, position.slide_y_um, image)

    def _view(self, x_um: float, y_um: float, image: Image) -> FieldView:
        """The image as it would be without a mirror: rigid motions are what is sought."""
        mirrored = self.attributes.camera_mirrored
        return FieldView(x_um, y_um, np.ascontiguousarray(image[:, ::-1]) if mirrored else image)

    def _near(self, view: FieldView) -> list[PositionRecord]:
        """Fields that may be partly visible in a view."""
        # However the camera is turned.
        side = math.hypot(*view.image.shape[:2]) * self.attributes.pixel_um
        reach = side + self.settings.reach_um
        return [
            p
            for p in self._sound
            if abs(p.slide_x_um - view.x_um) < reach and abs(p.slide_y_um - view.y_um) < reach
        ]

    def _places(self) -> Iterator[tuple[float, float]]:
        """Stage positions around the middle of what was scanned, then around what shows most."""
        centres = np.array([(p.slide_x_um, p.slide_y_um) for p in self.before.positions])
        sides = self.before.size_px(self.before.names[0])
        size = np.array(self.attributes.orientation.upright(*sides)) * self.attributes.pixel_um
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
        fields = self._spread(FIELDS_LOOKED_AT)
        return max(fields, key=lambda place: fields[place].image[::8, ::8].std())


class _NotConfirmed(Exception):
    """Fields taken at the expected places did not match."""
