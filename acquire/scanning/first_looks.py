"""First looks, before a pass is begun: whether the camera is as described, the slide stained.

All of it in bright field, at places of the region, before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from plsctl.acquire.arrays import Image, RawImage
from plsctl.acquire.bench.camera_axes import AxesCheck, CameraAxes, mean_axes
from plsctl.acquire.capture.content import shows_cells
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.focus.focus_map import Focus
from plsctl.acquire.focus.plane import spread_points
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.plan import PassPlan
from plsctl.acquire.roles import Roles
from plsctl.acquire.scanning.scan import Progress, Scan
from plsctl.acquire.store.images import develop
from plsctl.acquire.store.journal import Journal
from plsctl.acquire.store.records import PassAttributes

CAMERA_FIELDS = 4
"""In so many fields the camera's orientation is looked for before it counts as not checked."""

STAIN_FIELDS = 4
"""In so many fields cells are looked for, to see whether they are stained."""


class FirstLooks:
    """Images in bright field that are not kept, and what they tell of camera and slide."""

    def __init__(
        self,
        scan: Scan,
        plan: PassPlan,
        attributes: PassAttributes,
        microscope: Microscope,
        people: Roles,
        journal: Journal,
        stop: StopRequest,
        force: bool,
        progress: Progress,
    ) -> None:
        self._scan = scan
        self._plan = plan
        self._attributes = attributes
        self._microscope = microscope
        self._people = people
        self._journal = journal
        self._stop = stop
        self._force = force
        self._progress = progress

    def snap(self) -> RawImage:
        """One image in bright field where the stage stands."""
        frame = self._plan.frames[0]
        self._microscope.light(frame.leds, frame.brightness, frame.colour)
        image = self._microscope.snap(frame.exposure_ms, frame.gain)
        self._microscope.leds_off()
        return image

    def look_at(self, x_um: float, y_um: float, focus: Focus) -> Image:
        """The image at a place of the slide, in focus."""
        self._stop.check()
        x, y = self._microscope.travel(*self._microscope.to_stage(x_um, y_um))
        self._microscope.move_z(focus.z_um(x, y))
        return develop(self.snap(), self._attributes)

    def look_within(self, x_um: float, y_um: float, focus: Focus) -> Image | None:
        """The image at a place, or None where the stage cannot go."""
        x, y = self._microscope.to_stage(x_um, y_um)
        try:
            self._microscope.check_limits(x, y, focus.z_um(x, y))
        except UserError:
            return None
        return self.look_at(x_um, y_um, focus)

    def shows_cells_here(self) -> bool:
        """Whether there is something to focus on here: that shows out of focus as well."""
        return shows_cells(develop(self.snap(), self._attributes))

    def check_camera(self, focus: Focus) -> Image | None:
        """Compare the camera's orientation with the hardware file; the first image seen, if any.

        Raises
        ------
        UserError
            The camera is mirrored or turned, or its pixels are larger or smaller, unlike the file
            says. `--force` does not help: the stained pass would be taken beside the cells.
        """
        hardware = self._scan.hardware
        if not hardware.checks.orientation:
            self._note_camera(
                "camera_not_checked", reason="the hardware file leaves it out (checks.orientation)"
            )
            return None
        self._progress("checking the camera's orientation", 0, 0)
        check = AxesCheck(hardware, self._plan.objective, self._people.shifts)
        first: Image | None = None
        against: list[CameraAxes] = []
        for place in self._camera_places():
            image, found = check.measure(
                lambda x, y: self.look_within(x, y, focus),
                place,
                self._scan.slide.region.centre_um,
            )
            first = image if first is None else first
            if found is None:
                continue
            if check.contradiction(found) is None:
                self._note_camera("camera_checked", found, place)
                return first
            self._note_camera("camera_contradicts", found, place)
            for before in against:
                both = mean_axes(before, found)
                error = None if both is None else check.contradiction(both)
                if error is not None:
                    raise self._for_this_pass(error)
            against.append(found)
        self._note_camera("camera_not_checked", reason="no field shows enough")
        return first

    def _camera_places(self) -> list[tuple[float, float]]:
        """Fields all over the region, the one where the stage stands first (its focus is known)."""
        x, y, _ = self._microscope.position_um
        places = spread_points([(p.x_um, p.y_um) for p in self._plan.positions], CAMERA_FIELDS)
        places.sort(key=lambda place: math.dist(place, (x, y)))
        if len(places) == 1:
            # What contradicts the file must do so twice.
            width, height = self._scan.planner.field_um(self._plan.objective)
            places.append((places[0][0] + width / 10, places[0][1] + height / 10))
        return places

    def _note_camera(
        self,
        event: str,
        found: CameraAxes | None = None,
        place: tuple[float, float] | None = None,
        reason: str = "",
    ) -> None:
        facts: dict[str, object] = {"reason": reason} if reason else {}
        if found is not None:
            facts = {
                "place_um": place,
                "rotation_deg": round(found.orientation.rotation_deg, 3),
                "mirrored": found.orientation.mirrored,
                "pixel_um": round(found.pixel_um, 5),
                "misfit": round(found.misfit, 4),
            }
        self._journal.append(event, pass_name=self._plan.pass_name, **facts)

    def _for_this_pass(self, error: UserError) -> UserError:
        """The file that a scan was begun with cannot be corrected any more."""
        if self._scan.is_begun("unstained"):
            error.hint = (
                "Put the camera back as it stood when the scan began; or correct the hardware file "
                "and scan anew with --out. Nothing of this run was taken."
            )
        return error

    def check_unstained(self, focus: Focus, seen: Image | None) -> None:
        """`UserError` when the slide of an unstained pass is stained already."""
        if self._scan.is_begun("unstained") or self._force:
            return
        looks = None if seen is None else self._people.field.looks_stained(seen)
        places = spread_points([(p.x_um, p.y_um) for p in self._plan.positions], STAIN_FIELDS)
        for place in places:
            if looks is not None:
                break
            looks = self._people.field.looks_stained(self.look_at(*place, focus))
        if looks is None:
            self._journal.append(
                "stain_not_judged", pass_name=self._plan.pass_name, reason="fields show bare glass"
            )
        if looks:
            raise UserError(
                "the slide looks stained already; an unstained pass of it would teach nothing.",
                file=self._scan.slide.file,
                hint="Put an unstained slide on the stage, or use --force if it only looks so.",
            )

    def check_stained(self, images: Sequence[Image]) -> None:
        """`UserError` when the slide in these images of a stained pass is not stained."""
        if self._force or not images:
            return
        judged = [self._people.field.looks_stained(image) for image in images]
        told = [looks for looks in judged if looks is not None]
        if not told:
            raise UserError(
                f"it cannot be judged whether the slide is stained: all {len(images)} fields "
                "looked at show bare glass.",
                file=self._scan.folder.path,
                hint="Check that the smear lies under the objective and in focus; use --force if "
                "the slide is stained.",
            )
        if sum(told) * 2 <= len(told):
            raise UserError(
                f"the slide does not look stained ({sum(told)} of {len(told)} fields with cells "
                "do).",
                file=self._scan.folder.path,
                hint="Stain it and put it back, or use --force if it is stained only faintly.",
            )
