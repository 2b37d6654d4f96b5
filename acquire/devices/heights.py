"""Heights of the lens: how near each objective may come, what is away, and how exact z is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plsctl.acquire.errors import UserError

if TYPE_CHECKING:
    from plsctl.acquire.devices.hardware import Hardware
    from plsctl.acquire.devices.hardware_parts import Objective

WAVELENGTH_UM = 0.53
"""Green, in the middle of what the LEDs shine and the camera sees."""

TOLERANCE_SHARE = 0.2
"""z may be off by this share of the depth of field."""

ARRIVAL_UM = 1.0
"""A lens that is so little nearer than asked for still counts as drawn back."""

SIGNS = (
    "Check 'focus_z_um', the objective's 'offset_z_um' and 'turret.retract_direction' in the "
    "hardware file: a wrong sign sends the lens to the wrong side."
)


def depth_of_field_um(objective: Objective) -> float:
    """How far the sample may be from focus before it blurs: wavelength x index / NA^2.

    The wave-optical depth of field (S. Inoue, K. R. Spring: Video Microscopy, 2nd ed., Plenum 1997,
    section 2.5); what the pixels of the camera add to it is left out.
    """
    return WAVELENGTH_UM * objective.refractive_index / objective.na**2


@dataclass(frozen=True)
class ZLimits:
    """Heights, stage micrometres, between which z may be sent, and the field that says so."""

    low_um: float
    high_um: float
    field: str
    whose: str

    def holds(self, z_um: float) -> bool:
        """Whether a height lies inside; NaN does not."""
        return self.low_um <= z_um <= self.high_um

    def nearest(self, z_um: float) -> float:
        """The height inside that is nearest to the given one."""
        return min(max(z_um, self.low_um), self.high_um)


class Heights:
    """What the hardware file says about z.

    An objective that is None is not known: the turret is turned by hand and nobody has been asked.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self.away = -1.0 if hardware.turret.retract_direction == "down" else 1.0
        """The sign of z moves that bring lens and slide apart."""

    def limits(self, objective: str | None) -> ZLimits:
        """The limits under an objective: its own, if it has any, within those of the stage."""
        low, high = self._hardware.stage.z_um
        if objective is None:
            return self._limits_of_all(low, high)
        own = self._hardware.objective(objective).z_um
        if own is None:
            return ZLimits(low, high, "stage.z_um", "the stage's limits")
        field = f"turret.objectives.{objective}.z_um"
        return ZLimits(max(low, own[0]), min(high, own[1]), field, f"the limits of {objective}")

    def _limits_of_all(self, low: float, high: float) -> ZLimits:
        """Towards the slide as near as every objective may come; away from it as the stage can."""
        own = [self.limits(name) for name in self._hardware.turret.objectives]
        if self.away < 0:
            high = min(limits.high_um for limits in own)
        else:
            low = max(limits.low_um for limits in own)
        return ZLimits(low, high, "turret.objectives", "the limits that all objectives share")

    def focus_um(self, objective: str) -> float:
        """Where the hardware file lets focus be expected under an objective."""
        return self._hardware.focus_z_um + self._hardware.objective(objective).offset_z_um

    def drawn_back_um(self, objective: str | None, z_um: float, was_sent: bool = True) -> float:
        """The height to which a lens is drawn back that stands at `z_um`, limits not considered.

        `turret.retract_z_um` from where it stands and from where focus is expected, whichever is
        farther away: what is searched around focus must not end nearer to the slide. Of a lens that
        was not sent where it stands, and is nowhere near focus, only the former is known.
        """
        way_um = self._hardware.turret.retract_z_um
        farthest_um = self._farthest(objective, z_um)
        if not was_sent and abs(z_um - self._farthest(objective)) > way_um:
            farthest_um = z_um
        return farthest_um + self.away * way_um

    def is_beyond(self, objective: str | None, z_um: float) -> bool:
        """Whether a lens at that height would have gone through the slide."""
        past_um = -self.away * (z_um - self._farthest(objective))
        return past_um > self._hardware.turret.retract_z_um

    def _farthest(self, objective: str | None, *others_um: float) -> float:
        names = self._hardware.turret.objectives if objective is None else [objective]
        heights = [*others_um, *(self.focus_um(name) for name in names)]
        return min(heights) if self.away < 0 else max(heights)

    def is_away(self, objective: str | None, z_um: float) -> bool:
        """Whether a lens at that height is `turret.retract_z_um` from where focus is expected."""
        distance_um = self.away * (z_um - self._farthest(objective))
        return distance_um >= self._hardware.turret.retract_z_um - ARRIVAL_UM

    def tolerance_um(self, objective: str | None) -> float:
        """How far z may stop from where it was sent under an objective."""
        if objective is None:
            return self._hardware.stage.tolerance_um
        return TOLERANCE_SHARE * depth_of_field_um(self._hardware.objective(objective))


