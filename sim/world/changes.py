"""What has become of the instrument since it was described, as faults have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plsctl.sim.faults import FaultCounter


@dataclass(frozen=True)
class Changes:
    """What is different at an exposure.

    Parameters
    ----------
    light_factor
        What a step has made of all light.
    dimmed
        What is left of the light of LEDs that have dimmed.
    turned_deg
        By how much the camera has been turned.
    jumped_um
        By how much the slide has come to lie higher.
    """

    light_factor: float = 1.0
    dimmed: Mapping[int, float] = field(default_factory=dict)
    turned_deg: float = 0.0
    jumped_um: float = 0.0

    @classmethod
    def now(cls, faults: FaultCounter) -> Changes:
        """Those of an exposure that begins now; it counts as an occasion."""
        step, dims = faults.now("light_steps"), faults.now("led_dims")
        turns, jumps = faults.now("camera_turns"), faults.now("focus_jumps")
        return cls(
            light_factor=1.0 if step is None else step.factor,
            dimmed={} if dims is None or dims.led is None else {dims.led: dims.factor},
            turned_deg=0.0 if turns is None else turns.amount,
            jumped_um=0.0 if jumps is None else jumps.amount,
        )
