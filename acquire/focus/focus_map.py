"""Heights of focus over a pass: measured where the mode says, kept in the journal, refined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.focus.height import Height, PositionSkipped
from plsctl.acquire.focus.plane import (
    FocusPlane,
    FocusPoint,
    fit_plane,
    grid_points,
    spread_points,
)
from plsctl.acquire.focus.search import NEAR_UM, FocusLight, FocusSearch
from plsctl.acquire.focus.surface import FocusSurface
from plsctl.acquire.focus.sweep import NoFocus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.positions import Position
from plsctl.acquire.plans.slide import FocusSettings
from plsctl.acquire.store.journal import Event, Journal

CANDIDATES = 4
"""So many times the places wanted are looked at where many show bare glass."""

KNOWN_UM = 12.0
"""Half range of the first search where an earlier pass says where focus lies."""

PAUSE_STEPS = 1000
"""A pause counts as so many positions: how focus drifted in it says little of the time after it."""

MAP_STEP = -10_000
"""A map was made long before the pass: its shape holds, its height may have drifted."""


class Focus:
    """Heights of focus for one pass.

    A surface through the heights measured so far, by place and step of the pass (`FocusSurface`).
    What was measured stands in the journal, so that a resumed pass uses the same heights.

    Parameters
    ----------
    shows
        Says whether there is something to focus on where the stage stands; None: there is.
    """

    def __init__(
        self,
        microscope: Microscope,
        search: FocusSearch,
        settings: FocusSettings,
        pass_name: str,
        journal: Journal,
        stop: StopRequest,
        shows: Callable[[], bool] | None = None,
    ) -> None:
        self._microscope = microscope
        self._search = search
        self._settings = settings
        self._pass_name = pass_name
        self._journal = journal
        self._stop = stop
        self._shows = shows
        self._surface = FocusSurface()
        self._step = 0
        """How many positions have been taken, with what pauses count for."""
        self._paused_steps = 0
        self._measured: dict[int, float] = {}
        """Heights measured at positions of the plan."""
        self._tried: set[int] = set()
        """Blocks of positions for which focus has been sought."""
        self._sought_minute = self._last_minute = self._minute()

    def _minute(self) -> float:
        return self._microscope.clock.now() / 60

    def _is_old(self) -> bool:
        """Whether the slide may have drifted since focus was sought last."""
        return 0 < self._settings.refresh_minutes < self._minute() - self._sought_minute

    def recall(self, events: Sequence[Event]) -> bool:
        """Restore what an earlier run of the pass measured; False if it measured nothing."""
        now, day = self._minute(), datetime.now(UTC)

        def minute(event: Event) -> float:
            age_s: float = (day - datetime.fromisoformat(event["time"])).total_seconds()
            return now - age_s / 60

        found = False
        for event in events:
            if event["event"] == "focus_plane":
                plane = FocusPlane(event["z0_um"], event["slope_x"], event["slope_y"])
                self._recall_light(event)
                places = event.get("points") or [[0.0, 0.0, plane.z_um(0.0, 0.0)]]
                step = MAP_STEP if self._settings.mode == "map" else 0
                self._surface = FocusSurface([FocusPoint(x, y, z, step) for x, y, z, *_ in places])
                self._tried.clear()
                self._measured.clear()
                found = True
            elif event["event"] == "focus_point":
                place = (event["x_um"], event["y_um"], event["z_um"])
                self._surface.add(FocusPoint(*place, event["step"]))
                self._tried.add(event["block"])
                self._measured[event["index"]] = event["z_um"]
                self._step = event["step"]
                self._paused_steps = event["step"] - event["index"]
            else:
                continue
            self._sought_minute = self._last_minute = minute(event)
        return found

    def _recall_light(self, event: Event) -> None:
        light = event["light"]
        if light is not None:
            self._search.light = FocusLight(
                tuple(light["leds"]),
                light["exposure_ms"],
                light["gain"],
                light.get("brightness", 1.0),
            )
        for led, (exposure_ms, gain) in event.get("pair_light", {}).items():
            self._search.pair_light[int(led)] = (exposure_ms, gain)

    def measure(
        self,
        places: Sequence[tuple[float, float]],
        guess: Callable[[float, float], float],
        known: bool,
        progress: Callable[[int, int], None],
    ) -> None:
        """Find focus at some of the places (stage micrometres), for the surface to begin with.

        `guess` says where focus may lie. The first search covers the whole range about it, or,
        where an earlier pass of the slide makes the guess a good one (`known`), a smaller one.
        Places of bare glass are left out for others. `progress` is told how many places of how
        many are done.

        Raises
        ------
        HardwareError
            No focus was found at a place, or none of the places shows anything.
        """
        if self._settings.mode == "grid":
            wanted = grid_points(places, self._settings.grid_um)
            count = len(wanted)
        else:
            # Where each position is measured anyway, the first one says where the others may lie.
            each = self._settings.mode == "every" and self._settings.every == 1
            count = min(1 if each else self._settings.points, len(places))
            wanted = spread_points(places, CANDIDATES * count)
        points: list[FocusPoint] = []
        progress(0, count)
        for x, y in wanted:
            if len(points) == count:
                break
            self._stop.check()
            if not points:
                centre = guess(x, y)
                half_range = KNOWN_UM if known else self._settings.range_um
            else:
                # The guess may be off as a whole, its slope hardly: follow what was measured.
                correction = points[-1].z_um - guess(points[-1].x_um, points[-1].y_um)
                centre, half_range = guess(x, y) + correction, NEAR_UM
            point = self._point(x, y, centre, half_range)
            if point is not None:
                points.append(point)
                progress(len(points), count)
        if not points:
            raise HardwareError(
                "focus cannot be found: all places looked at show bare glass.",
                hint="Check that the smear lies where the region says (`region` in the slide "
                "file), and that the light is on.",
            )
        self._surface = FocusSurface(points)
        self._sought_minute = self._minute()
        self._note(points)

    def take_map(self, heights: Sequence[tuple[float, float, float]]) -> None:
        """Use heights (x, y, z in stage micrometres) that were measured before, or set by hand."""
        points = [FocusPoint(x, y, z, MAP_STEP) for x, y, z in heights]
        self._surface = FocusSurface(points)
        # Whether they still hold shows at the first position.
        self._tried.discard(0)
        self._note(points)

    def _note(self, points: Sequence[FocusPoint]) -> None:
        light, plane = self._search.light, fit_plane(points)
        self._journal.append(
            "focus_plane",
            pass_name=self._pass_name,
            z0_um=plane.z0_um,
            slope_x=plane.slope_x,
            slope_y=plane.slope_y,
            points=[[p.x_um, p.y_um, p.z_um] for p in points],
            light=None if light is None else vars(light),
            pair_light=self._search.pair_light,
        )
        self._journal.sync()

    def fixed(self, z_um: float) -> None:
        """Use one height everywhere."""
        self._surface = FocusSurface([FocusPoint(0.0, 0.0, z_um)])

    def z_um(self, x_um: float, y_um: float) -> float:
        """The height of focus at a stage position, as far as it is known now."""
        if self._settings.mode == "fixed":
            return self._surface.points[0].z_um
        return self._surface.z_um(x_um, y_um, self._step)

    def height(self, index: int, position: Position) -> Height:
        """The height for a position of the plan; the stage has arrived there.

        Raises
        ------
        PositionSkipped
            Focus was not found, and `on_failure` is `skip`.
        NoFocus
            It was not found, and `on_failure` is `stop`.
        """
        if (
            self._is_old()
            and self._minute() - self._last_minute > self._settings.refresh_minutes / 2
        ):
            self._paused_steps += PAUSE_STEPS
        self._last_minute = self._minute()
        self._step = index + self._paused_steps
        x, y, _ = self._microscope.position_um
        z_um = self.z_um(x, y)
        if index in self._measured and not self._is_old():
            # By an earlier run, that was stopped before the position was taken.
            return Height(self._measured[index], "measured")
        if self._settings.mode == "fixed":
            return Height(z_um, "fixed")
        block = self._due(index)
        if block is None:
            return Height(z_um, "surface")
        try:
            point = self._point(x, y, z_um, NEAR_UM)
        except NoFocus as error:
            return self._failed(position, z_um, block, error)
        self._tried.add(block)
        self._sought_minute = self._minute()
        if point is None:
            return Height(z_um, "surface")
        error_um = self._surface.error_um(x, y, self._step)
        self._surface.add(point)
        self._measured[index] = point.z_um
        self._journal.append(
            "focus_point",
            pass_name=self._pass_name,
            index=index,
            step=self._step,
            block=block,
            x_um=point.x_um,
            y_um=point.y_um,
            z_um=point.z_um,
            expected_um=round(z_um, 3),
        )
        return Height(point.z_um, "measured", point.z_um - z_um, error_um)

    def _due(self, index: int) -> int | None:
        """The block of positions for which focus is to be sought now; None where it is not."""
        settings = self._settings
        every = settings.every if settings.mode == "every" else settings.refresh_positions
        block = index // every if every else 0
        if settings.mode == "every":
            return block if index % every == 0 else None
        is_first = block == 0 and not (settings.mode == "map" and every)
        return block if self._is_old() or not (is_first or block in self._tried) else None

    def _failed(self, position: Position, z_um: float, block: int, error: NoFocus) -> Height:
        action = self._settings.on_failure
        self._microscope.leds_off()
        self._journal.append(
            "focus_failed",
            pass_name=self._pass_name,
            position=position.name,
            action=action,
            reason=error.message,
        )
        self._tried.add(block)
        self._sought_minute = self._minute()
        if action == "neighbours":
            return Height(z_um, "neighbours")
        if action == "skip":
            raise PositionSkipped(error.message) from error
        error.hint = (
            f"{error.hint or ''} With `on_failure: neighbours` or `skip` under `focus` the scan "
            "goes on."
        ).strip()
        raise error

    def _point(
        self, x_um: float, y_um: float, centre_um: float, half_um: float
    ) -> FocusPoint | None:
        """Where focus lies at a place; None where it shows bare glass."""
        x, y = self._microscope.travel(x_um, y_um)
        z_um = self._search.in_one_shot(centre_um, half_um)
        if z_um is None:
            if self._shows is not None:
                self._microscope.move_z(centre_um)
                if not self._shows():
                    return None
            z_um = self._search.sweep(centre_um, half_um)
        # Arriving anew makes what follows independent of how long the search took.
        self._microscope.travel(x_um, y_um)
        return FocusPoint(x, y, z_um, self._step)
