"""Focus at the microscope: measured at a few places, kept in the journal, refreshed later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.focus.plane import FocusPlane, FocusPoint, fit_plane, spread_points
from plsctl.acquire.focus.search import NEAR_UM, FocusLight, FocusSearch
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.positions import Position
from plsctl.acquire.plans.slide import FocusSettings
from plsctl.acquire.store.journal import Event, Journal

CANDIDATES = 4
"""So many times the places wanted are looked at where many show bare glass."""

KNOWN_UM = 12.0
"""Half range of the first sweep where an earlier pass says where focus lies."""


class Focus:
    """Heights of focus for one pass.

    A plane through sweeps at a few places; after every so many positions one sweep more, whose
    offset from the plane holds for the positions that follow. What was measured stands in the
    journal, so that a resumed pass uses the same heights.

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
        self._plane = FocusPlane(0.0, 0.0, 0.0)
        self._offsets: dict[int, float] = {}
        self._measured_s = microscope.clock.now()

    def _is_old(self) -> bool:
        """Whether the slide may have drifted since focus was measured last."""
        limit_s = 60 * self._settings.refresh_minutes
        return 0 < limit_s < self._microscope.clock.now() - self._measured_s

    @property
    def plane(self) -> FocusPlane:
        """The plane of focus, as far as it has been measured."""
        return self._plane

    def recall(self, events: Sequence[Event]) -> bool:
        """Restore what an earlier run of the pass measured; False if it measured nothing."""
        found = False
        for event in events:
            if event["event"] == "focus_plane":
                self._plane = FocusPlane(event["z0_um"], event["slope_x"], event["slope_y"])
                light = event["light"]
                self._search.light = FocusLight(
                    tuple(light["leds"]),
                    light["exposure_ms"],
                    light["gain"],
                    light.get("brightness", 1.0),
                )
                self._offsets = {}
                found = True
            elif event["event"] == "focus_offset":
                self._offsets[event["block"]] = event["offset_um"]
            else:
                continue
            age_s = (datetime.now(UTC) - datetime.fromisoformat(event["time"])).total_seconds()
            self._measured_s = self._microscope.clock.now() - age_s
        return found

    def measure(
        self,
        places: Sequence[tuple[float, float]],
        guess: Callable[[float, float], float],
        known: bool,
        progress: Callable[[], None],
    ) -> FocusPlane:
        """Sweep at a few of the places (stage micrometres) and lay a plane through the heights.

        `guess` says where focus may lie. The first sweep searches the whole range about it, or,
        where an earlier pass of the slide makes the guess a good one (`known`), a smaller one.
        Places of bare glass are left out for others.

        Raises
        ------
        HardwareError
            No focus was found at a place, or none of the places shows anything.
        """
        points: list[FocusPoint] = []
        for x, y in spread_points(places, CANDIDATES * self._settings.points):
            if len(points) == self._settings.points:
                break
            self._stop.check()
            if not points:
                centre = guess(x, y)
                half_range = KNOWN_UM if known else self._settings.range_um
            else:
                # The guess may be off as a whole, its slope hardly: follow what was measured.
                correction = points[-1].z_um - guess(points[-1].x_um, points[-1].y_um)
                centre, half_range = guess(x, y) + correction, NEAR_UM
            if not self._is_worth(x, y, centre):
                continue
            points.append(self._point(x, y, centre, half_range))
            progress()
        if not points:
            raise HardwareError(
                "focus cannot be found: all places looked at show bare glass.",
                hint="Check that the smear lies where the region says (`region` in the slide "
                "file), and that the light is on.",
            )
        self._plane = fit_plane(points)
        self._measured_s = self._microscope.clock.now()
        self._note(points)
        return self._plane

    def _is_worth(self, x_um: float, y_um: float, z_um: float) -> bool:
        """Whether there is something to focus on at a place; the stage stands there then."""
        if self._shows is None:
            return True
        self._microscope.move_xy(x_um, y_um)
        self._microscope.move_z(z_um)
        return self._shows()

    def _note(self, points: Sequence[FocusPoint]) -> None:
        light = self._search.light
        self._journal.append(
            "focus_plane",
            pass_name=self._pass_name,
            z0_um=self._plane.z0_um,
            slope_x=self._plane.slope_x,
            slope_y=self._plane.slope_y,
            points=[[p.x_um, p.y_um, p.z_um, p.sharpness] for p in points],
            light=None if light is None else vars(light),
        )
        self._journal.sync()

    def fixed(self, z_um: float) -> None:
        """Use one height everywhere."""
        self._plane = FocusPlane(z_um, 0.0, 0.0)

    def height(self, index: int, position: Position) -> float:
        """The height for a position of the plan; the stage has arrived there."""
        x, y, _ = self._microscope.position_um
        z = self._plane.z_um(x, y)
        if self._settings.mode == "fixed":
            return z
        every = self._settings.refresh_positions
        block = index // every if every else 0
        is_due = (block > 0 and block not in self._offsets) or self._is_old()
        if is_due and self._is_worth(x, y, z + self._offset(block)):
            point = self._point(x, y, z + self._offset(block), NEAR_UM)
            self._offsets[block] = point.z_um - z
            self._measured_s = self._microscope.clock.now()
            self._journal.append(
                "focus_offset",
                pass_name=self._pass_name,
                block=block,
                offset_um=self._offsets[block],
            )
        return z + self._offset(block)

    def _offset(self, block: int) -> float:
        """The offset of a block, or of the last block before it that has one."""
        return next((self._offsets[b] for b in range(block, -1, -1) if b in self._offsets), 0.0)

    def _point(self, x_um: float, y_um: float, centre_um: float, half_um: float) -> FocusPoint:
        x, y = self._microscope.travel(x_um, y_um)
        z, sharpness = self._search.find(centre_um, half_um)
        # Arriving anew makes what follows independent of how long the search took.
        self._microscope.travel(x_um, y_um)
        return FocusPoint(x, y, z, sharpness)
