"""The steps of one pass at the open microscope: test image, focus, slide search, positions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import DamagedData, PlsctlError, UserError, disk_errors
from plsctl.acquire.focus.focus_map import Focus
from plsctl.acquire.focus.plane import FocusPlane, spread_points
from plsctl.acquire.focus.search import FocusSearch
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.plan import forecast
from plsctl.acquire.plans.positions import Position
from plsctl.acquire.roles import Drift, Roles
from plsctl.acquire.scanning.engine import Engine, PassTotals
from plsctl.acquire.scanning.first_looks import FirstLooks
from plsctl.acquire.scanning.preflight import check_array, check_image
from plsctl.acquire.scanning.scan import Progress, Scan
from plsctl.acquire.scanning.self_check import SelfCheck
from plsctl.acquire.scanning.slide_search import SlideSearch
from plsctl.acquire.scanning.writing_rate import measure_writing_rate, writing_warning
from plsctl.acquire.store.folder import load_transform, write_positions
from plsctl.acquire.store.images import develop
from plsctl.acquire.store.journal import Journal, read_journal, since_begun
from plsctl.acquire.store.ome_zarr import write_json
from plsctl.acquire.store.records import PassName
from plsctl.acquire.store.writer import PassWriter, check_disk

SAME_PLACE_UM = 0.01
"""Positions nearer than this are the same one, written down and read back."""


class PassSteps:
    """One run of one pass at the open microscope."""

    def __init__(
        self,
        scan: Scan,
        name: PassName,
        microscope: Microscope,
        people: Roles,
        journal: Journal,
        stop: StopRequest,
        force: bool,
        progress: Progress,
        check: SelfCheck,
    ) -> None:
        self._check = check
        self._engine: Engine | None = None
        self._scan = scan
        self._name = name
        self._microscope = microscope
        self._people = people
        self._journal = journal
        self._stop = stop
        self._progress = progress
        self.plan = scan.planner.plan(name)
        self._attributes = scan.planner.attributes(self.plan)
        self._looks = FirstLooks(
            scan, self.plan, self._attributes, microscope, people, journal, stop, force, progress
        )
        self._transform: SlideTransform | None = None
        self._white_cells = 0

    def take(self, watch: Callable[[Engine], None] | None) -> PassTotals:
        """Take the pass, or what is missing of it (errors and `watch` as for `run_pass`)."""
        scan, microscope, plan = self._scan, self._microscope, self.plan
        self._progress("trying the light", 0, 0)
        check_array(plan.frames, microscope)
        image = self._first_look()
        taken = len(scan.folder.open_pass(self._name).names) if scan.is_begun(self._name) else 0
        left = (len(plan.positions) - taken) * len(plan.frames)
        check_disk(scan.folder.path, image.shape, image.dtype.itemsize, left)
        self._check_places()
        self._stay_over_slide()
        focus = self._focus()
        seen = None if self._name == "highres" else self._looks.check_camera(focus)
        if self._name == "unstained":
            self._looks.check_unstained(focus, seen)
        else:
            self._transform = self._find_slide(focus)
            self._stay_over_slide()
        plan = self.plan = replace(plan, positions=self._within_limits(plan.positions))
        # Only now is the pass begun: a slide that turned out wrong must not count as stained.
        writer = PassWriter(scan.folder.pass_path(self._name), self._attributes)
        order = {position.name: index for index, position in enumerate(plan.positions)}
        self._white_cells = self._count_taken()
        engine = Engine(
            microscope,
            writer,
            self._journal,
            self._stop,
            height=lambda position: focus.height(order[position.name], position),
            place=self._place,
        )
        self._engine = engine
        engine.totals.writing = self._writing_warning(image, writer)
        engine.position_finished.connect(lambda position: self._report(writer))
        engine.position_finished.connect(self._compare)
        self._check.begin(writer.wells)
        if watch is not None:
            watch(engine)
        self._report(writer)
        try:
            totals = engine.run(plan, self._enough)
        except BaseException:
            with contextlib.suppress(PlsctlError):
                write_positions(scan.folder)
            raise
        write_positions(scan.folder)
        # What was left out is sought again by the next run, once.
        if not (totals.skipped and totals.positions):
            writer.finish()
        return totals

    def _writing_warning(self, image: RawImage, writer: PassWriter) -> str:
        """Whether processor and disk suffice for what is left of the pass, tried with an image."""
        left = [place for place in self.plan.positions if place.name not in writer.wells]
        if not left:
            return ""
        shape = (image.shape[0], image.shape[1], image.shape[2] if image.ndim == 3 else 1)
        plan = replace(self.plan, positions=tuple(left))
        cost = forecast(plan, self._scan.hardware, shape, image.dtype.itemsize)
        rate = measure_writing_rate(self._scan.folder.path, image, cost)
        warning = writing_warning(cost, rate)
        self._journal.append(
            "writing_rate",
            pass_name=self._name,
            images_per_s=round(rate, 1),
            needed_per_s=round(cost.frames / cost.seconds, 1) if cost.seconds else 0.0,
            warning=warning,
        )
        return warning

    def _stay_over_slide(self) -> None:
        """Let the lens travel near the slide only over what is scanned, half a field beyond it."""
        region, hardware = self._scan.slide.region, self._scan.hardware
        corners = [self._stage_place(x, y) for x in region.x_um for y in region.y_um]
        margins = [side / 2 for side in self._scan.planner.field_um(hardware.low_power)]
        x_range, y_range = (
            (min(values) - margin, max(values) + margin)
            for values, margin in zip(zip(*corners, strict=True), margins, strict=True)
        )
        self._microscope.lens.stay_within(x_range, y_range)

    def _within_limits(self, positions: Sequence[Position]) -> tuple[Position, ...]:
        """The positions the stage can reach where the slide lies now; the others are noted."""
        reachable = []
        for position in positions:
            try:
                self._microscope.check_limits(*self._place(position))
            except UserError as error:
                self._journal.append(
                    "position_out_of_reach",
                    pass_name=self._name,
                    position=position.name,
                    reason=error.message,
                )
            else:
                reachable.append(position)
        return tuple(reachable)

    def _first_look(self) -> RawImage:
        """Turn the turret, and take one image to know what the camera gives."""
        self._microscope.set_objective(self.plan.objective)
        self._microscope.check_camera()
        image = self._looks.snap()
        check_image(image, self._scan.hardware)
        return image

    def _check_places(self) -> None:
        """`UserError` if taken positions lie elsewhere than planned: they are matched by name."""
        if not self._scan.is_begun(self._name):
            return
        planned = {p.name: (p.x_um, p.y_um) for p in self.plan.positions}
        for taken in self._scan.folder.open_pass(self._name).positions:
            place = planned.get(taken.name, (math.inf, math.inf))
            if math.dist(place, (taken.slide_x_um, taken.slide_y_um)) > SAME_PLACE_UM:
                raise UserError(
                    f"the pass '{self._name}' was begun for other positions: {taken.name} was "
                    f"taken at ({taken.slide_x_um:.1f}, {taken.slide_y_um:.1f}) µm.",
                    file=self._scan.folder.path,
                    hint="Restore the cells.csv it was begun with, or take it again with --fresh.",
                )

    def _place(self, position: Position) -> tuple[float, float]:
        return self._stage_place(position.x_um, position.y_um)

    def _stage_place(self, x: float, y: float) -> tuple[float, float]:
        """Where the stage brings a point of the slide into the image."""
        if self._transform is not None:
            x, y = self._transform.apply(x, y)
        return self._microscope.to_stage(x, y)

    def _focus(self) -> Focus:
        scan, settings = self._scan, self._scan.slide.focus
        focus = Focus(
            self._microscope,
            FocusSearch(
                self._microscope,
                self._people.focus,
                settings,
                self._stop,
                self._people.parallax,
            ),
            settings,
            self._name,
            self._journal,
            self._stop,
            # 100x fields are at cells.
            shows=None if self._name == "highres" else self._looks.shows_cells_here,
        )
        offset = self._microscope.objective.offset_z_um
        if settings.mode == "fixed":
            focus.fixed(scan.hardware.focus_z_um + offset)
            return focus
        if focus.recall(since_begun(scan.folder.journal, self._name)):
            return focus
        self._transform = load_transform(scan.folder) if self._name == "highres" else None
        if settings.mode == "map":
            # Heights are given for the first objective.
            first = scan.hardware.objective(scan.hardware.low_power)
            more = offset - first.offset_z_um
            focus.take_map([(x, y, z + more) for x, y, z in scan.slide.load_heights()])
            return focus
        places = [self._place(position) for position in self.plan.positions]

        def tick(done: int, total: int) -> None:
            self._progress("finding focus", done, total)

        earlier = self._earlier_plane()
        if earlier is None:
            start_um = scan.hardware.focus_z_um + offset
            focus.measure(places, lambda x, y: start_um, False, tick)
        else:
            focus.measure(places, earlier.z_um, True, tick)
        return focus

    def _earlier_plane(self) -> FocusPlane | None:
        """The plane of an earlier pass, shifted by the parfocal offset between the objectives."""
        scan = self._scan
        planes = [
            event
            for event in read_journal(scan.folder.journal)
            # A plane of this pass would have been recalled, had it not been begun anew.
            if event["event"] == "focus_plane" and event["pass_name"] != self._name
        ]
        if not planes:
            return None
        last = planes[-1]
        before = scan.hardware.objective(scan.slide.pass_settings(last["pass_name"]).objective)
        offset = self._microscope.objective.offset_z_um - before.offset_z_um
        return FocusPlane(last["z0_um"] + offset, last["slope_x"], last["slope_y"])

    def _find_slide(self, focus: Focus) -> SlideTransform:
        """Where the returned slide lies: from the folder, or from a few fields taken now."""
        if self._name == "highres":
            return load_transform(self._scan.folder)
        known = self._scan.transform()
        # Before the pass was begun the slide may have been taken out once more.
        if known is not None and self._scan.is_begun(self._name):
            return known
        self._progress("locating the returned slide", 0, 0)
        reader = self._scan.folder.open_pass("unstained")
        settings = self._scan.slide.slide_return
        if settings.search == "none":
            places = spread_points(
                [(p.slide_x_um, p.slide_y_um) for p in reader.positions], settings.fields
            )
            self._looks.check_stained([self._looks.look_at(x, y, focus) for x, y in places])
            x, y = self._scan.slide.region.centre_um
            found = SlideTransform(x, y, 0.0, 0.0, 0.0)
        else:
            search = SlideSearch(reader, self._attributes, self._people.registrar, settings)
            found = search.find(
                lambda x, y: self._looks.look_within(x, y, focus), self._looks.check_stained
            )
        with disk_errors(self._scan.folder.transform):
            write_json(self._scan.folder.transform, asdict(found))
        self._journal.append("slide_found", pass_name=self._name, **asdict(found))
        self._journal.sync()
        return found

    def _report(self, writer: PassWriter) -> None:
        """Report how many positions are taken."""
        self._progress(f"scanning {self._name}", len(writer.wells), len(self.plan.positions))

    def _compare(self, position: Position) -> None:
        for drift in self._check.position_finished(position.name):
            self.tell(drift)

    def tell(self, drift: Drift) -> None:
        """Tell viewers of something that has drifted."""
        if self._engine is not None:
            self._engine.tell_drift(drift)

    def _count_taken(self) -> int:
        """White cells of the positions that an earlier run took, for `stop.white_cells`."""
        if self._scan.slide.stop.white_cells is None or self._name != "stained":
            return 0
        reader = self._scan.folder.open_pass(self._name)
        cells = 0
        for name in reader.names:
            with contextlib.suppress(DamagedData):
                cells += self._people.field.white_cells(reader.brightfield(name))
        return cells

    def _enough(self, position: Position, brightfield: RawImage) -> bool:
        wanted = self._scan.slide.stop.white_cells
        if wanted is None or self._name != "stained":
            return False
        image = develop(brightfield, self._attributes)
        self._white_cells += self._people.field.white_cells(image)
        return self._white_cells >= wanted