def check_heights(hardware: Hardware) -> None:
    """`UserError` when limits, offsets and directions of a hardware file contradict each other.

    An objective without limits of its own is not looked at: its file may be older than they are.
    """
    heights = Heights(hardware)
    stage, turret = hardware.stage, hardware.turret
    for name, objective in turret.objectives.items():
        if objective.z_um is None:
            continue
        limits, focus_um = heights.limits(name), heights.focus_um(name)
        low, high = objective.z_um
        towards_um, stage_um = (high, stage.z_um[1]) if heights.away < 0 else (low, stage.z_um[0])
        if not limits.low_um < limits.high_um or heights.away * (towards_um - stage_um) < 0:
            raise _wrong(
                hardware,
                limits.field,
                f"the limits of {name} are [{low:g}, {high:g}] and must be [low, high], µm, within "
                f"stage.z_um ({stage.z_um[0]:g} to {stage.z_um[1]:g} µm).",
                "Correct them, or stage.z_um.",
            )
        if not limits.holds(focus_um):
            raise _wrong(
                hardware,
                f"turret.objectives.{name}.offset_z_um",
                f"focus under {name} is expected at z = {focus_um:g} µm (focus_z_um "
                f"{hardware.focus_z_um:g}, offset_z_um {objective.offset_z_um:g}), outside its "
                f"limits ({limits.low_um:g} to {limits.high_um:g} µm).",
                SIGNS,
            )
        # Where it is the stage that has no room, that is told when the room is needed.
        drawn_back_um = heights.drawn_back_um(name, focus_um)
        if not low <= drawn_back_um <= high:
            raise _wrong(
                hardware,
                limits.field,
                f"{name} is drawn back {turret.retract_direction} by {turret.retract_z_um:g} µm "
                f"from focus to z = {drawn_back_um:g} µm, outside its limits ({low:g} to {high:g} "
                "µm).",
                "Widen them on that side, or correct 'turret.retract_z_um' or "
                "'turret.retract_direction'.",
            )
    _check_loading(hardware, heights)


def _check_loading(hardware: Hardware, heights: Heights) -> None:
    loading, stage = hardware.stage.loading_um, hardware.stage
    if loading is None:
        return
    for axis, value, (low, high) in zip(
        "xyz", loading, (stage.x_um, stage.y_um, stage.z_um), strict=False
    ):
        if not low <= value <= high:
            raise _wrong(
                hardware,
                "stage.loading_um",
                f"the loading position has {axis} = {value:g} µm, outside the stage's limits "
                f"({low:g} to {high:g} µm).",
                "It is [x, y] or [x, y, z], stage micrometres.",
            )
    for name in hardware.turret.objectives:
        limits = heights.limits(name)
        if len(loading) == 3 and not (
            limits.holds(loading[2]) and heights.is_away(name, loading[2])
        ):
            raise _wrong(
                hardware,
                "stage.loading_um",
                f"the loading position has z = {loading[2]:g} µm, where {name} is not drawn back "
                f"by {hardware.turret.retract_z_um:g} µm from focus at {heights.focus_um(name):g} "
                f"µm, or is outside {limits.whose} ({limits.low_um:g} to {limits.high_um:g} µm).",
                "Write a height farther from the slide, or leave z out: the lens is drawn back "
                "then.",
            )


def _wrong(hardware: Hardware, field: str, message: str, hint: str) -> UserError:
    return UserError(message, file=hardware.file, field=field, hint=hint)
