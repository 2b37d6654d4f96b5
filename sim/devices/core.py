"""The Micro-Manager core with the simulated camera's readout in it."""

from __future__ import annotations

from typing import Any

from pymmcore_plus.experimental.unicore import UniMMCore

from plsctl.acquire.devices.micromanager import searching_quietly
from plsctl.sim.devices.camera import SimulatedCamera


class SimulatedCore(UniMMCore):
    """Python devices load into it; `snapImage` ends with the exposure, `getImage` with the readout.

    So do the C++ adapters; the core for Python devices knows no readout of its own.
    """

    def __init__(self, camera: SimulatedCamera) -> None:
        with searching_quietly():
            super().__init__()
        self._camera = camera

    def getImage(self, *args: Any, **options: Any) -> Any:
        self._camera.wait_for_readout()
        return super().getImage(*args, **options)

    def _do_stop_sequence_acquisition(self, cameraLabel: str) -> None:
        # The core ends its thread only after another image, and does not tell the camera.
        self._camera.abort()
        super()._do_stop_sequence_acquisition(cameraLabel)
