"""The simulated devices as the Micro-Manager core sees them: thin wrappers around the world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import (
    CameraDevice,
    StageDevice,
    StateDevice,
    XYStageDevice,
)

from plsctl.sim.world import World

GetBuffer = Callable[[Sequence[int], DTypeLike], NDArray[np.uint8 | np.uint16]]


class SimulatedCamera(CameraDevice):
    """Global-shutter camera; what it sees is the world's."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._exposure_ms = 10.0
        self._gain = 1.0
        camera = world.hardware.camera
        self.set_property_limits("Exposure", camera.exposure_range_ms)
        self.set_property_limits("Gain", camera.gain_range)

    def get_exposure(self) -> float:
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        self._exposure_ms = exposure

    def get_gain(self) -> float:
        return self._gain

    def set_gain(self, gain: float) -> None:
        self._gain = float(gain)

    def shape(self) -> tuple[int, int] | tuple[int, int, int]:
        width, height = self._world.hardware.camera.size_px
        return (height, width) if self._world.hardware.camera.bayer else (height, width, 3)

    def dtype(self) -> DTypeLike:
        return np.uint8 if self._world.hardware.camera.bit_depth == 8 else np.uint16

    def start_sequence(
        self, n: int | None, get_buffer: GetBuffer
    ) -> Iterator[Mapping[str, object]]:
        taken = 0
        while n is None or taken < n:
            image = get_buffer(self.shape(), self.dtype())
            image[:] = self._world.expose(self._exposure_ms, self._gain)
            taken += 1
            yield {}

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """The sensor is always read whole."""

    def clear_roi(self) -> None:
        """The sensor is always read whole."""


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
    """Focus drive."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def set_position_um(self, val: float) -> None:
        low, high = self._world.hardware.stage.z_um
        if not low <= val <= high:
            raise ValueError(f"the focus drive's end switch stopped the move to {val:g} um")
        self._world.move_z(val)

    def get_position_um(self) -> float:
        return self._world.z_um

    def home(self) -> None:
        self.set_position_um(self._world.hardware.stage.z_um[0])

    def stop(self) -> None:
        """Moves end before the call returns; there is nothing to stop."""

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
