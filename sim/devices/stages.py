"""The simulated devices as the Micro-Manager core sees them: thin wrappers around the world."""

from __future__ import annotations

from pymmcore_plus.experimental.unicore import (
    StageDevice,
    StateDevice,
    XYStageDevice,
    pymm_property,
)

from plsctl.sim.world.world import World


class SimulatedXYStage(XYStageDevice):
    """XY stage with travel time, backlash and limited repeatability."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def set_position_um(self, x: float, y: float) -> None:
        stage = self._world.hardware.stage
        for value, (low, high) in ((x, stage.x_um), (y, stage.y_um)):
            if not low <= value <= high:
                raise ValueError(f"the stage's end switch stopped the move to ({x:g}, {y:g}) um")
        if self._world.faults.now("stage_error"):
            raise RuntimeError("the stage's controller does not answer")
        self._world.move_xy(x, y)

    def get_position_um(self) -> tuple[float, float]:
        return self._world.commanded_um

    def home(self) -> None:
        self.set_position_um(0.0, 0.0)

    def stop(self) -> None:
        """Moves end before the call returns; there is nothing to stop."""

    def set_origin_x(self) -> None:
        """The origin is the stage's corner and stays there."""

    def set_origin_y(self) -> None:
        """The origin is the stage's corner and stays there."""


class SimulatedZStage(StageDevice):
    """Focus drive, with a property for its speed; its place can be read while it moves."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def set_position_um(self, val: float) -> None:
        low, high = self._world.hardware.stage.z_um
        if not low <= val <= high:
            raise ValueError(f"the focus drive's end switch stopped the move to {val:g} um")
        self._world.start_z(val)

    def get_position_um(self) -> float:
        return self._world.z_um

    def busy(self) -> bool:
        """Whoever asks, waits: on a clock that jumps nobody else lets the time pass."""
        self._world.drive.wait()
        return False

    @pymm_property(property_type=float, limits=(1.0, 2000.0), name="Speed")
    def speed(self) -> float:
        return self._world.drive.speed_um_per_s

    @speed.setter
    def _set_speed(self, um_per_s: float) -> None:
        self._world.drive.speed_um_per_s = um_per_s

    def home(self) -> None:
        hardware = self._world.hardware
        is_down = hardware.turret.retract_direction == "down"
        self.set_position_um(hardware.stage.z_um[0 if is_down else 1])

    def stop(self) -> None:
        self._world.drive.stop()

    def set_origin(self) -> None:
        """The origin is the drive's lower end and stays there."""


class SimulatedTurret(StateDevice):
    """Objective turret."""

    def __init__(self, world: World) -> None:
        objectives = world.hardware.turret.objectives.values()
        self._world = world
        self._labels = [str(objective.label) for objective in objectives]
        super().__init__(dict(enumerate(self._labels)))

    def get_state(self) -> int:
        return self._labels.index(str(self._world.objective.label))

    def set_state(self, position: int) -> None:
        self._world.turn_to(self._labels[position])

    def _set_state(self, state: int) -> None:
        # The base class sets the label, which sets the state, and so on while the turret sticks.
        self.set_state(state)
