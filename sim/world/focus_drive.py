"""The simulated focus drive: it takes time to move, and can be looked at on its way."""

from __future__ import annotations

from plsctl.sim.world.clock import WorldClock

USUAL_UM_PER_S = 1000.0

SETTLE_S = 0.01
"""Time after a move in which the drive is still busy."""


class FocusDrive:
    """A drive that moves at constant speed from where it is to where it was sent last."""

    def __init__(self, clock: WorldClock, z_um: float) -> None:
        self._clock = clock
        self.speed_um_per_s = USUAL_UM_PER_S
        """Of the moves that begin from now on."""
        self.put(z_um)

    def put(self, z_um: float) -> None:
        """Stand at a height at once."""
        self._from_um = self._to_um = z_um
        self._began_s = self._arrives_s = self._ready_s = self._clock.now()

    def start(self, z_um: float) -> None:
        """Begin to move to a height, from wherever the drive is."""
        now = self._clock.now()
        self._from_um, self._to_um = self.z_um(), z_um
        self._began_s = now
        self._arrives_s = now + abs(z_um - self._from_um) / self.speed_um_per_s
        self._ready_s = self._arrives_s + SETTLE_S

    def stop(self) -> None:
        """Stay where it is now."""
        if self.moves:
            self.put(self.z_um())

    def wait(self) -> None:
        """Let the time pass until it has arrived."""
        self._clock.sleep(self._ready_s - self._clock.now())

    @property
    def moves(self) -> bool:
        """Whether it is on its way."""
        return self._clock.now() < self._arrives_s

    def z_um(self, after_s: float = 0.0) -> float:
        """Where it is so many seconds from now."""
        left_s = self._arrives_s - self._clock.now() - after_s
        if left_s <= 0:
            return self._to_um
        share = left_s / (self._arrives_s - self._began_s)
        return self._to_um + share * (self._from_um - self._to_um)
